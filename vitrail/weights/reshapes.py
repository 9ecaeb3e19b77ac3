"""Named changes of layout, each a pair: foreign tensors to ours, and back.  Both directions are exact.

Letters: D width of the input, E width of the output, h heads, d = D/h.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Reshape:
    """read: their tensors (one, or several that we join) to ours.  write: ours to that many of theirs, knowing heads.

    Both raise ValueError for a tensor of another rank or of a size that does not divide.
    """

    name: str
    read: Callable[[Sequence[Array]], Array]
    write: Callable[[Array, int, int], Sequence[Array]]


def _rank(array: Array, rank: int) -> Array:
    if array.ndim != rank:
        raise ValueError(f"an array of rank {rank} is meant, not {array.ndim}")
    return array


def _parts(array: Array, count: int) -> list[Array]:
    if array.ndim < 1 or array.shape[0] % count:
        raise ValueError(f"the first axis is no multiple of {count}")
    return np.split(array, count)


def _flat(array: Array) -> Array:
    """(1, 1, 1, C) -> (C,)"""
    if _rank(array, 4).shape[:3] != (1, 1, 1):
        raise ValueError(f"an array (1, 1, 1, C) is meant, not {array.shape}")
    return array.reshape(-1)


def _joined(arrays: Sequence[Array]) -> Array:
    if len({array.shape for array in arrays}) != 1:
        raise ValueError("the parts differ in shape")
    return np.concatenate(arrays)


def _by_heads(array: Array, heads: int) -> Array:
    """The last axis as (heads, width of one)."""
    if array.shape[-1] % heads:
        raise ValueError(f"the last axis is no multiple of the {heads} heads")
    return array.reshape(*array.shape[:-1], heads, -1)


def _projection(kernel: Array) -> Array:
    """(D, h, d) -> (h d, D)"""
    _rank(kernel, 3)
    return kernel.reshape(kernel.shape[0], -1).T


def _output(kernel: Array) -> Array:
    """(h, d, E) -> (E, h d)"""
    _rank(kernel, 3)
    return kernel.reshape(-1, kernel.shape[-1]).T


def _output_back(weight: Array, heads: int) -> Array:
    """(E, D) -> (h, d, E)"""
    if weight.shape[-1] % heads:
        raise ValueError(f"the last axis is no multiple of the {heads} heads")
    return _rank(weight, 2).T.reshape(heads, -1, weight.shape[0])


same = Reshape("same", lambda theirs: theirs[0], lambda ours, _, __: [ours])

# (D, E) -> (E, D)
transpose = Reshape("transpose", lambda t: _rank(t[0], 2).T, lambda ours, _, __: [_rank(ours, 2).T])

# kernel (rows, columns, in, out) -> (out, in, rows, columns)
convolution = Reshape(
    "convolution",
    lambda t: _rank(t[0], 4).transpose(3, 2, 0, 1),
    lambda ours, _, __: [_rank(ours, 4).transpose(2, 3, 1, 0)],
)

# q, k, v below each other
stack = Reshape("stack", _joined, lambda ours, count, _: _parts(ours, count))

# q, k, v (D, E) each -> (3 E, D)
stack_transposed = Reshape(
    "stack_transposed",
    lambda t: _joined([_rank(part, 2).T for part in t]),
    lambda ours, count, _: [part.T for part in _parts(_rank(ours, 2), count)],
)

# q, k, v (D, h, d) each -> (3 D, D)
stack_heads = Reshape(
    "stack_heads",
    lambda t: _joined([_projection(part) for part in t]),
    lambda ours, count, heads: [_by_heads(part.T, heads) for part in _parts(_rank(ours, 2), count)],
)

# q, k, v biases (h, d) each -> (3 D)
stack_head_biases = Reshape(
    "stack_head_biases",
    lambda t: _joined([_rank(part, 2) for part in t]).reshape(-1),
    lambda ours, count, heads: [_by_heads(part, heads) for part in _parts(_rank(ours, 1), count)],
)

# (h, d, E) -> (E, D)
output_heads = Reshape("output_heads", lambda t: _output(t[0]), lambda ours, _, heads: [_output_back(ours, heads)])

# (1, 1, 1, C) -> (C)
row = Reshape("row", lambda t: _flat(t[0]), lambda ours, _, __: [_rank(ours, 1)[None, None, None]])

# (D) or (N, D) -> (1, 1, D) or (1, N, D): tokens and positions without the axis of pictures
leading = Reshape(
    "leading",
    lambda t: t[0].reshape((1,) * (3 - t[0].ndim) + t[0].shape),
    lambda ours, _, __: [ours.reshape(ours.shape[-1:] if _rank(ours, 3).shape[1] == 1 else ours.shape[1:])],
)

# by name, for tables that users write
RESHAPES: dict[str, Reshape] = {
    reshape.name: reshape
    for reshape in (
        same, transpose, convolution, stack, stack_transposed, stack_heads, stack_head_biases, output_heads, row,
        leading,
    )
}  # fmt: skip
