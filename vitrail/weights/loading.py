"""From a weight file, or tensors, to a classifier.  Every tensor is used, or dropped or replaced by a named rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vitrail.errors import UsageError, WeightsError, nearest
from vitrail.formats import read_tensors
from vitrail.formats.stored import DTYPES, Stored, Tensors
from vitrail.models import build
from vitrail.models.catalog import VARIANTS, variant
from vitrail.models.classifier import Classifier
from vitrail.models.configs import ModelConfig, family_of
from vitrail.models.count import shapes
from vitrail.pictures.policy import HALF, Policy
from vitrail.weights.detect import Detection, detect, distance_from_sine, positions_of
from vitrail.weights.dialects import DIALECTS, dialect_of
from vitrail.weights.fit import check
from vitrail.weights.rules import Dialect, read, to_native
from vitrail.weights.saved import from_metadata
from vitrail.weights.tensors import check_numbers, filled, stored_of

Head = Literal["auto", "zero", "keep"]
HEAD = ("classifier.fc.weight", "classifier.fc.bias")


@dataclass(frozen=True)
class Loaded:
    """A classifier and a line for everything that was found, dropped, replaced or assumed on the way."""

    classifier: Classifier
    report: tuple[str, ...]


def load(
    path: str | Path,
    *,
    model: str | ModelConfig | None = None,
    dialect: str | None = None,
    classes: int | tuple[str, ...] | None = None,
    head: Head = "auto",
) -> Loaded:
    """The classifier in a weight file.

    model: a variant's name or a config; None to detect it. dialect: None to detect it. classes: names, or how many.
    head: `auto` makes a new zero head when `classes` is given and the file has another number; `zero` always; `keep`
    never. WeightsError V201 damaged file or NaN, V203 no such variant, V204 tensors that do not fit, V205 tensors
    that nothing explains, V206 unknown format.
    """
    tensors, metadata, notes = read_tensors(Path(path))
    loaded = _loaded(
        _Asked(model, dialect, classes, head), tensors, metadata, where=str(path), provenance={"file": Path(path).name}
    )
    return Loaded(loaded.classifier, (*notes, *loaded.report))


def from_tensors(
    tensors: Mapping[str, NDArray[np.generic] | Tensor | Stored],
    model: str | ModelConfig,
    *,
    dialect: str | None = None,
    classes: int | tuple[str, ...] | None = None,
) -> Classifier:
    """The classifier of named arrays or torch tensors, in their own type; arguments and errors as `load`.

    >>> from vitrail.models import build
    >>> tensors = build(variant("cct_2_3x2_32").config).state_dict()
    >>> from_tensors(tensors, "cct_2_3x2_32").config.depth
    2
    """
    asked = _Asked(model, dialect, classes, "auto")
    return _loaded(asked, stored_of(tensors), {}, where="tensors", provenance={}).classifier


@dataclass(frozen=True)
class _Asked:
    model: str | ModelConfig | None
    dialect: str | None
    classes: int | tuple[str, ...] | None
    head: Head

    def __post_init__(self) -> None:
        if self.head not in get_args(Head):
            raise UsageError("V007", f"head `{self.head}` is unknown", hint=nearest(self.head, get_args(Head)))
        if self.count is not None and self.count < 1:
            raise UsageError("V007", f"classes {self.count} is below 1", hint="give names, or a number above 0")

    @property
    def count(self) -> int | None:
        return len(self.classes) if isinstance(self.classes, tuple) else self.classes


def _loaded(
    asked: _Asked, tensors: Tensors, metadata: Mapping[str, str], *, where: str, provenance: Mapping[str, object]
) -> Loaded:
    found = _identify(asked, tensors, metadata)
    dialect = DIALECTS[found.dialect]
    native = to_native(dialect, tensors)
    report = [*found.evidence]
    if not found.evidence:
        report += [f"dialect {dialect.name}, {len(native)} tensors", *read(dialect, tensors).dropped]
    check_numbers(native, where)
    config, native, lines = _with_head(asked, found.config, native)
    report += lines
    check(native, shapes(config), _named(found), hint=_hint(tensors, metadata))
    _check_sine(config, native)
    policy, assumed = _policy(found, config)
    report += assumed
    names = _names(asked, found, config.classes)
    source = {"weights": "trained", "variant": found.variant, "dialect": dialect.name, **provenance}
    module = filled(build(config, device="meta"), native)
    return Loaded(Classifier(module, config, policy, names, source), tuple(report))


def _identify(asked: _Asked, tensors: Tensors, metadata: Mapping[str, str]) -> Detection:
    """What the tensors are held to be: as detected, or as asked for."""
    if asked.model is None:
        found = detect(tensors, metadata)
        if asked.dialect is None or dialect_of(asked.dialect, family_of(found.config)).name == found.dialect:
            return found
        raise WeightsError(
            "V205", f"the tensors are of dialect `{found.dialect}`, not `{asked.dialect}`",
            evidence=found.evidence, hint="leave the dialect out, or name the model as well",
        )  # fmt: skip
    row = variant(asked.model) if isinstance(asked.model, str) else None
    config = row.config if row else asked.model
    assert not isinstance(config, str)
    if problems := config.problems():
        raise UsageError("V007", "no network can be built from the config", evidence=problems)
    dialect = _dialect(asked.dialect, family_of(config), tensors)
    saved = from_metadata(metadata)
    return Detection(
        dialect=dialect.name,
        variant=row.name if row else None,
        config=config,
        evidence=(),
        policy=saved.policy if saved and saved.config.channels == config.channels else None,
        classes=saved.classes if saved else None,
    )


def _dialect(name: str | None, family: str, tensors: Tensors) -> Dialect:
    """The named dialect, or the one of the family that leaves the fewest tensors unexplained."""
    if name is not None:
        return dialect_of(name, family)
    own = [dialect for dialect in DIALECTS.values() if dialect.family == family]
    left = {dialect.name: len(read(dialect, tensors).unexplained) for dialect in own}
    best = [dialect for dialect in own if left[dialect.name] == min(left.values())]
    if len(best) > 1:
        raise WeightsError(
            "V205", f"{len(best)} dialects explain the tensors equally well",
            evidence=[dialect.name for dialect in best], hint="name one: `dialect=...`",
        )  # fmt: skip
    return best[0]


def _with_head(asked: _Asked, config: ModelConfig, native: Tensors) -> tuple[ModelConfig, Tensors, list[str]]:
    """The wanted number of classes, and a zero head where one is asked for."""
    wanted = config.classes if asked.count is None else asked.count
    config = replace(config, classes=wanted)
    weight = native.get(HEAD[0])
    there = weight.shape[0] if weight is not None and weight.shape else None
    fresh = asked.head == "zero" or (asked.head == "auto" and asked.count is not None and there != wanted)
    if not fresh or weight is None:
        return config, native, []
    zeros = {name: _zeros(weight.dtype, shapes(config)[name]) for name in HEAD}
    return config, native | zeros, [f"head replaced by zeros: the file has {there} classes, wanted are {wanted}"]


def _zeros(dtype: str, shape: tuple[int, ...]) -> Stored:
    return Stored(dtype, shape, bytes(prod(shape) * DTYPES[dtype][0]))


def _check_sine(config: ModelConfig, native: Tensors) -> None:
    """A model with fixed positions takes no learned table for them."""
    table = native.get("classifier.positional_emb")
    if config.positions == "sine" and table is not None and positions_of(table) != "sine":
        raise WeightsError(
            "V204",
            "the model has the fixed sine table, the file another one",
            evidence=[f"classifier.positional_emb differs from the sine table by {distance_from_sine(table):.3g}"],
            hint="open it as the variant without `_sine`: its positions were learned",
        )


def _named(found: Detection) -> str:
    return f"`{found.variant}`" if found.variant else f"the {family_of(found.config)} config"


def _hint(tensors: Tensors, metadata: Mapping[str, str]) -> str:
    """What would fit, if anything does."""
    try:
        found = detect(tensors, metadata)
    except WeightsError:
        return "no variant fits the file as it stands"
    height, width = found.config.image_size
    count = found.config.classes
    row = VARIANTS.get(found.variant or "")
    way = "open it without naming a model"
    if row is not None and replace(found.config, classes=row.config.classes) == row.config:
        way = f"open it as `{row.name}`" + (f" with `--classes {count}`" if count != row.config.classes else "")
    return f"trained at {height} x {width} with {count} classes; {way}"


def _policy(found: Detection, config: ModelConfig) -> tuple[Policy, list[str]]:
    """The file's own policy, else the variant's, else a plain one; what was assumed is said."""
    if found.policy is not None:
        return replace(found.policy, size=config.image_size), []
    row = VARIANTS.get(found.variant or "")
    if row is not None and row.policy.channels == config.channels:
        return replace(row.policy, size=config.image_size), []
    count = config.channels
    policy = Policy(size=config.image_size, mean=HALF.mean[:1] * count, std=HALF.std[:1] * count)
    return policy, ["policy assumed, the file states none: bicubic, whole picture, mean 0.5, std 0.5"]


def _names(asked: _Asked, found: Detection, count: int) -> tuple[str, ...]:
    if isinstance(asked.classes, tuple):
        return asked.classes
    if found.classes is not None and len(found.classes) == count:
        return found.classes
    return tuple(f"class_{i}" for i in range(count))
