"""From tensors of any world to a classifier: found, named, fitted, checked, filled in. Nothing happens in silence."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vitrail.class_names.numbered import numbered, placeholders
from vitrail.errors import SystemFault, UsageError, WeightsError, nearest
from vitrail.formats import read_tensors
from vitrail.formats.stored import Stored, Tensors
from vitrail.models import build
from vitrail.models.catalog import VARIANTS
from vitrail.models.classifier import Classifier
from vitrail.models.configs import CCTConfig, ModelConfig, family_of
from vitrail.models.count import shapes
from vitrail.weights.detect import Detection, detect
from vitrail.weights.dialects import NATIVE
from vitrail.weights.fit import check
from vitrail.weights.fitting import Changes, fitted, start_of
from vitrail.weights.heads import Head, by_name, first_rows, head_names, head_rows, without, zeroed
from vitrail.weights.identify import among, identify
from vitrail.weights.policies import policy_of, structure
from vitrail.weights.shown import distance_from_sine, positions_of, shown
from vitrail.weights.stated import Stated, stated
from vitrail.weights.tensors import check_numbers, filled, native_tensors, stored_of
from vitrail.weights.translate import check_made, whole

LOG = logging.getLogger("vitrail.weights")


@dataclass(frozen=True)
class Loaded:
    """A classifier and a line for everything that was found, dropped, fitted, replaced or assumed on the way.

    policy_stated: whether the policy came with the weights; otherwise it is that of a variant, or assumed.
    numerics: in what the weights' own world computes otherwise than a config that was asked for (GELU, epsilons).
    by_position: whether rows of the file's head were given to wanted names by their places, for it states no names.
    """

    classifier: Classifier
    report: tuple[str, ...]
    policy_stated: bool
    numerics: Mapping[str, object] = field(default_factory=dict)
    by_position: bool = False


def load(
    path: str | Path,
    model: str | ModelConfig | None = None,
    *,
    dialect: str | Path | None = None,
    classes: int | Sequence[str] | None = None,
    head: Head = "auto",
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    positions: str | None = None,
    key: bytes | None = None,
) -> Loaded:
    """The classifier in a weight file, or in a folder of Hugging Face, or in a TensorFlow checkpoint.

    model: a variant's name or a config; None to detect it. dialect: None to detect it, a name, or a YAML file of your
    own rules. With a variant's name, and when detected, the network computes as the dialect's world does (the form of
    GELU, epsilons, padding), and the report says so; a config is taken as it is.
    classes: names, or how many. head: `auto` makes a new zero head when `classes` is given and the file has another
    number, or states other names; `zero` always; `first-k` keeps the first rows; `keep` never changes it. Where the
    file states the names, they decide which row is whose.
    image_size, channels: what the positions and the first kernel are fitted to; otherwise they must fit as they are.
    positions: how they are fitted, a word of `adapt.Resize` or `adapt.Relative` such as `bilinear`; None for the way of
    the world that the weights are from. key: of an encrypted MindSpore checkpoint.

    WeightsError V201 damaged file or NaN, V202 hostile, V203 no such variant, V204 tensors that do not fit, V205
    tensors that nothing explains, V206 unknown format.
    """
    asked = _Asked(model, dialect, _names_or_number(classes), head, _size(image_size), channels, positions)
    tensors, metadata, notes = read_tensors(Path(path), key=key)
    said = stated(Path(path), metadata, named=model is not None)
    loaded = _loaded(asked, tensors, said, where=str(path), provenance={"file": Path(path).name})
    return replace(loaded, report=(*notes, *said.lines, *loaded.report))


def from_tensors(
    tensors: Mapping[str, NDArray[np.generic] | Tensor | Stored],
    model: str | ModelConfig,
    *,
    dialect: str | Path | None = None,
    classes: int | Sequence[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
) -> Classifier:
    """The classifier of named arrays or torch tensors, in their own type; arguments and errors as `load`.

    The report goes to the logger `vitrail.weights`, at level INFO.

    >>> from vitrail.models import build
    >>> from vitrail.models.catalog import variant
    >>> tensors = build(variant("cct_2_3x2_32").config).state_dict()
    >>> from_tensors(tensors, "cct_2_3x2_32").config.depth
    2
    """
    asked = _Asked(model, dialect, _names_or_number(classes), "auto", _size(image_size), None)
    loaded = _loaded(asked, stored_of(tensors), Stated(), where="tensors", provenance={})
    for line in loaded.report:
        LOG.info(line)
    return loaded.classifier


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
    differing = ["family"] if "family" in differing else differing  # then every field differs
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


@dataclass(frozen=True)
class _Asked:
    model: str | ModelConfig | None
    dialect: str | Path | None
    classes: int | tuple[str, ...] | None
    head: Head
    image_size: tuple[int, int] | None
    channels: int | None
    positions: str | None = None

    def __post_init__(self) -> None:
        _check_head(self.head)
        if self.count is not None and self.count < 0:
            raise UsageError("V007", f"classes {self.count} is below 0", hint="give names, or a number")

    @property
    def count(self) -> int | None:
        return len(self.classes) if isinstance(self.classes, tuple) else self.classes


def resized(classifier: Classifier, image_size: int | tuple[int, int]) -> Loaded:
    """The same weights for pictures of another size, (height, width), their positions fitted as the family's authors
    do it. The classifier itself is left as it is. UsageError V007 for a size that its patches do not fill.

    >>> import vitrail
    >>> resized(vitrail.create("vit_tiny_patch16_224"), 96).classifier.config.image_size
    (96, 96)
    """
    size = _size(image_size)
    assert size is not None
    config = replace(classifier.config, image_size=size)
    if problems := config.problems():
        raise UsageError("V007", "no network can be built as asked", evidence=problems)
    changes = Changes(size=True, channels=False, head=False)
    own = native_tensors(classifier.module)
    native, lines = fitted(own, config, NATIVE[family_of(config)], changes, own=classifier.config)
    module = filled(build(config, device="meta"), native)
    policy = replace(classifier.policy, size=size)
    return Loaded(replace(classifier, module=module, config=config, policy=policy), tuple(lines), policy_stated=True)


def _check_head(head: str) -> None:
    if head not in get_args(Head):
        raise UsageError("V007", f"head `{head}` is unknown", hint=nearest(head, get_args(Head)))


def _size(image_size: object) -> tuple[int, int] | None:
    """(height, width) from one number or two; UsageError V007 for anything else."""
    if image_size is None:
        return None
    sides = (image_size, image_size) if isinstance(image_size, int) else image_size
    if isinstance(sides, Sequence) and len(sides) == 2 and all(type(side) is int and side > 0 for side in sides):
        return sides[0], sides[1]
    raise UsageError("V007", f"image_size {image_size!r:.80} is no size", hint="give 224, or (height, width)")


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


def _loaded(asked: _Asked, tensors: Tensors, said: Stated, *, where: str, provenance: Mapping[str, object]) -> Loaded:
    try:
        return _made(asked, tensors, said, where=where, provenance=provenance)
    except MemoryError as error:
        raise SystemFault(
            "V703", f"`{where}`: the network that was asked for does not fit into memory",
            hint="ask for a smaller image_size or fewer classes, or close other programs",
        ) from error  # fmt: skip


def _made(asked: _Asked, tensors: Tensors, said: Stated, *, where: str, provenance: Mapping[str, object]) -> Loaded:
    found = identify(asked.model, asked.dialect, tensors, said)
    native = whole(found.dialect, found.translation, "to our names")
    report = [*found.evidence]
    check_numbers(native, where)
    rows = head_rows(native, found.config)
    own = shown(found.config, native)
    new_head = _another_head(asked, found, rows)
    config = _wanted(asked, found.config, new_head)
    changes = Changes(
        size=asked.image_size is not None, channels=asked.channels is not None, head=new_head, method=asked.positions
    )
    native, lines = fitted(native, config, found.dialect, changes, own=own)
    report += lines
    native, lines = _with_head(asked, found, config, native)
    report += lines
    _check_heads(found, config)
    check(native, shapes(config), _named(found), hint=_hint(asked, tensors))
    _check_sine(config, native)
    check_made(found.translation, tensors, own)
    policy, assumed = policy_of(found, config, rows)
    report += assumed
    names = _names(asked, found, config.classes)
    source = {"weights": "trained", "variant": found.variant, "dialect": found.dialect.name, **provenance}
    if found.dialect.form:
        source["form"] = found.dialect.form
    if found.licences:
        source["licences"] = dict(found.licences)
    module = filled(build(config, device="meta"), native)
    policy_stated = found.policy is not None and not said.policy_assumed
    nameless = rows is not None and _said(found, rows) is None and isinstance(asked.classes, tuple)
    by_position = nameless and not new_head and asked.head != "zero" and bool(config.classes)
    if by_position:
        report.append("head rows kept by their places: the file states no names of classes")
    opened = Classifier(module, config, policy, names, source)
    return Loaded(opened, tuple(report), policy_stated, found.numerics, by_position)


def _another_head(asked: _Asked, found: Detection, rows: int | None) -> bool:
    """Whether the head will be another than the file's: made, or cut to its first rows."""
    if asked.count == 0 or asked.head == "keep":
        return False
    if asked.head == "zero" or rows is None:
        return asked.head == "zero" or asked.count is not None
    said = _said(found, rows)
    if asked.head == "auto" and said is not None and isinstance(asked.classes, tuple):
        return set(said) != set(asked.classes)
    return asked.count is not None and asked.count != rows


