"""The short texts that name an automatic augmentation, as timm writes them: `rand-m9-mstd0.5-inc1` and its kin.

Parsed without NumPy, so that recipes are checked cold. Unknown, doubled and empty sections are refused where timm
passes over some of them in silence. Of timm 1.0.31: `inc0` is off; a spread above 100 stands for a uniform magnitude.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from vitrail.data.augment.policies import AUGMIX_OPERATIONS, OPERATION_SETS, POLICIES, Subpolicy
from vitrail.errors import nearest


@dataclass(frozen=True)
class RandAugment:
    """`count` operations a picture (arXiv 1909.13719), drawn with replacement, or by weight without; each is then done
    with `probability` at a magnitude drawn around `magnitude`.

    spread: standard deviation of the magnitude; inf: uniform from 0 to `magnitude`. It is cut to 0 to `most`.
    """

    operations: tuple[str, ...]
    weights: tuple[float, ...] | None = None
    count: int = 2
    probability: float = 0.5
    magnitude: int = 10
    spread: float = 0.0
    most: int = 10


@dataclass(frozen=True)
class AutoAugment:
    """One of a list of sub-policies a picture (arXiv 1805.09501), each operation with its own probability."""

    policies: tuple[Subpolicy, ...]
    spread: float = 0.0
    most: int = 10


@dataclass(frozen=True)
class AugMix:
    """`width` chains of operations, mixed with each other and the picture (arXiv 1912.02781).

    depth: operations in a chain; None: 1 to 3 by draw. blended: each chain blended in turn, not their sum.
    """

    operations: tuple[str, ...]
    magnitude: int = 3
    width: int = 3
    depth: int | None = None
    alpha: float = 1.0
    blended: bool = False
    spread: float = math.inf
    most: int = 10


Auto = RandAugment | AutoAugment | AugMix
FAMILIES = ("rand", "augmix", *POLICIES)
NAMED_SETS = ("weights", "3a", "3aw")  # the other two are told apart by `inc`

# key -> (whole number, least, most); `t` of `rand` takes a name
_RAND = {
    "m": (True, 0, 100), "n": (True, 1, 16), "p": (False, 0, 1), "mstd": (False, 0, math.inf),
    "mmax": (True, 1, 100), "inc": (True, 0, 1),
}  # fmt: skip
_AUGMIX = {
    "m": (True, 0, 100), "w": (True, 1, 16), "d": (True, 1, 16), "a": (False, 1e-3, 1000), "b": (True, 0, 1),
    "mstd": (False, 0, math.inf),
}  # fmt: skip
_AUTO = {"mstd": (False, 0, math.inf)}


def parse(text: str) -> Auto:
    """What a text stands for; ValueError says what is wrong with it.

    >>> parse("rand-m9-n3-mstd0.5").count
    3
    """
    family, *sections = text.split("-")
    if family == "rand":
        return _rand(sections)
    if family == "augmix":
        return _augmix(sections)
    if family in POLICIES:
        return AutoAugment(POLICIES[family], spread=_numbers(sections, _AUTO).get("mstd", 0.0))
    raise ValueError(f"`{family}` names no augmentation; {_near(family, FAMILIES)}")


def is_three_augment(text: str) -> bool:
    """Whether a text names 3-Augment (arXiv 2204.07118), beside which colour jitter stays on.

    >>> is_three_augment("3a"), is_three_augment("rand-m9-t3aw"), is_three_augment("rand-m9")
    (True, True, False)
    """
    return "3a" in text


def _rand(sections: list[str]) -> RandAugment:
    named = [section[1:] for section in sections if section.startswith("t")]
    if len(named) > 1:
        raise ValueError("`t` stands twice")
    values = _numbers([section for section in sections if not section.startswith("t")], _RAND, also=("t",))
    name = named[0] if named else "increasing" if values.get("inc") else "plain"
    if named and name not in NAMED_SETS:
        raise ValueError(f"`t{name}` names no set of operations; {_near(name, NAMED_SETS)}")
    chosen = OPERATION_SETS[name]
    spread = values.get("mstd", 0.0)
    found = RandAugment(
        operations=tuple(chosen),
        weights=tuple(chosen.values()) if isinstance(chosen, Mapping) else None,
        count=int(values.get("n", 2)),
        probability=values.get("p", 0.5),
        magnitude=int(values.get("m", 10)),
        spread=math.inf if spread > 100 else spread,
        most=int(values.get("mmax", 10)),
    )
    if found.weights and found.count > len(found.weights):
        raise ValueError(f"`n{found.count}` asks for more operations than `t{name}` has, {len(found.weights)}")
    return found


def _augmix(sections: list[str]) -> AugMix:
    values = _numbers(sections, _AUGMIX)
    return AugMix(
        operations=AUGMIX_OPERATIONS,
        magnitude=int(values.get("m", 3)),
        width=int(values.get("w", 3)),
        depth=int(values["d"]) if "d" in values else None,
        alpha=values.get("a", 1.0),
        blended=bool(values.get("b", 0)),
        spread=values.get("mstd", math.inf),
    )


def _numbers(
    sections: list[str], keys: Mapping[str, tuple[bool, float, float]], also: tuple[str, ...] = ()
) -> dict[str, float]:
    found: dict[str, float] = {}
    for section in sections:
        match = re.fullmatch(r"([A-Za-z_]*)(.*)", section)
        assert match is not None
        key, number = match.groups()
        if key not in keys:
            raise ValueError(f"`{section}` is no key with a number; {_near(key, [*keys, *also])}")
        whole, least, most = keys[key]
        if not re.fullmatch(r"\d+" if whole else r"\d+(\.\d*)?", number):
            raise ValueError(f"`{section}` must be {key} and a {'whole ' if whole else ''}number")
        if not least <= float(number) <= most:
            raise ValueError(f"`{section}` must lie in {key}{least:g} to {key}{most:g}")
        if key in found:
            raise ValueError(f"`{key}` stands twice")
        found[key] = float(number)
    return found


def _near(word: str, known: Mapping[str, object] | tuple[str, ...] | list[str]) -> str:
    return nearest(word, known) or f"known: {', '.join(known)}"
