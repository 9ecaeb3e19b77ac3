"""One seed, many named streams: every random number is a pure function of (seed, stream, where it is used).

A sample's numbers depend on (seed, stream, epoch, index) alone, never on worker, batch or history. So a resume needs
no saved generator state, and a new use of randomness disturbs no old one.

The mixer is SplitMix64's finaliser (Steele, Lea, Flood 2014), applied to a chain of words; all of it is uint64
arithmetic, equal on every platform and NumPy version.
"""

from __future__ import annotations

import functools
import hashlib
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# init: new weights. order: permutation of an epoch. split: held-out samples. drop: masks of one step.
# balance: which pictures of a class an epoch takes. mix: of one step.
# adapter: new low-rank matrices.
# The others are drawn per sample: crop, interpolation (of the crop), flip, upside_down, auto and jitter (operations),
# erase (boxes), noise (what fills them), replace (what stands in for a bad one).
Stream = Literal[
    "init", "order", "balance", "split", "drop", "mix", "crop", "interpolation", "flip", "upside_down", "auto",
    "jitter", "erase", "noise", "replace", "adapter",
]  # fmt: skip

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MUL1 = np.uint64(0xBF58476D1CE4E5B9)
_MUL2 = np.uint64(0x94D049BB133111EB)


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = (words ^ (words >> np.uint64(30))) * _MUL1
    words = (words ^ (words >> np.uint64(27))) * _MUL2
    return words ^ (words >> np.uint64(31))


def key(seed: int, stream: Stream, *where: int) -> int:
    """A 64-bit key for one place: `key(seed, "drop", step)` seeds a generator for that step."""
    text = "/".join([str(seed), stream, *map(str, where)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def words(seed: int, stream: Stream, epoch: int, indices: NDArray[np.int64], count: int) -> NDArray[np.uint64]:
    """Random 64-bit words (len(indices), count), row i a function of (seed, stream, epoch, indices[i]) alone."""
    start = np.uint64(key(seed, stream, epoch))
    rows = _mix(_mix(indices.astype(np.uint64) * _GAMMA + start) + _GAMMA)  # arrays wrap around without a warning
    columns = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
    return _mix(rows[:, None] + columns[None, :])


def uniforms(seed: int, stream: Stream, epoch: int, indices: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), shaped (len(indices), count), 53 bits each.

    >>> uniforms(0, "flip", 0, np.array([7]), 2).round(6).tolist()
    [[0.534892, 0.814737]]
    """
    return (words(seed, stream, epoch, indices, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normals(seed: int, stream: Stream, epoch: int, indices: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """Normal numbers of mean 0 and deviation 1, shaped (len(indices), count), each one of 65,536 equally likely ones.

    >>> normals(0, "noise", 0, np.array([7]), 3).astype(float).round(4).tolist()
    [[0.8048, -1.5169, 0.4507]]
    """
    bits = words(seed, stream, epoch, indices, -(-count // 4)).astype("<u8", copy=False).view("<u2")
    numbers: NDArray[np.float32] = _quantiles()[bits[:, :count]]
    return numbers


@functools.cache
def _quantiles() -> NDArray[np.float32]:
    normal = NormalDist()
    return np.array([normal.inv_cdf((step + 0.5) / 65536) for step in range(65536)], np.float32)


def permutation(seed: int, stream: Stream, epoch: int, count: int) -> NDArray[np.int64]:
    """A permutation of range(count), a pure function of its arguments."""
    return np.argsort(words(seed, stream, epoch, np.arange(count), 1)[:, 0], kind="stable").astype(np.int64)


def generator(seed: int, stream: Stream, *where: int) -> np.random.Generator:
    """A NumPy generator for one place, for draws that are not uniform (the Beta of mixup)."""
    return np.random.Generator(np.random.Philox(key=key(seed, stream, *where)))
