"""Weights made to fit a config that asks for another size, channels or head: by named rules, a line for each change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import numpy as np

from vitrail.errors import UsageError, WeightsError, nearest
from vitrail.formats.stored import Stored, Tensors
from vitrail.models.configs import BEiTConfig, CCTConfig, ModelConfig, ViTConfig, family_of
from vitrail.models.tables import sine_table
from vitrail.weights import adapt
from vitrail.weights.rules import Dialect
from vitrail.weights.shown import shown

Array = adapt.Array


@dataclass(frozen=True)
class Changes:
    """What may be changed, because it was asked for.

    size: another image size. channels: another number of them. head: another head, and with it what stands before it
    for the old one's sake. method: how positions are fitted, None for the way of the world that the weights are from.
    """

    size: bool
    channels: bool
    head: bool
    method: str | None = None

    def __post_init__(self) -> None:
        known = (*get_args(adapt.Resize), *get_args(adapt.Relative))
        if self.method is not None and self.method not in known:
            raise UsageError("V007", f"positions `{self.method}` is no method", hint=nearest(self.method, known))


def fitted(
    native: Tensors, wanted: ModelConfig, dialect: Dialect, changes: Changes, *, own: ModelConfig | None = None
) -> tuple[Tensors, list[str]]:
    """The tensors in the shapes that `wanted` needs, but for the head, and a line for each change.

    own: what the tensors are of, where that is known better than they show it (sides that are no squares). What was
    not asked for is left as it is, and then does not fit.
    """
    own = own if own is not None else shown(wanted, native)
    report: list[str] = []
    steps: list[Callable[[Tensors, ModelConfig, ModelConfig], tuple[Tensors, list[str]]]] = [_sine]
    if changes.head:
        steps += [_pre_logits, _start]
    if changes.channels:
        steps.append(_channels)
    if changes.size:
        absolute = adapt.POSITIONS.get((dialect.name, family_of(wanted)), adapt.POSITIONS["timm", "vit"])
        relative = adapt.RELATIVE.get(dialect.name, adapt.RELATIVE["timm"])
        steps.append(partial(_positions, method=_chosen(changes.method, adapt.Resize, absolute)))
        steps.append(partial(_relative, method=_chosen(changes.method, adapt.Relative, relative)))
    for step in steps:
        native, lines = step(native, own, wanted)
        report += lines
    return native, report


def _chosen(asked: str | None, kind: object, usual: Any) -> Any:
    return asked if asked in get_args(kind) else usual


def start_of(own: ModelConfig) -> ModelConfig:
    """What a network becomes when it gets a new head: the config to fine-tune.

    A ViT loses the tanh layer that belonged to the old head. A BEiT of pre-training without any head pools by mean,
    and its shared table becomes one for each block, as unilm's fine-tuning makes them.
    """
    if isinstance(own, ViTConfig) and own.pre_logits:
        return replace(own, pre_logits=0)
    if isinstance(own, BEiTConfig) and not own.classes and own.pooling == "class":
        tables = own.block_bias or own.shared_bias
        return replace(own, pooling="mean", block_bias=tables, shared_bias=False)
    return own


def _sine(native: Tensors, own: ModelConfig, wanted: ModelConfig) -> tuple[Tensors, list[str]]:
    """A fixed table need not lie in a file."""
    name = "classifier.positional_emb"
    if not isinstance(wanted, CCTConfig) or wanted.positions != "sine" or name in native or not native:
        return native, []
    kind = next(iter(native.values())).dtype
    table = sine_table(wanted.tokens, wanted.dim)[None]
    stored = _stored(table, kind)
    return native | {name: stored}, [f"{name} made: the sine table is fixed, the file lacks it"]


def _pre_logits(native: Tensors, own: ModelConfig, wanted: ModelConfig) -> tuple[Tensors, list[str]]:
    names = [name for name in native if name.startswith("pre_logits.")]
    if not isinstance(wanted, ViTConfig) or wanted.pre_logits or not names:
        return native, []
    line = f"{', '.join(names)} dropped: the layer belongs to the old head"
    return {name: tensor for name, tensor in native.items() if name not in names}, [line]


def _start(native: Tensors, own: ModelConfig, wanted: ModelConfig) -> tuple[Tensors, list[str]]:
    """From a BEiT of pre-training to one with a head."""
    if not isinstance(wanted, BEiTConfig) or not isinstance(own, BEiTConfig):
        return native, []
    report = []
    if wanted.block_bias and not wanted.shared_bias and own.shared_bias and not own.block_bias:
        native = adapt.shared_to_blocks(native, wanted.depth)
        report.append(f"{adapt.SHARED_TABLE} copied to each of {wanted.depth} blocks")
    if wanted.pooling == "mean" and own.pooling == "class" and "norm.weight" in native and not own.classes:
        kind, width = native["norm.weight"].dtype, native["norm.weight"].shape
        native = {name: tensor for name, tensor in native.items() if not name.startswith("norm.")}
        ones, zeros = np.ones(width, np.float32), np.zeros(width, np.float32)
        native |= {"fc_norm.weight": _stored(ones, kind), "fc_norm.bias": _stored(zeros, kind)}
        report.append("norm dropped, fc_norm made of ones and zeros: it was the norm of pre-training")
    return native, report


def _channels(native: Tensors, own: ModelConfig, wanted: ModelConfig) -> tuple[Tensors, list[str]]:
    names = (
        "tokenizer.conv_layers.0.0.weight", "patch_embed.backbone.stem.conv.weight",
        "patch_embed.backbone.conv.weight", "patch_embed.proj.weight",
    )  # fmt: skip
    name = next((name for name in names if name in native), "")
    if not name or len(native[name].shape) != 4 or native[name].shape[1] in (0, wanted.channels):
        return native, []
    had = native[name].shape[1]
    tensor = _changed(native[name], lambda kernel: adapt.channels(kernel, wanted.channels))
    how = "summed" if wanted.channels == 1 else "repeated and scaled"
    return native | {name: tensor}, [f"{name} {had} -> {wanted.channels} channels, {how}"]


def _positions(
    native: Tensors, own: ModelConfig, wanted: ModelConfig, *, method: adapt.Resize
) -> tuple[Tensors, list[str]]:
    name = "classifier.positional_emb" if isinstance(wanted, CCTConfig) else "pos_embed"
    if name not in native or own.grid == wanted.grid:
        return native, []
    if isinstance(wanted, CCTConfig) and wanted.positions == "sine":
        rest = {key: tensor for key, tensor in native.items() if key != name}
        made, _ = _sine(rest, own, wanted)
        return made, [f"{name} {_grids(own, wanted)}: the sine table of the new size"]
    prefix = _prefix(wanted)
    try:
        tensor = _changed(
            native[name],
            lambda table: adapt.positions(table, old=own.grid, new=wanted.grid, prefix=prefix, method=method),
        )
    except ValueError as error:
        raise _misfit(name, error) from error
    return native | {name: tensor}, [f"{name} {_grids(own, wanted)} {method}"]


def _relative(
    native: Tensors, own: ModelConfig, wanted: ModelConfig, *, method: adapt.Relative
) -> tuple[Tensors, list[str]]:
    names = [name for name in native if name.endswith("relative_position_bias_table")]
    if not names or own.grid == wanted.grid:
        return native, []
    try:
        tables = {
            name: _changed(
                native[name],
                lambda table: adapt.relative_table(table, old=own.grid, new=wanted.grid, method=method),
            )
            for name in names
        }
    except ValueError as error:
        raise _misfit(names[0], error) from error
    return native | tables, [f"{len(names)} tables of relative positions {_grids(own, wanted)} {method}"]


def _prefix(config: ModelConfig) -> int:
    if isinstance(config, CCTConfig):
        return int(config.pooling == "class")
    return config.prefix if isinstance(config, BEiTConfig) or config.class_position else 0


def _grids(own: ModelConfig, wanted: ModelConfig) -> str:
    return " -> ".join(f"{rows}x{columns}" for rows, columns in (own.grid, wanted.grid))


def _misfit(name: str, error: ValueError) -> WeightsError:
    return WeightsError(
        "V204", f"`{name}` cannot be fitted to the new image size: {error}",
        hint="a picture that is no square is not shown by the tensors: give the config the file is of",
    )  # fmt: skip


def _changed(stored: Stored, change: Callable[[Array], Array]) -> Stored:
    """Computed in the tensor's own type; BF16 is widened, and rounded to the nearest again."""
    return _stored(change(stored.array()), stored.dtype)


def _stored(array: Array, kind: str) -> Stored:
    if kind != "BF16":
        return Stored.of(array.astype(_NUMPY[kind]))
    bits = array.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)  # to nearest, ties to even
    return Stored.of(rounded.view(np.float32), "BF16")


_NUMPY = {"F64": np.float64, "F32": np.float32, "F16": np.float16}
