"""Which dialect and which network a set of tensors is: every dialect and variant is scored over all names and shapes.

No single name decides. A variant explains the tensors when every name is used and every shape is its own, after what a
file may change: all that `shown` reads from tensors, classes, channels, image size and parts that come and go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from vitrail.errors import WeightsError
from vitrail.formats.stored import Tensors
from vitrail.models.catalog import VARIANTS, Variant
from vitrail.models.configs import NUMERICS, CCTConfig, ModelConfig, ViTConfig, family_of
from vitrail.models.count import shapes
from vitrail.pictures.policy import Policy
from vitrail.weights.dialects import TABLES, dialect_names
from vitrail.weights.fit import lines, misfits
from vitrail.weights.rules import Dialect
from vitrail.weights.saved import NAME_IT, Saved
from vitrail.weights.shown import changed, derived, shown
from vitrail.weights.translate import Translation, read


@dataclass(frozen=True, kw_only=True)
class Detection:
    """What the tensors are. evidence: what was read from them, a line each.

    variant is None for a network of our own that is no row of the catalogue. policy and classes are known when the
    file itself states them, or when it is a published one; the classes are then `guessed`, from its name.
    translation: the tensors under our names. numerics: in what their world computes otherwise than the config.
    licences: of `weights` and `data`, where they are known.
    """

    dialect: Dialect
    variant: str | None
    config: ModelConfig
    evidence: tuple[str, ...]
    translation: Translation
    policy: Policy | None = None
    classes: tuple[str, ...] | None = None
    guessed: bool = False
    numerics: Mapping[str, object] = field(default_factory=dict)
    licences: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Candidate:
    dialect: Dialect
    row: Variant | None
    config: ModelConfig
    wrong: list[tuple[str, str, str]]  # as fit.misfits
    left: Translation

    @property
    def explains(self) -> bool:
        return self.left.whole and not self.wrong

    @property
    def name(self) -> str:
        return self.row.name if self.row else f"a {family_of(self.config)} of no variant"

    @property
    def changed(self) -> list[str]:
        """The fields in which the file differs from the variant."""
        return changed(self.config, self.row.config) if self.row else ["variant"]

    def score(self) -> float:
        """The share of names, the file's and the variant's, that agree in shape."""
        total = len(self.left.tensors.keys() | shapes(self.config).keys()) + len(self.left.unexplained)
        return 1 - (len(self.wrong) + len(self.left.unexplained)) / max(1, total)


def detect(
    tensors: Tensors,
    saved: Saved | None = None,
    *,
    among: Sequence[Dialect] = TABLES,
    prefer: Sequence[str] = (),
) -> Detection:
    """Dialect, variant and config of the tensors; what a file states of itself wins.

    prefer: variants that are meant where several explain the tensors equally well.

    WeightsError V205 with the nearest variants when none explains all tensors, or when several do.
    """
    if saved is not None:
        return _of_saved(tensors, saved, among)
    candidates: list[_Candidate] = []
    for translated in translations(tensors, among):
        own = list(_candidates(*translated))
        candidates += own
        if any(candidate.explains for candidate in own):
            break  # tables that come later are second choice
    whole = [candidate for candidate in candidates if candidate.explains]
    if not whole:
        raise _unexplained(tensors, candidates)
    fewest = min(len(candidate.changed) for candidate in whole)
    best = [candidate for candidate in whole if len(candidate.changed) == fewest]
    best = [candidate for candidate in best if candidate.row and candidate.row.name in prefer] or _nearest_size(best)
    if len(best) > 1:
        raise _ambiguous(best)
    config, dialect = best[0].config, best[0].dialect
    config, numerics = with_values(config, numerics_of(config, dialect), f"computed as {dialect.name} does")
    return Detection(
        dialect=best[0].dialect,
        variant=best[0].row.name if best[0].row else None,
        config=config,
        evidence=(*_evidence(best[0]), *numerics, *best[0].left.dropped),
        translation=best[0].left,
    )


def _nearest_size(best: list[_Candidate]) -> list[_Candidate]:
    """Of rows for one network and one way of preparing pictures, at several sizes: the one of the nearest size."""
    rows = [candidate.row for candidate in best if candidate.row is not None]
    kinds = {(replace(row.config, image_size=(1, 1)), row.policy.mean, row.policy.std) for row in rows}
    if len(rows) < len(best) or len(kinds) > 1:
        return best
    size = best[0].config.image_size
    return [min(best, key=lambda c: abs(c.row.config.image_size[0] - size[0]) if c.row else 0)]


def translations(tensors: Tensors, among: Sequence[Dialect]) -> Iterator[tuple[Dialect, Translation]]:
    """The tensors in every dialect that explains any of them: those that leave the fewest names unexplained first."""
    named = {dialect: read(dialect, tensors, values=False) for dialect in among}
    some = [dialect for dialect, found in named.items() if len(found.unexplained) < len(tensors)]

    def unexplained(dialect: Dialect) -> tuple[int, int]:
        return len(named[dialect].unexplained), len(named[dialect].problems)

    for dialect in sorted(some, key=unexplained)[:8]:
        yield dialect, read(dialect, tensors)


def with_values(config: ModelConfig, values: Mapping[str, object], why: str) -> tuple[ModelConfig, list[str]]:
    """The config with other values, and a line for them unless nothing changes."""
    new = replace(config, **values)  # type: ignore[arg-type]
    if new == config:
        return config, []
    return new, [f"{why}: {', '.join(f'{name} {getattr(new, name)}' for name in changed(new, config))}"]


def numerics_of(config: ModelConfig, dialect: Dialect | None = None) -> dict[str, object]:
    """How the config's network computes, or the dialect's world in its place: the fields that matter to it."""
    known = {field.name for field in fields(config)} & set(NUMERICS)
    if isinstance(config, ViTConfig) and config.stem == "patches":
        known.discard("stem_numerics")
    return {
        name: getattr(config, name) if dialect is None else dialect.numerics[name]
        for name in NUMERICS
        if name in known and (dialect is None or name in dialect.numerics)
    }


def _of_saved(tensors: Tensors, saved: Saved, among: Sequence[Dialect]) -> Detection:
    family = family_of(saved.config)
    own = [table for table in among if table.family == family and table.name == saved.dialect] or [
        table for table in among if table.family == family
    ]
    if not own:
        raise _other_family(family)
    dialect, translation = next(iter(translations(tensors, own)), (own[0], read(own[0], tensors)))
    name, config = saved.variant or family, saved.config
    lines = [f"stated in the file: {name}, {config.classes} classes", *translation.dropped]
    poolerless = saved.dialect == "huggingface" and "pre_logits.fc.weight" not in translation.tensors
    if isinstance(config, ViTConfig) and config.pre_logits and not config.classes and poolerless:
        config = replace(config, pre_logits=0)  # transformers' ViTModel can be saved without its pooler
        lines.append("no pooler in the file: the features are those of the last norm")
    return Detection(
        dialect=dialect,
        variant=saved.variant,
        config=config,
        evidence=tuple(lines),
        translation=translation,
        policy=saved.policy,
        classes=saved.classes,
        licences=saved.licences,
    )


def _other_family(family: str) -> WeightsError:
    return WeightsError(
        "V205", f"the dialect named is not of the family {family}, of which the file says it is",
        hint=f"leave the dialect out, or name one of {', '.join(dialect_names(family))}",
    )  # fmt: skip


def _candidates(dialect: Dialect, native: Translation) -> Iterator[_Candidate]:
    if not native.tensors:
        return
    found = False
    for row in VARIANTS.values():
        if family_of(row.config) != dialect.family:
            continue
        config = shown(row.config, native.tensors)
        if _twin(config, row.config) or native.heads not in (None, config.heads):
            continue
        candidate = _Candidate(dialect, row, config, misfits(native.tensors, shapes(config)), native)
        found |= candidate.explains
        yield candidate
    own = None if found else derived(dialect.family, native.tensors, native.heads)
    if own is not None:
        yield _Candidate(dialect, None, own, misfits(native.tensors, shapes(own)), native)


def _twin(config: ModelConfig, own: ModelConfig) -> bool:
    """Without a table a variant and its sine twin are one network: the twin is left out."""
    if not isinstance(config, CCTConfig) or not isinstance(own, CCTConfig):
        return False
    return config.positions == "none" and own.positions != "learned"


def _evidence(found: _Candidate) -> list[str]:
    c, row = found.config, found.row
    count = len(found.left.tensors)
    rows, columns = c.grid
    out = [
        f"{count} of {count} tensors are those of {found.name} in dialect {found.dialect}",
        f"depth {c.depth}, width {c.dim}, {_first_layer(c)}, {rows} x {columns} = {rows * columns} tokens, "
        f"{c.channels} channels, {c.classes} classes{_positions(c)}",
    ]
    if row is None:
        out.append(f"heads {c.heads} from the layout of the tensors")
        return out
    shown_heads = found.left.heads is not None
    taken = "policy is" if shown_heads else f"heads {c.heads}, stride and policy are"
    out.append(f"{taken} not in the tensors: taken from {row.name}")
    out += [f"{name} {getattr(c, name)}, the variant has {getattr(row.config, name)}" for name in found.changed]
    if isinstance(c, CCTConfig) and c.positions == "none":
        out.append(f"image size {c.image_size} is not in the tensors: taken from {row.name}")
    return out


def _first_layer(c: ModelConfig) -> str:
    if isinstance(c, CCTConfig):
        return f"{c.conv_layers} convolutions of {c.kernel} x {c.kernel}"
    return f"patches of {c.patch} x {c.patch}"


def _positions(c: ModelConfig) -> str:
    return f", positions {c.positions}" if isinstance(c, CCTConfig) else ""


def _unexplained(tensors: Tensors, candidates: list[_Candidate]) -> WeightsError:
    evidence: list[str] = []
    near = sorted(candidates, key=lambda c: (len(c.left.unexplained), -c.score(), len(c.changed)))
    if near:
        best = near[0]
        evidence += [f"nearest: {best.name} in dialect {best.dialect}, {best.score():.0%} agree"]
        evidence += [f"{name} is explained by no rule" for name in best.left.unexplained[:10]]
        evidence += best.left.problems[:10]
        evidence += lines(best.wrong)
        evidence += [f"then {c.name}, {c.score():.0%}" for c in near[1:3]]
    else:
        evidence += [f"{name} {tensors[name].shape}" for name in list(tensors)[:5]]
        evidence.append(f"dialects tried: {', '.join(dialect_names())}")
    return WeightsError(
        "V205",
        f"no dialect and variant explain the {len(tensors)} tensors",
        evidence=evidence,
        hint=f"name the model, a variant or a config with its heads and sizes: {NAME_IT}; for names of your own "
        "`vitrail convert SRC --suggest` begins a dialect",
    )


def _ambiguous(best: list[_Candidate]) -> WeightsError:
    evidence = [f"{c.name} but for {', '.join(c.changed) or 'nothing'}" for c in best]
    return WeightsError(
        "V205",
        f"{len(best)} variants explain the tensors equally well",
        evidence=evidence,
        hint=f"they differ in what the tensors do not show (heads, stride, policy); name one of them: {NAME_IT}",
    )
