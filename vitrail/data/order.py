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
    held = np.zeros(len(labels), bool)
    draw = words(seed, "split", 0, np.arange(len(labels)), 1)[:, 0]
    for label in range(count):
        mine = np.flatnonzero(labels == label)
        if not len(mine):
            continue  # a class that a given list names, without pictures
        if len(mine) < 2:
            raise DataError(
                "V407",
                f"class `{classes[label]}` has {len(mine)} picture, too few to hold one out",
                hint="add pictures, or give a validation folder as data.val",
            )
        take = min(max(1, round(part * len(mine))), len(mine) - 1)
        held[mine[np.argsort(draw[mine], kind="stable")[:take]]] = True
    return held
