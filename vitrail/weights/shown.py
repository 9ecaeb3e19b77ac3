"""What tensors show of a config: the fields that can be read from native names and shapes, and none that cannot.

Not shown, and so never guessed here: heads (but for BEiT's tables), the form of GELU, epsilons, pooling of a network
with a class token, and sides of pictures that are no squares.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import TypeVar, cast

import numpy as np

from vitrail.formats.stored import Stored, Tensors
from vitrail.models.configs import BEiTConfig, CCTConfig, ModelConfig, Positions, ViTConfig
from vitrail.models.tables import sine_table

BLOCK_TABLE = "blocks.0.attn.relative_position_bias_table"
SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"
C = TypeVar("C", CCTConfig, ViTConfig, BEiTConfig)


def shown(config: ModelConfig, native: Tensors) -> ModelConfig:
    """The config with every field that the tensors show; what they do not show stays as it is."""
    if isinstance(config, CCTConfig):
        return _cct(config, native)
    return _vit(config, native) if isinstance(config, ViTConfig) else _beit(config, native)


def changed(config: ModelConfig, other: ModelConfig) -> list[str]:
    """The fields in which two configs of a family differ."""
    return [field.name for field in fields(config) if getattr(config, field.name) != getattr(other, field.name)]


def derived(family: str, native: Tensors, heads: int | None) -> ModelConfig | None:
    """The config that the tensors show wholly, for a network that is no variant; None where they do not."""
    kernel, mlp = native.get("patch_embed.proj.weight"), native.get("blocks.0.mlp.fc1.weight")
    table = native.get(BLOCK_TABLE) or native.get(SHARED_TABLE)
    if family == "beit" and table is not None and len(table.shape) == 2:
        heads = table.shape[1]
    if family == "cct" or heads is None or kernel is None or mlp is None:
        return None
    if len(kernel.shape) != 4 or len(mlp.shape) != 2 or not all(kernel.shape) or not all(mlp.shape):
        return None
    dim, patch = kernel.shape[0], kernel.shape[2]
    depth = 1 + max(int(name.split(".")[1]) for name in native if name.startswith("blocks."))
    plain = ViTConfig if family == "vit" else BEiTConfig
    config = plain(
        image_size=(patch, patch), patch=patch, dim=dim, depth=depth, heads=heads, mlp_ratio=mlp.shape[0] / dim
    )
    if isinstance(config, ViTConfig):
        config = _with_stem(config, native)
    config = cast(ViTConfig | BEiTConfig, shown(config, native))
    return None if config.problems() else config


def _with_stem(config: ViTConfig, native: Tensors) -> ViTConfig:
    stem = native.get("patch_embed.backbone.stem.conv.weight") or native.get("patch_embed.backbone.conv.weight")
    if stem is None:
        return config
    units: dict[int, int] = {}
    for name in native:
        if name.startswith("patch_embed.backbone.stages."):
            stage, unit = int(name.split(".")[3]), int(name.split(".")[5])
            units[stage] = max(units.get(stage, 0), unit + 1)
    config = replace(config, stem="resnet", stem_width=stem.shape[0], stages=tuple(units[s] for s in sorted(units)))
    side = config.cell * config.patch
    return replace(config, image_size=(side, side))


def _cct(config: CCTConfig, native: Tensors) -> CCTConfig:
    weight, bias = native.get("classifier.fc.weight"), native.get("classifier.fc.bias")
    config = replace(config, classes=_classes(config, weight, bias))
    first = native.get("tokenizer.conv_layers.0.0.weight")
    if first is not None and len(first.shape) == 4 and 1 <= first.shape[1] <= 64:
        config = replace(config, channels=first.shape[1])
    table = native.get("classifier.positional_emb")
    if table is None:
        return replace(config, positions="none")
    if len(table.shape) != 3:
        return config
    config = replace(config, positions=positions_of(table))
    step = (config.stride * (2 if config.max_pool else 1)) ** config.conv_layers
    return _sized(config, [(table.shape[1], config.pooling == "class")], step)


def _vit(config: ViTConfig, native: Tensors) -> ViTConfig:
    fc_norm, class_token = "fc_norm.weight" in native, "cls_token" in native
    registers, pre_logits = native.get("reg_token"), native.get("pre_logits.fc.weight")
    config = replace(
        config,
        classes=_classes(config, native.get("head.weight"), native.get("head.bias")),
        channels=_channels(config, native),
        class_token=class_token,
        distilled="dist_token" in native,
        register_tokens=registers.shape[1] if registers is not None and len(registers.shape) == 3 else 0,
        pre_norm="norm_pre.weight" in native,
        qkv_bias="blocks.0.attn.qkv.bias" in native,
        layer_scale="blocks.0.ls1.gamma" in native,
        fc_norm=fc_norm,
        pooling="mean" if fc_norm or not class_token else config.pooling,
        pre_logits=pre_logits.shape[0] if pre_logits is not None and pre_logits.shape else 0,
    )
    table = native.get("pos_embed")
    if table is None or len(table.shape) != 3:
        return config
    ways = [(table.shape[1], config.prefix), (table.shape[1], 0)]
    config = _sized(config, ways[:1] if not config.prefix else ways, config.cell * config.patch)
    return replace(config, class_position=config.tokens == table.shape[1])


def _beit(config: BEiTConfig, native: Tensors) -> BEiTConfig:
    block, shared, absolute = native.get(BLOCK_TABLE), native.get(SHARED_TABLE), native.get("pos_embed")
    pooling = "mean" if "fc_norm.weight" in native else "class" if "norm.weight" in native else config.pooling
    config = replace(
        config,
        classes=_classes(config, native.get("head.weight"), native.get("head.bias")),
        channels=_channels(config, native),
        absolute_positions=absolute is not None,
        block_bias=block is not None,
        shared_bias=shared is not None,
        qkv_bias="blocks.0.attn.q_bias" in native,
        key_bias="blocks.0.attn.k_bias" in native,
        layer_scale="blocks.0.gamma_1" in native,
        pooling=pooling,
    )
    relative = block if block is not None else shared
    if relative is not None and len(relative.shape) == 2:
        if relative.shape[0] == config.distances:
            return config
        side = (math.isqrt(max(0, relative.shape[0] - 3)) + 1) // 2
        square = replace(config, image_size=(side * config.patch, side * config.patch)) if side else config
        return square if square.distances == relative.shape[0] else config
    if absolute is not None and len(absolute.shape) == 3:
        return _sized(config, [(absolute.shape[1], 1)], config.patch)
    return config


def _classes(config: ModelConfig, weight: Stored | None, bias: Stored | None) -> int:
    """The rows of the head; where its two tensors disagree, the variant's own number if one of them has it."""
    there = [stored.shape[0] for stored in (bias, weight) if stored is not None and stored.shape]
    if not there:
        return config.classes if isinstance(config, CCTConfig) or weight is not None or bias is not None else 0
    return config.classes if config.classes in there else there[0]


