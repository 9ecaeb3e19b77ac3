"""What each operator of our ONNX graphs is in MindSpore: one function gives the expressions of its outputs.

The words are those at the head of `cell.py`: primitives that MindSpore has on every device, before functions of which
some are for Ascend alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from vitrail.engines.graph import Node

Shape = tuple[int | None, ...]  # None where it is the batch, and that is free


@dataclass(frozen=True)
class Site:
    """One node: the words for its inputs, their shapes, the integers that are known beforehand; its outputs' shapes."""

    node: Node
    words: list[str]
    shapes: list[Shape]
    values: list[NDArray[np.int64] | None]
    made: list[Shape]

    def content(self, place: int) -> list[int]:
        """The integers of an input."""
        value = self.values[place]
        if value is None:
            raise ValueError("integers that are not known beforehand")
        return [int(item) for item in value.reshape(-1)]

    def side(self, axis: int) -> int:
        """A side of the first input, which must not be a free batch."""
        side = self.shapes[0][axis]
        if side is None:
            raise ValueError("a cut through the batch")
        return side

    def listed(self, name: str, default: list[int]) -> list[int]:
        """A list among the attributes."""
        return cast("list[int]", self.node.attributes.get(name, default))

    def number(self, name: str, default: float) -> float:
        """A number among the attributes."""
        return cast("float", self.node.attributes.get(name, default))


Rule = Callable[[Site], list[str]]


def _call(function: str) -> Rule:
    return lambda site: [f"{function}({', '.join(site.words)})"]


def _softmax(site: Site) -> list[str]:
    return [f"ops.softmax({site.words[0]}, {site.number('axis', -1)})"]


def _transpose(site: Site) -> list[str]:
    rank = len(site.shapes[0])
    return [f"ops.transpose({site.words[0]}, {tuple(site.listed('perm', list(range(rank))[::-1]))})"]


def _concat(site: Site) -> list[str]:
    return [f"ops.concat(({', '.join(site.words)}), {site.number('axis', 0)})"]


def _reshape(site: Site) -> list[str]:
    return [f"ops.reshape({site.words[0]}, {_sides(site.made[0])})"]


def _sides(shape: Shape) -> tuple[int, ...]:
    if shape.count(None) > 1:
        raise ValueError("two sides that grow with the batch")
    return tuple(-1 if side is None else side for side in shape)


def _expand(site: Site) -> list[str]:
    sides = ["images.shape[0]" if side is None else str(side) for side in site.made[0]]
    return [f"ops.broadcast_to({site.words[0]}, ({', '.join(sides)},))"]


def _gather(site: Site) -> list[str]:
    """One place along an axis, or a table of places."""
    axis = int(site.number("axis", 0)) % len(site.shapes[0])
    if site.shapes[1] != ():
        return [f"ops.gather({site.words[0]}, {site.words[1]}, {axis})"]
    return [_cut(site, {axis: str(site.content(1)[0])})]


def _slice(site: Site) -> list[str]:
    starts, ends = site.content(1), site.content(2)
    axes = site.content(3) if len(site.words) > 3 else list(range(len(starts)))
    if len(site.words) > 4 and set(site.content(4)) != {1}:
        raise ValueError("steps other than 1")
    cuts = {}
    for axis, start, end in zip(axes, starts, ends, strict=True):
        first, last, _ = slice(start, end).indices(site.side(axis))
        cuts[axis % len(site.shapes[0])] = f"{first}:{last}"
    return [_cut(site, cuts)]


def _split(site: Site) -> list[str]:
    axis = int(site.number("axis", 0)) % len(site.shapes[0])
    site.side(axis)
    found, start = [], 0
    for shape in site.made:
        end = start + cast("int", shape[axis])
        found.append(_cut(site, {axis: f"{start}:{end}"}))
        start = end
    return found


def _cut(site: Site, cuts: dict[int, str]) -> str:
    return f"{site.words[0]}[{', '.join(cuts.get(axis, ':') for axis in range(max(cuts) + 1))}]"


def _reduce_mean(site: Site) -> list[str]:
    rank = len(site.shapes[0])
    axes = site.content(1) if len(site.words) > 1 else site.listed("axes", list(range(rank)))
    return [f"ops.mean({site.words[0]}, {tuple(axes)}, {bool(site.number('keepdims', 1))})"]


