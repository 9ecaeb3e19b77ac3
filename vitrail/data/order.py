"""Which picture comes when, and which are held out: pure functions of the seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitrail.data.configs import Data
from vitrail.errors import DataError
from vitrail.randomness import permutation, words


def epoch_order(indices: NDArray[np.int64], *, seed: int, epoch: int) -> NDArray[np.int64]:
    """`indices` in the order of one epoch."""
    return indices[permutation(seed, "order", epoch, len(indices))]


class Samples(NamedTuple):
    """One epoch: which picture comes at each place, and the key (N,) that its augmentation is drawn by.

    A key is the picture's index, or for the n-th time in one epoch another number that only it has.
    """

    indices: NDArray[np.int64]
    keys: NDArray[np.int64]


def epoch_samples(
    data: Data, indices: NDArray[np.int64], labels: NDArray[np.int64], *, seed: int, epoch: int
) -> Samples:
    """The pictures of one epoch, as many as `indices`, by `data.sampling` and `data.repeats`. labels: of all pictures.

    Repeats stand side by side, as in DeiT (timm's RepeatAugSampler, which rounds the epoch down to 256 pictures; here
    it keeps its length), so an epoch shows 1 / repeats of the pictures.
    """
    balanced = data.sampling == "balanced"
    order = (balanced_order(indices, labels, seed=seed, epoch=epoch) if balanced
             else epoch_order(indices, seed=seed, epoch=epoch))  # fmt: skip
    if data.repeats > 1:
        order = np.repeat(order, data.repeats)[: len(indices)]
    elif not balanced:
        return Samples(order, order)
    return Samples(order, order + len(labels) * _times_before(order))


def part_of(count: int, *, rank: int, size: int, paired: bool) -> NDArray[np.int64]:
    """The places in a batch of `count` that one of `size` ranks takes, ascending; each is taken by one rank.

    paired: with each place i also count - 1 - i, its partner in mixing, so that the partner of a rank's i-th picture is
    its i-th from the end. Ranks take equally many, or one more (paired: up to two more).

    >>> [part_of(7, rank=rank, size=2, paired=True).tolist() for rank in (0, 1)]
    [[2, 3, 4], [0, 1, 5, 6]]
    """
    if not paired:
        return np.array_split(np.arange(count), size)[rank]
    firsts = np.array_split(np.arange((count + 1) // 2)[::-1], size)[rank]  # the middle one, alone, with most others
    return np.union1d(firsts, count - 1 - firsts)


def balanced_order(
    indices: NDArray[np.int64], labels: NDArray[np.int64], *, seed: int, epoch: int
) -> NDArray[np.int64]:
    """As many pictures as `indices`, each class equally often or once more; within a class no picture is ahead of
    another by more than once."""
    classes = np.unique(labels[indices])
    quotas = np.full(len(classes), len(indices) // len(classes))
    quotas[permutation(seed, "balance", epoch, len(classes))[: len(indices) % len(classes)]] += 1
    chosen = []
    for label, quota in zip(classes, quotas.tolist(), strict=True):
        mine = indices[labels[indices] == label]
        rounds = -(-quota // len(mine))
        turns = np.argsort(words(seed, "balance", epoch, mine, rounds), axis=0, kind="stable")
        chosen.append(mine[turns.T.reshape(-1)[:quota]])
    return np.concatenate(chosen)[permutation(seed, "order", epoch, len(indices))]


def _times_before(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each entry stood before."""
    by_value = np.argsort(order, kind="stable")
    ordered = order[by_value]
    firsts = np.flatnonzero(np.diff(ordered, prepend=-1))
    lengths = np.diff(firsts, append=len(order))
    times = np.empty_like(order)
    times[by_value] = np.arange(len(order)) - np.repeat(firsts, lengths)
    return times


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