def _channels(config: ViTConfig | BEiTConfig, native: Tensors) -> int:
    names = (
        "patch_embed.backbone.stem.conv.weight", "patch_embed.backbone.conv.weight", "patch_embed.proj.weight",
    )  # fmt: skip
    first = next((native[name] for name in names if name in native), None)
    if first is None or len(first.shape) != 4 or not 1 <= first.shape[1] <= 64:
        return config.channels
    return first.shape[1]


def _sized(config: C, ways: Iterable[tuple[int, int]], step: int) -> C:
    """The config's own size if it gives so many rows of positions, else the square that does, else its own.

    ways: (rows of the table, how many of them belong to no patch).
    """
    for rows, prefix in ways:
        if rows - prefix == config.grid[0] * config.grid[1]:
            return config
    for rows, prefix in ways:
        side = math.isqrt(max(0, rows - prefix))
        if side and side * side == rows - prefix:
            sized = replace(config, image_size=(side * step, side * step))
            if sized.grid == (side, side):
                return sized
    return config


def positions_of(table: Stored) -> Positions:
    """`sine` when the table (1, N, D) is the sine table up to rounding, else `learned`.

    Implementations round the angle, up to N, to float32 at different moments: half a unit of it moves the sine.
    """
    if len(table.shape) != 3 or table.shape[0] != 1 or table.dtype not in _SINE_BOUND or not table.nbytes:
        return "learned"
    bound = _SINE_BOUND[table.dtype] + table.shape[1] * 2**-23
    return "sine" if distance_from_sine(table) <= bound else "learned"


def distance_from_sine(table: Stored) -> float:
    """Greatest difference of a table (1, N, D) from the sine table."""
    wanted = sine_table(table.shape[1], table.shape[2]).astype(np.float64)
    return float(np.abs(table.array()[0].astype(np.float64) - wanted).max())


_SINE_BOUND = {"F64": 1e-6, "F32": 1e-6, "F16": 2**-11, "BF16": 2**-8}  # half a unit in the last place at 1
