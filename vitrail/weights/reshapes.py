"""Named changes of layout, each a pair: foreign tensors to ours, and back.  Both directions are exact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Reshape:
    """read: their tensors (one, or several that we join) to ours.  write: ours to that many of theirs.

    Both raise ValueError for a tensor of another rank or of a size that does not divide.
    """

    name: str
    read: Callable[[Sequence[Array]], Array]
    write: Callable[[Array, int], Sequence[Array]]


def _ranked(array: Array, rank: int) -> Array:
    if array.ndim != rank:
        raise ValueError(f"rank {array.ndim}, needed is {rank}")
    return array


def _permuted(rank: int, read: tuple[int, ...], write: tuple[int, ...]) -> tuple[Any, Any]:
    return (
        lambda theirs: _ranked(theirs[0], rank).transpose(read),
        lambda ours, _: [_ranked(ours, rank).transpose(write)],
    )


def _stack(theirs: Sequence[Array]) -> Array:
    if len({part.shape for part in theirs}) != 1:
        raise ValueError(f"shapes {', '.join(str(part.shape) for part in theirs)} differ")
    return np.concatenate(theirs)


same = Reshape("same", lambda theirs: theirs[0], lambda ours, _: [ours])
transpose = Reshape("transpose", *_permuted(2, (1, 0), (1, 0)))  # (in, out) <-> (out, in)
conv = Reshape("conv", *_permuted(4, (3, 2, 0, 1), (2, 3, 1, 0)))  # HWIO <-> OIHW
rows = Reshape("rows", _stack, np.split)  # q, k, v <-> their rows one below the other
