"""The operators a graph may have, and how big each of its values becomes: worked out before an engine gives memory.

One function an operator gives the shapes of its outputs, for a batch of `BATCH`; short integer values are followed
too, because exporters compute shapes with them.  Operators that loop or call are on no list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrail.engines.graph import Graph, Node, Tensor, Value, damaged

BATCH = 8
LARGEST = BATCH << 27  # elements of one value: half a gibibyte of float32 for one picture
TOTAL = BATCH << 32  # elements of all values together
FOLLOWED = 64  # elements of an integer value that is followed


@dataclass(frozen=True)
class Known:
    """What is known of a value: its shape, and its content where it is a short list of integers."""

    shape: tuple[int, ...]
    value: NDArray[np.int64] | None = None


Rule = Callable[[Node, list[Known]], list[Known]]


def check_sizes(graph: Graph) -> None:
    """BundleError V505 for an operator that is not in `RULES`, shapes that do not fit, or a value beyond the limits."""
    follow(graph)


def follow(graph: Graph, batch: int = BATCH) -> dict[str, Known]:
    """What is known of every value when the graph is given so many pictures; BundleError V505 as `check_sizes`."""
    known = {"": Known(())}
    known |= {name: _stored(tensor) for name, tensor in graph.constants.items()}
    for end in graph.inputs:
        known[end.name] = Known(tuple(batch if side is None else side for side in end.shape))
    total = 0
    for place, node in enumerate(graph.nodes):
        for name, found in zip(node.outputs, _outputs(node, place, known), strict=False):
            size = math.prod(found.shape)
            total += size
            if size > LARGEST or total > TOTAL:
                raise damaged(f"node {place} ({node.kind}) makes {found.shape}, which exceeds the memory allowed")
            known[name] = found
    for end in graph.outputs:
        if known[end.name].shape != tuple(batch if side is None else side for side in end.shape):
            raise damaged(f"its output is declared {end.shape} and has the shape {known[end.name].shape}")
    return known


def _outputs(node: Node, place: int, known: dict[str, Known]) -> list[Known]:
    if node.kind not in RULES:
        raise damaged(f"the operator `{node.kind[:40]}` is not on the list of allowed ones")
    try:
        found = RULES[node.kind](node, [known[name] for name in node.inputs])
    except (ValueError, IndexError, TypeError, AttributeError, ArithmeticError, MemoryError) as error:
        raise damaged(f"the shapes at node {place} ({node.kind}) do not fit") from error
    if len(found) < len(node.outputs) or any(side < 0 for item in found for side in item.shape):
        raise damaged(f"the shapes at node {place} ({node.kind}) do not fit")
    return found


def _stored(tensor: Tensor) -> Known:
    return _constant(tensor.array()) if math.prod(tensor.shape) <= FOLLOWED else Known(tensor.shape)


def _constant(array: NDArray[np.generic]) -> Known:
    small = array.dtype.kind in "iu" and array.size <= FOLLOWED
    return Known(array.shape, array.astype(np.int64) if small else None)


def _integers(value: Value, default: list[int]) -> list[int]:
    if value is None:
        return default
    if not isinstance(value, list) or not all(isinstance(item, int) for item in value):
        raise ValueError("no list of integers")
    return [int(item) for item in value]


def _integer(value: Value, default: int) -> int:
    if value is None:
        return default
    if not isinstance(value, int):
        raise TypeError("no integer")
    return value


def _content(known: Known) -> list[int]:
    if known.value is None:
        raise ValueError("a shape that is not known beforehand")
    return [int(item) for item in known.value.reshape(-1)]


def _same(node: Node, given: list[Known]) -> list[Known]:
    return [Known(given[0].shape)]


def _copied(node: Node, given: list[Known]) -> list[Known]:
    return [given[0]]


def _together(node: Node, given: list[Known]) -> list[Known]:
    shape = np.broadcast_shapes(*(item.shape for item in given))
    a, b = given[0].value, given[-1].value
    if a is None or b is None or len(given) != 2 or math.prod(shape) > FOLLOWED:
        return [Known(shape)]
    compute = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.floor_divide}.get(node.kind)
    return [Known(shape, None if compute is None or (node.kind == "Div" and not b.all()) else compute(a, b))]


def _shape(node: Node, given: list[Known]) -> list[Known]:
    start, end = _integer(node.attributes.get("start"), 0), _integer(node.attributes.get("end"), len(given[0].shape))
    value = np.array(given[0].shape[start:end], np.int64)
    return [Known(value.shape, value)]


def _given_constant(node: Node, given: list[Known]) -> list[Known]:
    value = node.attributes.get("value", node.attributes.get("value_int", node.attributes.get("value_ints")))
    if value is None or isinstance(value, bytes):
        return [Known(())]
    return [_constant(np.asarray(value))]


def _concat(node: Node, given: list[Known]) -> list[Known]:
    axis = _axis(_integer(node.attributes.get("axis"), 0), len(given[0].shape))
    shape = list(given[0].shape)
    shape[axis] = sum(item.shape[axis] for item in given)
    if any(item.shape[:axis] + item.shape[axis + 1 :] != tuple(shape[:axis] + shape[axis + 1 :]) for item in given):
        raise ValueError("other sides")
    values = [item.value for item in given if item.value is not None]
    followed = len(values) == len(given) and math.prod(shape) <= FOLLOWED
    return [Known(tuple(shape), np.concatenate(values, axis) if followed else None)]


def _gather(node: Node, given: list[Known]) -> list[Known]:
    data, index = given
    axis = _axis(_integer(node.attributes.get("axis"), 0), len(data.shape))
    shape = data.shape[:axis] + index.shape + data.shape[axis + 1 :]
    if data.value is None or index.value is None or math.prod(shape) > FOLLOWED:
        return [Known(shape)]
    return [Known(shape, np.take(data.value, index.value, axis))]


def _slice(node: Node, given: list[Known]) -> list[Known]:
    starts, ends = _content(given[1]), _content(given[2])
    rank = len(given[0].shape)
    axes = _content(given[3]) if len(given) > 3 and node.inputs[3] else list(range(len(starts)))
    steps = _content(given[4]) if len(given) > 4 else [1] * len(starts)
    cut = [slice(None)] * rank
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        cut[_axis(axis, rank)] = (
            slice(start, end, step) if step > 0 else slice(start, None if end < -rank else end, step)
        )
    shape = tuple(len(range(*part.indices(side))) for part, side in zip(cut, given[0].shape, strict=True))
    value = given[0].value
    return [Known(shape, None if value is None else value[tuple(cut)])]


def _squeeze(node: Node, given: list[Known]) -> list[Known]:
    rank = len(given[0].shape)
    axes = {_axis(axis, rank) for axis in _content(given[1])} if len(given) > 1 else set(range(rank))
    if len(given) > 1 and any(given[0].shape[axis] != 1 for axis in axes):
        raise ValueError("a side that is not 1")
    return [_reshaped(given[0], [s for i, s in enumerate(given[0].shape) if i not in axes or s != 1])]


def _unsqueeze(node: Node, given: list[Known]) -> list[Known]:
    rank = len(given[0].shape) + len(_content(given[1]))
    axes = {_axis(axis, rank) for axis in _content(given[1])}
    sides = iter(given[0].shape)
    return [_reshaped(given[0], [1 if i in axes else next(sides, -1) for i in range(rank)])]


def _reshape(node: Node, given: list[Known]) -> list[Known]:
    sides = _content(given[1])
    if not _integer(node.attributes.get("allowzero"), 0):
        sides = [given[0].shape[i] if side == 0 else side for i, side in enumerate(sides)]
    if sides.count(-1) == 1:
        sides[sides.index(-1)] = math.prod(given[0].shape) // -math.prod(sides)
    if math.prod(sides) != math.prod(given[0].shape):
        raise ValueError("another number of elements")
    return [_reshaped(given[0], sides)]


def _reshaped(item: Known, sides: Sequence[int]) -> Known:
    return Known(tuple(sides), None if item.value is None else item.value.reshape(tuple(sides)))


def _flatten(node: Node, given: list[Known]) -> list[Known]:
    axis = _integer(node.attributes.get("axis"), 1)
    return [Known((math.prod(given[0].shape[:axis]), math.prod(given[0].shape[axis:])))]


def _expand(node: Node, given: list[Known]) -> list[Known]:
    sides = [max(side, 0) for side in _content(given[1])]
    if math.prod(sides) > LARGEST:
        raise ValueError("too large")
    return [Known(np.broadcast_shapes(given[0].shape, tuple(sides)))]


def _transpose(node: Node, given: list[Known]) -> list[Known]:
    rank = len(given[0].shape)
    order = _integers(node.attributes.get("perm"), list(range(rank))[::-1])
    if sorted(order) != list(range(rank)):
        raise ValueError("no permutation")
    return [Known(tuple(given[0].shape[i] for i in order))]


def _split(node: Node, given: list[Known]) -> list[Known]:
    axis, count = _axis(_integer(node.attributes.get("axis"), 0), len(given[0].shape)), len(node.outputs)
    side = given[0].shape[axis]
    sides = _content(given[1]) if len(given) > 1 and node.inputs[1] else [-(-side // count)] * (count - 1)
    sides += [side - sum(sides)] if len(sides) < count else []
    if sum(sides) != side:
        raise ValueError("parts that are not the whole")
    return [Known((*given[0].shape[:axis], part, *given[0].shape[axis + 1 :])) for part in sides]


def _matmul(node: Node, given: list[Known]) -> list[Known]:
    a, b = (item.shape for item in given)
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise ValueError("sides that cannot be multiplied")
    return [Known((*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]))]


def _gemm(node: Node, given: list[Known]) -> list[Known]:
    a, b = given[0].shape, given[1].shape
    a = a[::-1] if _integer(node.attributes.get("transA"), 0) else a
    b = b[::-1] if _integer(node.attributes.get("transB"), 0) else b
    if len(a) != 2 or len(b) != 2 or a[1] != b[0]:
        raise ValueError("sides that cannot be multiplied")
    return [Known((a[0], b[1]))]


def _window(node: Node, given: list[Known]) -> list[Known]:
    """Convolutions and pools, without the automatic paddings that our exporter does not write."""
    settings, shape = node.attributes, given[0].shape
    ceil = _integer(settings.get("ceil_mode"), 0)
    if settings.get("auto_pad", b"NOTSET") != b"NOTSET" or len(shape) != 4 or ceil not in (0, 1):
        raise ValueError("a form that is not used")
    kernel = list(given[1].shape[2:]) if node.kind == "Conv" else _integers(settings.get("kernel_shape"), [])
    strides = _integers(settings.get("strides"), [1, 1])
    dilations = _integers(settings.get("dilations"), [1, 1])
    pads = _integers(settings.get("pads"), [0, 0, 0, 0])
    if len(kernel) != 2 or len(pads) != 4 or min(*kernel, *strides, *dilations) < 1 or min(pads) < 0:
        raise ValueError("a window that is none")
    channels = given[1].shape[0] if node.kind == "Conv" else shape[1]
    sides = []
    for size, side, stride, dilation, before, after in zip(
        shape[2:], kernel, strides, dilations, pads[:2], pads[2:], strict=True
    ):
        room = size + before + after - dilation * (side - 1) - 1
        count = (-(-room // stride) if ceil else room // stride) + 1
        # rounded up: a window that would begin behind the picture is none
        sides.append(count - bool(ceil and (count - 1) * stride >= size + before))
    return [Known((shape[0], channels, *sides))]


def _reduce(node: Node, given: list[Known]) -> list[Known]:
    rank = len(given[0].shape)
    axes = _content(given[1]) if len(given) > 1 else _integers(node.attributes.get("axes"), list(range(rank)))
    gone = {_axis(axis, rank) for axis in axes}
    kept = _integer(node.attributes.get("keepdims"), 1)
    return [Known(tuple(1 if i in gone else s for i, s in enumerate(given[0].shape) if kept or i not in gone))]


def _top(node: Node, given: list[Known]) -> list[Known]:
    shape = list(given[0].shape)
    axis, (count,) = _axis(_integer(node.attributes.get("axis"), -1), len(shape)), _content(given[1])
    if not 0 <= count <= shape[axis]:
        raise ValueError("more than there are")
    shape[axis] = count
    return [Known(tuple(shape)), Known(tuple(shape))]


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise IndexError("no such axis")
    return axis % rank


RULES: dict[str, Rule] = {
    "Add": _together,
    "Cast": _copied,
    "Concat": _concat,
    "Constant": _given_constant,
    "Conv": _window,
    "DequantizeLinear": _same,
    "Div": _together,
    "Erf": _same,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _same,
    "Gemm": _gemm,
    "Identity": _copied,
    "InstanceNormalization": _same,
    "LayerNormalization": _same,
    "MatMul": _matmul,
    "MaxPool": _window,
    "Mul": _together,
    "Pow": _together,
    "QuantizeLinear": _same,
    "ReduceMean": _reduce,
    "Relu": _same,
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": _same,
    "Slice": _slice,
    "Softmax": _same,
    "Split": _split,
    "Sqrt": _same,
    "Squeeze": _squeeze,
    "Sub": _together,
    "Tanh": _same,
    "TopK": _top,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