def _said(found: Detection, rows: int) -> tuple[str, ...] | None:
    """The names that the file itself states for the rows of its head, unless they are mere numbers."""
    names = found.classes
    return None if names is None or found.guessed or placeholders(names) or len(names) != rows else names


def _wanted(asked: _Asked, config: ModelConfig, new_head: bool) -> ModelConfig:
    """The config to build: what was asked for over what was found."""
    if new_head and asked.model is None and asked.head != "first-k":  # rows that stay need what stood before them
        config = start_of(config)
    size = asked.image_size if asked.image_size is not None else config.image_size
    count = asked.channels if asked.channels is not None else config.channels
    classes = config.classes if asked.count is None else asked.count
    config = replace(config, image_size=size, channels=count, classes=classes)
    if problems := config.problems():
        raise UsageError("V007", "no network can be built as asked", evidence=problems)
    return config


def _with_head(asked: _Asked, found: Detection, config: ModelConfig, native: Tensors) -> tuple[Tensors, list[str]]:
    """The head for the wanted number of classes: by name where the file states names, else by number."""
    names = head_names(config)
    there = head_rows(native, config)
    if not config.classes:
        lines = ["head dropped: 0 classes are wanted"] if asked.count == 0 and there else []
        return (without(native, config) if lines else native), lines
    if there is None:
        absent = not any(name in native for name in names)
        if absent and _another_head(asked, found, None):
            return zeroed(native, config), [f"head made of zeros for {config.classes} classes: the file has none"]
        return native, []  # the check of shapes says what is wrong
    said = _said(found, there)
    if said is not None and isinstance(asked.classes, tuple):
        return by_name(native, config, have=said, want=asked.classes, head=asked.head)
    if asked.head == "first-k":
        return first_rows(native, config)
    if asked.head == "zero" or (asked.head == "auto" and asked.count is not None and there != config.classes):
        line = f"head replaced by zeros: the file has {there} classes, wanted are {config.classes}"
        return zeroed(native, config), [line]
    return native, []


