"""Tensors, parameters and multiply-adds of a config, by formula: nothing is built, torch is not needed.

Letters: N tokens, D width, K classes, L blocks, M width inside the MLP.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import prod

from vitrail.models.configs import BEiTConfig, CCTConfig, ModelConfig, ViTConfig

Shape = tuple[int, ...]
Named = Iterator[tuple[str, Shape]]

EXPANSION = 4  # a unit of the ResNet puts out 4 times the width it works at


def shapes(config: ModelConfig) -> dict[str, Shape]:
    """Name and shape of every tensor of the network, in the order in which the network holds them.

    >>> shapes(CCTConfig(image_size=(32, 32)))["classifier.fc.bias"]
    (1000,)
    """
    if isinstance(config, CCTConfig):
        return dict(_cct(config))
    return dict(_vit(config) if isinstance(config, ViTConfig) else _beit(config))


def parameters(config: ModelConfig) -> int:
    """How many numbers the network's tensors hold, a fixed position table included.

    >>> parameters(ViTConfig(image_size=(224, 224)))
    86567656
    """
    return sum(prod(shape) for shape in shapes(config).values())


def trainable(config: ModelConfig) -> int:
    """How many of them training changes."""
    if isinstance(config, CCTConfig) and config.positions == "sine":
        return parameters(config) - prod(shapes(config)["classifier.positional_emb"])
    return parameters(config)


def macs(config: ModelConfig) -> int:
    """Multiply-adds for one picture: convolutions, linears and every product of attention and of pooling.

    Norms, softmax, activations, biases and the standardising of kernels are left out; every token counts in every
    block, also where an answer needs the class token alone. The figures of SHI-Labs' README leave out attention's
    two products as well (5.11 G in place of 5.52 G for CCT-14/7x2).

    >>> macs(ViTConfig(image_size=(224, 224)))
    17563828224
    """
    return _cct_macs(config) if isinstance(config, CCTConfig) else _vit_macs(config)


def _block_macs(N: int, D: int, M: int) -> int:  # noqa: N803
    return 4 * N * D * D + 2 * N * D * M + 2 * N * N * D


def _cct_macs(c: CCTConfig) -> int:
    N, D = c.tokens, c.dim  # noqa: N806
    blocks = c.depth * _block_macs(N, D, int(D * c.mlp_ratio))
    pooling = 2 * N * D if c.pooling == "sequence" else 0
    return _tokenizer_macs(c) + blocks + pooling + D * c.classes


def _tokenizer_macs(c: CCTConfig) -> int:
    total, (height, width) = 0, c.image_size
    for kernel in _convolutions(c):
        height, width = c.after_convolution(height), c.after_convolution(width)
        total += height * width * prod(kernel)
        height, width = c.after_pool(height), c.after_pool(width)
    return total


def _vit_macs(c: ViTConfig | BEiTConfig) -> int:
    tensors = shapes(c)
    patches = prod(c.grid) * prod(tensors["patch_embed.proj.weight"])
    blocks = c.depth * _block_macs(c.tokens, c.dim, c.hidden)
    ends = ("pre_logits.fc.weight", "head.weight", "head_dist.weight")
    resnet = _resnet(c) if isinstance(c, ViTConfig) and c.stem == "resnet" else ()
    stem = sum(prod(-(-size // cell) for size in c.image_size) * prod(kernel) for _, kernel, cell in resnet)
    return stem + patches + blocks + sum(prod(tensors.get(name, (0,))) for name in ends)


def _convolutions(c: CCTConfig) -> list[Shape]:
    widths = [c.channels, *[c.conv_width] * (c.conv_layers - 1), c.dim]
    return [(out, wide, c.kernel, c.kernel) for wide, out in pairwise(widths)]


def _cct(c: CCTConfig) -> Named:
    D, M = c.dim, int(c.dim * c.mlp_ratio)  # noqa: N806
    for j, convolution in enumerate(_convolutions(c)):
        yield f"tokenizer.conv_layers.{j}.0.weight", convolution
        if c.conv_bias:
            yield f"tokenizer.conv_layers.{j}.0.bias", convolution[:1]
    if c.pooling == "class":
        yield "classifier.class_emb", (1, 1, D)
    if c.positions != "none":
        yield "classifier.positional_emb", (1, c.tokens, D)
    if c.pooling == "sequence":
        yield from _affine("classifier.attention_pool", (1, D))
    for i in range(c.depth):
        block = f"classifier.blocks.{i}."
        yield from _affine(block + "pre_norm", (D,))
        yield block + "self_attn.qkv.weight", (3 * D, D)
        yield from _affine(block + "self_attn.proj", (D, D))
        yield from _affine(block + "norm1", (D,))
        yield from _affine(block + "linear1", (M, D))
        yield from _affine(block + "linear2", (D, M))
    yield from _affine("classifier.norm", (D,))
    yield from _affine("classifier.fc", (c.classes, D))


def _vit(c: ViTConfig) -> Named:
    D = c.dim  # noqa: N806
    if c.class_token:
        yield "cls_token", (1, 1, D)
    if c.distilled:
        yield "dist_token", (1, 1, D)
    if c.register_tokens:
        yield "reg_token", (1, c.register_tokens, D)
    yield "pos_embed", (1, c.position_rows, D)
    wide = c.channels
    if c.stem == "resnet":
        for name, kernel, _ in _resnet(c):
            yield f"patch_embed.backbone.{name}.weight", kernel
            yield from _affine("patch_embed.backbone." + name.replace("conv", "norm"), kernel[:1])
        wide = c.stem_width * (EXPANSION * 2 ** (len(c.stages) - 1) if c.stages else 1)
    yield from _affine("patch_embed.proj", (D, wide, c.patch, c.patch), bias=not c.pre_norm)
    if c.pre_norm:
        yield from _affine("norm_pre", (D,))
    for i in range(c.depth):
        yield from _vit_block(f"blocks.{i}.", c)
    yield from _affine("fc_norm" if c.fc_norm else "norm", (D,))
    if c.pre_logits:
        yield from _affine("pre_logits.fc", (c.pre_logits, D))
    if c.classes:
        yield from _affine("head", (c.classes, c.pre_logits or D))
    if c.classes and c.distilled:
        yield from _affine("head_dist", (c.classes, D))


def _vit_block(block: str, c: ViTConfig) -> Named:
    D, M = c.dim, c.hidden  # noqa: N806
    yield from _affine(block + "norm1", (D,))
    yield from _affine(block + "attn.qkv", (3 * D, D), bias=c.qkv_bias)
    yield from _affine(block + "attn.proj", (D, D))
    if c.layer_scale:
        yield block + "ls1.gamma", (D,)
    yield from _affine(block + "norm2", (D,))
    yield from _affine(block + "mlp.fc1", (M, D))
    yield from _affine(block + "mlp.fc2", (D, M))
    if c.layer_scale:
        yield block + "ls2.gamma", (D,)


def _resnet(c: ViTConfig) -> Iterator[tuple[str, Shape, int]]:
    """Name and kernel of each convolution of the stem, and the pixels on a side of one cell of what it puts out."""
    yield "stem.conv" if c.stages else "conv", (c.stem_width, c.channels, 7, 7), 2
    wide, cell = c.stem_width, 4  # after the pool
    for s, units in enumerate(c.stages):
        width = c.stem_width * 2**s
        for u in range(units):
            unit = f"stages.{s}.blocks.{u}."
            before, cell = cell, 4 * 2**s  # the stride of a later stage sits in conv2 of its first unit
            if u == 0:
                yield unit + "downsample.conv", (EXPANSION * width, wide, 1, 1), cell
            yield unit + "conv1", (width, wide, 1, 1), before
            yield unit + "conv2", (width, width, 3, 3), cell
            yield unit + "conv3", (EXPANSION * width, width, 1, 1), cell
            wide = EXPANSION * width


def _beit(c: BEiTConfig) -> Named:
    D = c.dim  # noqa: N806
    yield "cls_token", (1, 1, D)
    if c.absolute_positions:
        yield "pos_embed", (1, c.tokens, D)
    yield from _affine("patch_embed.proj", (D, c.channels, c.patch, c.patch))
    if c.shared_bias:
        yield "rel_pos_bias.relative_position_bias_table", (c.distances, c.heads)
    for i in range(c.depth):
        yield from _beit_block(f"blocks.{i}.", c)
    yield from _affine("norm" if c.pooling == "class" else "fc_norm", (D,))
    if c.classes:
        yield from _affine("head", (c.classes, D))


def _beit_block(block: str, c: BEiTConfig) -> Named:
    D, M = c.dim, c.hidden  # noqa: N806
    if c.layer_scale:
        yield block + "gamma_1", (D,)
        yield block + "gamma_2", (D,)
    yield from _affine(block + "norm1", (D,))
    if c.qkv_bias:
        yield block + "attn.q_bias", (D,)
    if c.key_bias:
        yield block + "attn.k_bias", (D,)
    if c.qkv_bias:
        yield block + "attn.v_bias", (D,)
    if c.block_bias:
        yield block + "attn.relative_position_bias_table", (c.distances, c.heads)
    yield block + "attn.qkv.weight", (3 * D, D)
    yield from _affine(block + "attn.proj", (D, D))
    yield from _affine(block + "norm2", (D,))
    yield from _affine(block + "mlp.fc1", (M, D))
    yield from _affine(block + "mlp.fc2", (D, M))


def _affine(name: str, weight: Shape, *, bias: bool = True) -> Named:
    yield name + ".weight", weight
    if bias:
        yield name + ".bias", weight[:1]
