"""Tensors, parameters and multiply-adds of a config, by formula: nothing is built, torch is not needed.

Letters: N tokens, D width, K classes, r MLP ratio, L blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import prod

from vitrail.models.configs import CCTConfig, ModelConfig

Shape = tuple[int, ...]


def shapes(config: ModelConfig) -> dict[str, Shape]:
    """Name and shape of every tensor of the network, in the order in which the network holds them.

    >>> shapes(CCTConfig(image_size=(32, 32)))["classifier.fc.bias"]
    (1000,)
    """
    return dict(_cct(config))


def parameters(config: ModelConfig) -> int:
    """How many numbers the network's tensors hold, a fixed position table included."""
    return sum(prod(shape) for shape in shapes(config).values())


def trainable(config: ModelConfig) -> int:
    """How many of them training changes."""
    fixed = shapes(config)["classifier.positional_emb"] if config.positions == "sine" else (0,)
    return parameters(config) - prod(fixed)


def macs(config: ModelConfig) -> int:
    """Multiply-adds for one picture: convolutions, linears and every product of attention and of pooling.

    Norms, softmax, activations and biases are left out. The figures of SHI-Labs' README leave out attention's two
    products as well (5.11 G in place of 5.52 G for CCT-14/7x2).
    """
    c = config
    N, D, r = c.tokens, c.dim, c.mlp_ratio  # noqa: N806
    blocks = c.depth * (4 * N * D * D + 2 * N * D * int(D * r) + 2 * N * N * D)
    pooling = 2 * N * D if c.pooling == "sequence" else 0
    return _tokenizer_macs(c) + blocks + pooling + D * c.classes


def _tokenizer_macs(c: CCTConfig) -> int:
    total, (height, width) = 0, c.image_size
    for out, wide, kernel, _ in _convolutions(c):
        height, width = c.after_convolution(height), c.after_convolution(width)
        total += height * width * out * wide * kernel * kernel
        height, width = c.after_pool(height), c.after_pool(width)
    return total


def _convolutions(c: CCTConfig) -> list[Shape]:
    widths = [c.channels, *[c.conv_width] * (c.conv_layers - 1), c.dim]
    return [(out, wide, c.kernel, c.kernel) for wide, out in pairwise(widths)]


def _cct(c: CCTConfig) -> Iterator[tuple[str, Shape]]:
    D, hidden = c.dim, int(c.dim * c.mlp_ratio)  # noqa: N806
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
        yield from _affine(block + "linear1", (hidden, D))
        yield from _affine(block + "linear2", (D, hidden))
    yield from _affine("classifier.norm", (D,))
    yield from _affine("classifier.fc", (c.classes, D))


def _affine(name: str, weight: Shape) -> Iterator[tuple[str, Shape]]:
    yield name + ".weight", weight
    yield name + ".bias", weight[:1]
