"""What becomes of the last layer when the classes are others: kept, put into another order by name, cut, or zeros."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

from vitrail.errors import WeightsError
from vitrail.formats.stored import DTYPES, Stored, Tensors
from vitrail.models.configs import CCTConfig, ModelConfig, ViTConfig
from vitrail.models.count import shapes

Head = Literal["auto", "zero", "first-k", "keep"]


def head_names(config: ModelConfig) -> tuple[str, ...]:
    """The tensors of the last layer, weight and bias, of a distilled network twice."""
    if isinstance(config, CCTConfig):
        return "classifier.fc.weight", "classifier.fc.bias"
    own = ("head.weight", "head.bias")
    return (*own, "head_dist.weight", "head_dist.bias") if isinstance(config, ViTConfig) and config.distilled else own


def head_rows(native: Tensors, config: ModelConfig) -> int | None:
    """For how many classes the head is that lies in the tensors; None where they have no whole one."""
    there = [native[name].shape[0] for name in head_names(config) if name in native and native[name].shape]
    return there[0] if len(there) == len(head_names(config)) else None


def zeroed(native: Tensors, config: ModelConfig) -> Tensors:
    """The tensors with a head of zeros for the config's classes, in the type of the others."""
    wanted = shapes(config)
    kind = next(iter(native.values())).dtype
    made = {
        name: Stored(kind, wanted[name], bytes(prod(wanted[name]) * DTYPES[kind][0])) for name in head_names(config)
    }
    return native | made


def without(native: Tensors, config: ModelConfig) -> Tensors:
    """The tensors without a head."""
    return {name: tensor for name, tensor in native.items() if name not in head_names(config)}


def first_rows(native: Tensors, config: ModelConfig) -> tuple[Tensors, list[str]]:
    """The head cut to its first rows, one for each class of the config; WeightsError V204 when it has fewer."""
    have, want = head_rows(native, config), config.classes
    if have is None or have < want:
        raise WeightsError(
            "V204",
            f"the head has {have or 'no'} rows, wanted are the first {want}",
            hint="`--head zero` makes a new head",
        )
    line = f"head cut to the first {want} of its {have} rows"
    return native | {name: _rows(native[name], range(want)) for name in head_names(config)}, [line]


def by_name(
    native: Tensors, config: ModelConfig, *, have: Sequence[str], want: Sequence[str], head: Head
) -> tuple[Tensors, list[str]]:
    """The tensors with a head for the classes `want`, from one for `have`; and what was done, a line unless nothing.

    The same names in another order: the rows are put into that order. Other names: zeros, or WeightsError V204 under
    `keep`; under `first-k` the rows of names that are there, or else the first ones. A name that stands twice says
    nothing of its rows, so that only the very same order keeps them.
    """
    # tuples, for a list never equals one
    have, want = tuple(have), tuple(want)
    same = have == want or (len(set(have)) == len(have) == len(want) and set(have) == set(want))
    if head == "keep" and not same:
        raise WeightsError(
            "V204",
            f"the weights are of other classes: {len(have)}, wanted are {len(want)}",
            evidence=_differing(have, want),
            hint='`weights.head=zero` (in Python `head="zero"`) makes a new head',
        )
    if head == "first-k" and not (set(want) <= set(have) and len(set(have)) == len(have)):
        return first_rows(native, config)
    same = same or head == "first-k"
    if head == "zero" or not same:
        why = "as asked" if same else "; ".join(_differing(have, want))
        line = f"head replaced by zeros: the weights have {len(have)} classes, wanted are {len(want)} ({why})"
        return zeroed(native, config), [line]
    if have == want:
        return native, []
    order = [have.index(name) for name in want]
    moved = sum(old != new for new, old in enumerate(order))
    line = f"head rows put into the wanted class order by name: {moved} of {len(want)} moved"
    return native | {name: _rows(native[name], order) for name in head_names(config)}, [line]


def _differing(have: Sequence[str], want: Sequence[str]) -> list[str]:
    """Up to five names on each side that the other lacks."""
    out = []
    for where, one, other in (("only in the weights", have, set(want)), ("only wanted", want, set(have))):
        names = [name for name in one if name not in other]
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            out.append(f"{where}: {', '.join(names[:5])}{more}")
    return out or ["a name stands twice"]


def _rows(stored: Stored, order: Sequence[int]) -> Stored:
    """The rows of a tensor in another order, bit for bit in any type."""
    width = stored.nbytes // stored.shape[0]
    data = memoryview(stored.data)
    joined = b"".join(data[i * width : (i + 1) * width] for i in order)
    return Stored(stored.dtype, (len(order), *stored.shape[1:]), joined)
