"""Which dialect and which network a set of tensors is: every dialect and variant is scored over all names and shapes.

No single name decides. A variant explains the tensors when every name is used and every shape is its own, after the
four things that a file may change: classes, channels, positions and image size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from vitrail.errors import WeightsError
from vitrail.formats.stored import Stored, Tensors
from vitrail.models.catalog import VARIANTS, Variant
from vitrail.models.configs import ModelConfig, Positions, family_of
from vitrail.models.count import shapes
from vitrail.models.tables import sine_table
from vitrail.pictures.policy import Policy
from vitrail.weights.dialects import DIALECTS
from vitrail.weights.fit import lines, misfits
from vitrail.weights.rules import Dialect, Translation, read
from vitrail.weights.saved import NAME_IT, Saved, from_metadata


@dataclass(frozen=True, kw_only=True)
class Detection:
    """What the tensors are. evidence: what was read from them, a line each.

    variant is None for a network of our own that is no row of the catalogue. policy and classes are known when the
    file itself states them.
    """

    dialect: str
    variant: str | None
    config: ModelConfig
    evidence: tuple[str, ...]
    policy: Policy | None = None
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Candidate:
    dialect: Dialect
    row: Variant
    config: ModelConfig
    wrong: list[tuple[str, str, str]]  # as fit.misfits
    left: Translation

    @property
    def explains(self) -> bool:
        return not (self.wrong or self.left.unexplained or self.left.problems)

    @property
    def changed(self) -> list[str]:
        """The fields in which the file differs from the variant."""
        names = ("positions", "image_size", "channels", "classes")
        return [name for name in names if getattr(self.config, name) != getattr(self.row.config, name)]

    def score(self) -> float:
        """The share of names, the file's and the variant's, that agree in shape."""
        total = len(self.left.tensors.keys() | shapes(self.config).keys()) + len(self.left.unexplained)
        return 1 - (len(self.wrong) + len(self.left.unexplained)) / max(1, total)


def detect(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> Detection:
    """Dialect, variant and config of the tensors; what our own file's metadata states wins.

    WeightsError V205 with the nearest variants when none explains all tensors, or when several do; V201 for metadata
    of ours that does not hold.
    """
    saved = from_metadata(metadata or {})
    if saved is not None:
        return _of_saved(saved)
    candidates = list(_candidates(tensors))
    whole = [candidate for candidate in candidates if candidate.explains]
    if not whole:
        raise _unexplained(tensors, candidates)
    fewest = min(len(candidate.changed) for candidate in whole)
    best = [candidate for candidate in whole if len(candidate.changed) == fewest]
    if len(best) > 1:
        raise _ambiguous(best)
    return Detection(
        dialect=best[0].dialect.name,
        variant=best[0].row.name,
        config=best[0].config,
        evidence=(*_evidence(best[0]), *best[0].left.dropped),
    )


def _of_saved(saved: Saved) -> Detection:
    return Detection(
        dialect=saved.dialect,
        variant=saved.variant,
        config=saved.config,
        evidence=(f"stated in the file: {saved.variant or family_of(saved.config)}, {saved.config.classes} classes",),
        policy=saved.policy,
        classes=saved.classes,
    )


def _candidates(tensors: Tensors) -> Iterator[_Candidate]:
    for dialect in DIALECTS.values():
        native = read(dialect, tensors)
        if not native.tensors:
            continue
        for row in VARIANTS.values():
            if family_of(row.config) != dialect.family:
                continue
            config = _adapted(row.config, native.tensors)
            if config.positions == "none" and row.config.positions != "learned":
                continue  # without a table a variant and its sine twin are one network
            yield _Candidate(dialect, row, config, misfits(native.tensors, shapes(config)), native)


def _adapted(config: ModelConfig, native: Tensors) -> ModelConfig:
    """The variant's config with the classes, channels, positions and image size that the tensors show."""
    weight, bias = native.get("classifier.fc.weight"), native.get("classifier.fc.bias")
    classes = {stored.shape[0] for stored in (weight, bias) if stored is not None and stored.shape}
    if classes and config.classes not in classes:
        config = replace(config, classes=bias.shape[0] if bias is not None and bias.shape else max(classes))
    first = native.get("tokenizer.conv_layers.0.0.weight")
    if first is not None and len(first.shape) == 4 and first.shape[1] in (1, 3):
        config = replace(config, channels=first.shape[1])
    table = native.get("classifier.positional_emb")
    if table is None:
        return replace(config, positions="none")
    if len(table.shape) == 3:
        config = replace(config, positions=positions_of(table), image_size=_image_size(config, table.shape[1]))
    return config


