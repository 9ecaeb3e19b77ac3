"""Which picture comes when, and which are held out: pure functions of the seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import DataError
from vitrail.randomness import permutation, words


def epoch_order(indices: NDArray[np.int64], *, seed: int, epoch: int) -> NDArray[np.int64]:
    """`indices` in the order of one epoch."""
    return indices[permutation(seed, "order", epoch, len(indices))]


def split(
    labels: NDArray[np.int64], count: int, *, part: float, seed: int, classes: Sequence[str]
) -> NDArray[np.bool_]:
    """Which pictures are held out: `part` of each class, at least one, at most all but one.

    A picture's place in the draw depends on (seed, its index) alone. DataError V407 for a class of one picture.
    """
    draw = words(seed, "split", 0, np.arange(len(labels)), 1)[:, 0]
    sizes = np.bincount(labels, minlength=count)  # a class that a given list names may have no picture
    if (sizes == 1).any():
        raise DataError(
            "V407",
            f"class `{classes[int(np.argmax(sizes == 1))]}` has 1 picture, too few to hold one out",
            hint="add pictures, or give a validation folder as data.val",
        )
    take = np.minimum(np.maximum(1, np.rint(part * sizes).astype(np.int64)), sizes - 1)
    order = np.lexsort((draw, labels))  # class by class, in each by the draw; of equals the first
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    held = np.zeros(len(labels), bool)
    held[order] = rank < np.repeat(take, sizes)
    return held
