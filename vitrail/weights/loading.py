"""From a weight file, or tensors, to a classifier.  Every tensor is used, or dropped or replaced by a named rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vitrail.errors import UsageError, WeightsError, nearest
from vitrail.formats import read_tensors
from vitrail.formats.stored import Stored, Tensors
from vitrail.models import build
from vitrail.models.catalog import VARIANTS, Variant, variant
from vitrail.models.classifier import Classifier
from vitrail.models.configs import ModelConfig, config_to_json, family_of
from vitrail.models.count import shapes
from vitrail.pictures.policy import HALF, Policy
from vitrail.weights.detect import Detection, detect, distance_from_sine, positions_of
from vitrail.weights.dialects import DIALECTS, dialect_of
from vitrail.weights.fit import check
from vitrail.weights.heads import HEAD, Head, by_name, zeroed
from vitrail.weights.names import numbered, placeholders
from vitrail.weights.rules import Dialect, read, to_native
from vitrail.weights.saved import Saved, from_metadata
from vitrail.weights.tensors import check_numbers, filled, native_tensors, stored_of

# what acts in training only: networks that differ in nothing else have the same tensors and give the same answers
NOISE = ("dropout", "attention_dropout", "drop_path")


@dataclass(frozen=True)
class Loaded:
    """A classifier and a line for everything that was found, dropped, replaced or assumed on the way.

    policy_stated: whether the policy came with the weights; otherwise it is that of a variant, or assumed.
    """

    classifier: Classifier
    report: tuple[str, ...]
    policy_stated: bool


def load(
    path: str | Path,
    *,
    model: str | ModelConfig | None = None,
    dialect: str | None = None,
    classes: int | Sequence[str] | None = None,
    head: Head = "auto",
) -> Loaded:
    """The classifier in a weight file.

    model: a variant's name or a config; None to detect it. dialect: None to detect it. classes: names, or how many.
    head: `auto` makes a new zero head when `classes` is given and the file has another number, or states other names;
    `zero` always; `keep` never. Where the file states the names, they decide which row is whose.

    WeightsError V201 damaged file or NaN, V203 no such variant, V204 tensors that do not fit, V205 tensors that
    nothing explains, V206 unknown format.
    """
    tensors, metadata, notes = read_tensors(Path(path))
    asked = _Asked(model, dialect, _names_or_number(classes), head)
    loaded = _loaded(asked, tensors, metadata, where=str(path), provenance={"file": Path(path).name})
    return replace(loaded, report=(*notes, *loaded.report))


def from_tensors(
    tensors: Mapping[str, NDArray[np.generic] | Tensor | Stored],
    model: str | ModelConfig,
    *,
    dialect: str | None = None,
    classes: int | Sequence[str] | None = None,
) -> Classifier:
    """The classifier of named arrays or torch tensors, in their own type; arguments and errors as `load`.

    >>> from vitrail.models import build
    >>> tensors = build(variant("cct_2_3x2_32").config).state_dict()
    >>> from_tensors(tensors, "cct_2_3x2_32").config.depth
    2
    """
    asked = _Asked(model, dialect, _names_or_number(classes), "auto")
    return _loaded(asked, stored_of(tensors), {}, where="tensors", provenance={}).classifier


def adopt(classifier: Classifier, config: ModelConfig, *, classes: tuple[str, ...], head: Head = "auto") -> Loaded:
    """A new network of `config` with an opened classifier's weights, in their type: where further training starts.

    The config may differ from the classifier's in classes and in the noise of training. The head is kept when the
    class names are the same; in another order its rows follow the names; for other names it becomes zeros. head:
    `zero` makes zeros in any case, `keep` refuses to. Policy and provenance are the classifier's; the classifier
    itself is left as it is. WeightsError V204 for another network or, under `keep`, other classes; V201 for NaN.
    """
    _check_head(head)
    if config.classes != len(classes):
        raise UsageError("V007", f"{len(classes)} class names for a config of {config.classes} classes")
    own, wanted = structure(classifier.config), structure(config)
    differing = [name for name in {**own, **wanted} if own.get(name) != wanted.get(name)]
    if differing:
        raise WeightsError(
            "V204",
            "the weights are of another network than the one to train",
            evidence=[f"{name}  weights {own.get(name)}  wanted {wanted.get(name)}" for name in differing],
            hint="train the variant that the weights are of, with its settings under `model`",
        )
    native = native_tensors(classifier.module)
    check_numbers(native, "the weights to start from")
    native, report = by_name(native, config, have=classifier.classes, want=classes, head=head)
    module = filled(build(config, device="meta"), native)
    taken = Classifier(module, config, classifier.policy, classes, classifier.provenance)
    return Loaded(taken, (f"{len(native)} tensors taken over", *report), policy_stated=True)


def structure(config: ModelConfig) -> dict[str, object]:
    """What makes the network, but for its number of classes: every field that is no noise, and the family."""
    return {name: value for name, value in config_to_json(config).items() if name not in (*NOISE, "classes")}


@dataclass(frozen=True)
class _Asked:
    model: str | ModelConfig | None
    dialect: str | None
    classes: int | tuple[str, ...] | None
    head: Head

    def __post_init__(self) -> None:
        _check_head(self.head)
        if self.count is not None and self.count < 1:
            raise UsageError("V007", f"classes {self.count} is below 1", hint="give names, or a number above 0")

    @property
    def count(self) -> int | None:
        return len(self.classes) if isinstance(self.classes, tuple) else self.classes


def _check_head(head: str) -> None:
    if head not in get_args(Head):
        raise UsageError("V007", f"head `{head}` is unknown", hint=nearest(head, get_args(Head)))


def _names_or_number(classes: object) -> int | tuple[str, ...] | None:
    """What was given as `classes`, any sequence of names as a tuple; UsageError V007 for anything else."""
    if classes is None or (isinstance(classes, int) and not isinstance(classes, bool)):
        return classes
    if isinstance(classes, Sequence) and not isinstance(classes, str):
        names = tuple(name for name in classes if isinstance(name, str))
        if len(names) == len(classes):
            return names
    raise UsageError(
        "V007", f"classes {classes!r:.80} is no sequence of names", hint='give ["cat", "dog"], or how many: 2'
    )


def _loaded(
    asked: _Asked, tensors: Tensors, metadata: Mapping[str, str], *, where: str, provenance: Mapping[str, object]
) -> Loaded:
    found = _identify(asked, tensors, metadata)
    dialect = DIALECTS[found.dialect]
    native = to_native(dialect, tensors)
    report = [*found.evidence]
    check_numbers(native, where)
    rows = _head_rows(native)
    config, native, lines = _with_head(asked, found, native)
    report += lines
    check(native, shapes(config), _named(found), hint=_hint(tensors, metadata))
    _check_sine(config, native)
    policy, assumed = _policy(found, config, rows)
    report += assumed
    names = _names(asked, found, config.classes)
    source = {"weights": "trained", "variant": found.variant, "dialect": dialect.name, **provenance}
    module = filled(build(config, device="meta"), native)
    return Loaded(Classifier(module, config, policy, names, source), tuple(report), found.policy is not None)


def _identify(asked: _Asked, tensors: Tensors, metadata: Mapping[str, str]) -> Detection:
    """What the tensors are held to be: as detected, or as asked for."""
    if asked.model is None:
        found = detect(tensors, metadata)
        if asked.dialect is None or dialect_of(asked.dialect, family_of(found.config)).name == found.dialect:
            return found
        raise WeightsError(
            "V205", f"the tensors are of dialect `{found.dialect}`, not `{asked.dialect}`",
            evidence=found.evidence, hint="leave the dialect out, or name the model as well: `model=...`",
        )  # fmt: skip
    row = variant(asked.model) if isinstance(asked.model, str) else None
    config = row.config if row else asked.model
    assert not isinstance(config, str)
    if problems := config.problems():
        raise UsageError("V007", "no network can be built from the config", evidence=problems)
    dialect = _dialect(asked.dialect, family_of(config), tensors)
    saved, passed_over = _stated(metadata)
    explained = read(dialect, tensors)
    return Detection(
        dialect=dialect.name,
        variant=row.name if row else None,
        config=config,
        evidence=(f"dialect {dialect.name}, {len(explained.tensors)} tensors", *explained.dropped, *passed_over),
        policy=saved.policy if saved and saved.config.channels == config.channels else None,
        classes=saved.classes if saved else None,
    )


def _stated(metadata: Mapping[str, str]) -> tuple[Saved | None, list[str]]:
    """What our own file says of itself; as the model is named, what does not hold is passed over, with a line."""
    try:
        return from_metadata(metadata), []
    except WeightsError as error:
        return None, [f"passed over, as the model is named: {error.what}"]


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
            evidence=[dialect.name for dialect in best],
            hint="name one: `weights.dialect` in a recipe, `dialect=...` in Python",
        )  # fmt: skip
    return best[0]


def _head_rows(native: Tensors) -> int | None:
    """For how many classes the head is that lies in the file."""
    weight = native.get(HEAD[0])
    return weight.shape[0] if weight is not None and weight.shape else None


def _with_head(asked: _Asked, found: Detection, native: Tensors) -> tuple[ModelConfig, Tensors, list[str]]:
    """The wanted number of classes, and the head for them: by name where the file states names, else by number."""
    wanted = found.config.classes if asked.count is None else asked.count
    config = replace(found.config, classes=wanted)
    if not all(name in native and native[name].shape for name in HEAD):
        return config, native, []  # the check of shapes says what is wrong
    there = native[HEAD[0]].shape[0]
    stated = found.classes if found.classes is not None and not placeholders(found.classes) else None
    whole = stated is not None and all(native[name].shape[0] == len(stated) for name in HEAD)
    if whole and stated is not None and isinstance(asked.classes, tuple):
        return config, *by_name(native, config, have=stated, want=asked.classes, head=asked.head)
    if asked.head == "zero" or (asked.head == "auto" and asked.count is not None and there != wanted):
        line = f"head replaced by zeros: the file has {there} classes, wanted are {wanted}"
        return config, zeroed(native, config), [line]
    return config, native, []


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
    text = f"trained at {height} x {width} with {count} classes; "
    row = VARIANTS.get(found.variant or "")
    if row is None or structure(found.config) != structure(row.config):
        return text + "in Python `vitrail.weights.load(path)` opens it as what it is"
    number = f", classes={count}" if count != row.config.classes else ""
    return (
        f'{text}in Python `vitrail.weights.load(path, model="{row.name}"{number})`; '
        f"`vitrail train --model {row.name} --weights FILE` starts from it, with `weights.head=zero` for other classes"
    )


def _policy(found: Detection, config: ModelConfig, rows: int | None) -> tuple[Policy, list[str]]:
    """The file's own policy, else the variant's, else a plain one; what was assumed is said."""
    if found.policy is not None:
        return replace(found.policy, size=config.image_size), []
    row = VARIANTS.get(found.variant or "")
    if row is not None and row.policy.channels == config.channels:
        return replace(row.policy, size=config.image_size), []
    alike = _alike(config, rows)
    if alike and all(row.policy == alike[0].policy for row in alike):
        return alike[0].policy, [f"policy of {alike[0].name}, whose network it is: the file states none"]
    count = config.channels
    policy = Policy(size=config.image_size, mean=HALF.mean[:1] * count, std=HALF.std[:1] * count)
    line = "policy assumed, the file states none: bicubic, whole picture, mean 0.5, std 0.5"
    return policy, [line + (f" (not those of {', '.join(row.name for row in alike)})" if alike else "")]


def _alike(config: ModelConfig, rows: int | None) -> list[Variant]:
    """The variants with the config's network: those with as many classes as the file, if there are any."""
    found = [row for row in VARIANTS.values() if structure(row.config) == structure(config)]
    return [row for row in found if row.config.classes == rows] or found


def _names(asked: _Asked, found: Detection, count: int) -> tuple[str, ...]:
    if isinstance(asked.classes, tuple):
        return asked.classes
    if found.classes is not None and len(found.classes) == count:
        return found.classes
    return numbered(count)