def positions_of(table: Stored) -> Positions:
    """`sine` when the table (1, N, D) is the sine table up to its own rounding, else `learned`."""
    if len(table.shape) != 3 or table.shape[0] != 1 or table.dtype not in _SINE_BOUND or not table.nbytes:
        return "learned"
    return "sine" if distance_from_sine(table) <= _SINE_BOUND[table.dtype] else "learned"


def distance_from_sine(table: Stored) -> float:
    """Greatest difference of a table (1, N, D) from the sine table."""
    wanted = sine_table(table.shape[1], table.shape[2]).astype(np.float64)
    return float(np.abs(table.array()[0].astype(np.float64) - wanted).max())


_SINE_BOUND = {"F64": 1e-6, "F32": 1e-6, "F16": 2**-11, "BF16": 2**-8}  # half a unit in the last place at 1


def _image_size(config: ModelConfig, tokens: int) -> tuple[int, int]:
    """The variant's own size if it gives so many tokens, else the square that does, else the variant's."""
    if tokens == config.tokens:
        return config.image_size
    side = math.isqrt(max(0, tokens - (config.pooling == "class")))
    step = (config.stride * (2 if config.max_pool else 1)) ** config.conv_layers
    sized = replace(config, image_size=(side * step, side * step))
    return sized.image_size if side and sized.tokens == tokens else config.image_size


def _evidence(found: _Candidate) -> list[str]:
    c, row = found.config, found.row
    count = len(found.left.tensors)
    out = [
        f"{count} of {count} tensors are those of {row.name} in dialect {found.dialect.name}",
        f"depth {c.depth}, width {c.dim}, {c.conv_layers} convolutions of {c.kernel} x {c.kernel}, {c.tokens} tokens, "
        f"{c.channels} channels, {c.classes} classes, positions {c.positions}",
        f"heads {c.heads}, stride and policy are not in the tensors: taken from {row.name}",
    ]
    out += [f"{name} {getattr(c, name)}, the variant has {getattr(row.config, name)}" for name in found.changed]
    if c.positions == "none":
        out.append(f"image size {c.image_size} is not in the tensors: taken from {row.name}")
    return out


def _unexplained(tensors: Tensors, candidates: list[_Candidate]) -> WeightsError:
    evidence: list[str] = []
    near = sorted(candidates, key=lambda c: (-c.score(), len(c.changed)))
    if near:
        best = near[0]
        evidence += [f"nearest: {best.row.name} in dialect {best.dialect.name}, {best.score():.0%} agree"]
        evidence += [f"{name} is explained by no rule" for name in best.left.unexplained[:10]]
        evidence += best.left.problems[:10]
        evidence += lines(best.wrong)
        evidence += [f"then {c.row.name}, {c.score():.0%}" for c in near[1:3]]
    else:
        evidence += [f"{name} {tensors[name].shape}" for name in list(tensors)[:5]]
        evidence.append(f"dialects tried: {', '.join(DIALECTS)}")
    return WeightsError(
        "V205",
        f"no dialect and variant explain the {len(tensors)} tensors",
        evidence=evidence,
        hint=f"name the model, a variant or a config with its heads and sizes: {NAME_IT}",
    )


def _ambiguous(best: list[_Candidate]) -> WeightsError:
    evidence = [f"{c.row.name} but for {', '.join(c.changed) or 'nothing'}" for c in best]
    return WeightsError(
        "V205",
        f"{len(best)} variants explain the tensors equally well",
        evidence=evidence,
        hint=f"they differ in what the tensors do not show (heads, stride, policy); name one of them: {NAME_IT}",
    )