def _check_heads(found: Detection, config: ModelConfig) -> None:
    heads = found.translation.heads
    if heads is not None and heads != config.heads:
        raise WeightsError(
            "V204", f"attention has {heads} heads in the file, {config.heads} in {_named(found)}",
            hint="the file is of another variant, or the config is wrong",
        )  # fmt: skip


def _check_sine(config: ModelConfig, native: Tensors) -> None:
    """A model with fixed positions takes no learned table for them."""
    table = native.get("classifier.positional_emb")
    if table is None or not isinstance(config, CCTConfig) or config.positions != "sine":
        return
    if positions_of(table) != "sine":
        raise WeightsError(
            "V204",
            "the model has the fixed sine table, the file another one",
            evidence=[f"classifier.positional_emb differs from the sine table by {distance_from_sine(table):.3g}"],
            hint="open it as the variant without `_sine`: its positions were learned",
        )


def _named(found: Detection) -> str:
    return f"`{found.variant}`" if found.variant else f"the {family_of(found.config)} config"


def _hint(asked: _Asked, tensors: Tensors) -> str:
    """What would fit, if anything does."""
    try:
        found = detect(tensors, among=among(asked.dialect))
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
        f"{text}`vitrail convert` opens it with `--classes {count}`, in Python "
        f'`vitrail.weights.load(path, model="{row.name}"{number})`; '
        f"`vitrail train --model {row.name} --weights FILE` starts from it, with `weights.head=zero` for other classes"
    )


def _names(asked: _Asked, found: Detection, count: int) -> tuple[str, ...]:
    if isinstance(asked.classes, tuple):
        return asked.classes
    if found.classes is not None and (len(found.classes) == count or asked.head == "first-k"):
        return found.classes[:count]
    return numbered(count)