def _matmul(site: Site) -> list[str]:
    """A stack of matrices times one matrix is one product; of two stacks, all sides but the last two are the same."""
    (a, b), (left, right) = site.shapes, site.words
    if len(a) == len(b) == 2:
        return [f"matmul({left}, {right})"]
    if len(b) == 2:
        flat = f"ops.reshape({left}, (-1, {a[-1]}))"
        return [f"ops.reshape(matmul({flat}, {right}), {_sides(site.made[0])})"]
    if a[:-2] != b[:-2]:
        raise ValueError("stacks of matrices of other sides")
    return [f"batch_matmul({left}, {right})"]


def _gemm(site: Site) -> list[str]:
    if site.number("alpha", 1.0) != 1 or site.number("beta", 1.0) != 1 or site.number("transA", 0):
        raise ValueError("a scaled or transposed product")
    product = f"ops.MatMul(transpose_b={bool(site.number('transB', 0))})({site.words[0]}, {site.words[1]})"
    return [f"add({product}, {site.words[2]})" if len(site.words) > 2 else product]


def _layer_norm(site: Site) -> list[str]:
    rank, axis = len(site.shapes[0]), int(site.number("axis", -1))
    if axis % rank != rank - 1 or len(site.words) < 3 or len(site.made) != 1:
        raise ValueError("not over the last side, or without a shift")
    epsilon = _float32(site.number("epsilon", 1e-5))
    return [f"ops.LayerNorm({rank - 1}, {rank - 1}, {epsilon})({', '.join(site.words)})[0]"]


def _instance_norm(site: Site) -> list[str]:
    """Over (B, C, n): written out, as there is none that runs on every device."""
    if len(site.shapes[0]) != 3:
        raise ValueError("not of three sides")
    channels = site.side(1)
    x = site.words[0]
    scale, shift = (f"ops.reshape({word}, ({channels}, 1))" for word in site.words[1:])
    centred = f"sub({x}, ops.mean({x}, 2, True))"
    variance = f"ops.mean(ops.square({centred}), 2, True)"
    spread = f"ops.sqrt(add({variance}, {_float32(site.number('epsilon', 1e-5))}))"
    return [f"add(mul(div({centred}, {spread}), {scale}), {shift})"]


def _float32(value: float) -> str:
    return repr(float(np.float32(value)))


def _conv(site: Site) -> list[str]:
    """Pads stand as top, left, bottom, right in ONNX, as top, bottom, left, right here."""
    channels, _, *kernel = site.shapes[1]
    top, left, bottom, right = site.listed("pads", [0, 0, 0, 0])
    product = (
        f"ops.Conv2D({channels}, {tuple(kernel)}, pad_mode='pad', pad={(top, bottom, left, right)}, "
        f"stride={tuple(site.listed('strides', [1, 1]))}, dilation={tuple(site.listed('dilations', [1, 1]))}, "
        f"group={site.number('group', 1)})({site.words[0]}, {site.words[1]})"
    )
    return [f"bias_add({product}, {site.words[2]})" if len(site.words) > 2 else product]


def _max_pool(site: Site) -> list[str]:
    """Padded beforehand with what no window takes, up to where the last window ends: that also rounds sizes up."""
    if set(site.listed("dilations", [1, 1])) != {1}:
        raise ValueError("a window with gaps")
    kernel, strides = site.listed("kernel_shape", []), site.listed("strides", [1, 1])
    top, left = site.listed("pads", [0, 0, 0, 0])[:2]
    height, width = (
        (cast("int", count) - 1) * stride + side
        for count, stride, side in zip(site.made[0][2:], strides, kernel, strict=True)
    )
    bottom, right = height - top - site.side(2), width - left - site.side(3)
    pads = tuple(max(pad, 0) for pad in (left, right, top, bottom))
    x = f"ops.pad({site.words[0]}, {pads}, value=float('-inf'))" if any(pads) else site.words[0]
    return [f"ops.MaxPool(kernel_size={tuple(kernel)}, strides={tuple(strides)}, pad_mode='valid')({x})"]


RULES: dict[str, Rule] = {
    "Add": _call("add"),
    "Concat": _concat,
    "Conv": _conv,
    "Div": _call("div"),
    "Erf": _call("ops.erf"),
    "Expand": _expand,
    "Flatten": _reshape,
    "Gather": _gather,
    "Gemm": _gemm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": _call("mul"),
    "Pow": _call("ops.pow"),
    "ReduceMean": _reduce_mean,
    "Relu": _call("ops.relu"),
    "Reshape": _reshape,
    "Sigmoid": _call("sigmoid"),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Sqrt": _call("ops.sqrt"),
    "Squeeze": _reshape,
    "Sub": _call("sub"),
    "Tanh": _call("tanh"),
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
