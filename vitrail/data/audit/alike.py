"""Copies: equal by content, or so alike that one was made of the other.

Near copies are found in two steps. First the 64-bit difference hashes of all pictures: pairs within `DISTANCE` bits,
all of them, by an index of four words of 16 bits (two hashes at most 11 bits apart have a word at most 2 bits apart).
Then the grey thumbs of each such pair: the best correlation of one with a window of the other, so that a slight crop
still matches; from `ALIKE` on they count as near copies. Pictures below `SMALLEST` pixels, and those without contrast,
say too little and are not compared.

Chosen by a measured trade-off: docs/guides/data-audit.md has the figures, `bench/near_copies.py` measures them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from vitrail.data.looks import THUMB, Look, windows

DISTANCE = 11  # bits; the index is complete up to 11
ALIKE = 0.92
SMALLEST = 32  # pixels of the short side
CONTRAST = 4.0  # standard deviation of a thumb, in grey levels
_PLAIN = 0.6  # correlation of unmoved thumbs below which no window was ever seen to reach ALIKE
_WORDS, _WORD = 4, 16
_AT_ONCE = 1 << 22  # pairs held in memory at a time

Ints = NDArray[np.int64]
Pairs = tuple[Ints, Ints, NDArray[np.float64]]


def same(looks: Sequence[Look]) -> list[tuple[int, ...]]:
    """Groups of pictures with equal content, each in order, ordered by their first."""
    groups: dict[str, list[int]] = {}
    for index, seen in enumerate(looks):
        if seen.content:
            groups.setdefault(seen.content, []).append(index)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def near(looks: Sequence[Look]) -> Pairs:
    """Pairs (first, second) of near copies with their likeness, most alike first. Of equal contents one stands for all.

    first < second by index; both good, and neither blank.
    """
    seen: set[str] = set()
    chosen = []
    for index, one in enumerate(looks):
        if one.good and not one.blank and min(one.width, one.height) >= SMALLEST and one.content not in seen:
            seen.add(one.content)
            chosen.append(index)
    grey = np.frombuffer(b"".join(looks[i].thumb for i in chosen), np.uint8).reshape(len(chosen), THUMB * THUMB)
    clear = grey.std(axis=1) >= CONTRAST
    indices, thumbs = np.array(chosen, np.int64)[clear], standard(grey[clear])
    hashes = np.array([looks[i].hash for i in indices], np.uint64)
    first, second = close(hashes, DISTANCE)
    likeness = alikeness(thumbs, first, second)
    kept = likeness >= ALIKE
    first, second, likeness = indices[first[kept]], indices[second[kept]], likeness[kept]
    order = np.lexsort((second, first, -np.round(likeness, 3)))
    return first[order], second[order], likeness[order]


def close(hashes: NDArray[np.uint64], distance: int) -> tuple[Ints, Ints]:
    """All pairs i < j of hashes at most `distance` bits apart, in order.

    >>> close(np.array([0, 0b111, 2**64 - 1], np.uint64), 3)
    (array([0]), array([1]))
    """
    assert distance < _WORDS * 3, "a word of a close pair could differ by more than two bits"
    found = [np.zeros(0, np.int64)]
    for word in range(_WORDS):
        keys = ((hashes >> np.uint64(_WORD * word)) & np.uint64(0xFFFF)).astype(np.int64)
        for i, j in _candidates(keys):
            near_enough = _bits(hashes[i] ^ hashes[j]) <= distance
            found.append(i[near_enough] * len(hashes) + j[near_enough])
    pairs = np.unique(np.concatenate(found))
    return pairs // max(len(hashes), 1), pairs % max(len(hashes), 1)


def _candidates(keys: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Pairs i < j whose 16-bit keys differ by at most two bits, in parts that fit into memory."""
    order = np.argsort(keys, kind="stable")
    starts = np.searchsorted(keys[order], np.arange((1 << _WORD) + 1))
    everyone = np.arange(len(keys))
    for mask in _masks():
        wanted = keys ^ mask
        low, count = starts[wanted], starts[wanted + 1] - starts[wanted]
        ends = np.cumsum(count)
        cuts = np.searchsorted(ends, np.arange(_AT_ONCE, ends[-1] if len(ends) else 0, _AT_ONCE))
        for part in np.split(everyone, np.unique(cuts)):
            many = count[part]
            i = np.repeat(part, many)
            within = np.arange(len(i)) - np.repeat(np.cumsum(many) - many, many)
            j = order[np.repeat(low[part], many) + within]
            kept = i < j
            yield i[kept], j[kept]


def _masks() -> list[int]:
    ones = [1 << bit for bit in range(_WORD)]
    return [0, *ones, *(one | other for one, other in combinations(ones, 2))]


def _bits(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """How many bits of each word are set; NumPy has it from version 2 on."""
    counts = _SET[words.view(np.uint16).reshape(-1, 4)]
    return np.asarray(counts.sum(axis=1, dtype=np.int64))


_SET = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)


def standard(thumbs: NDArray[np.generic]) -> NDArray[np.float32]:
    """Each row less its mean, at length one."""
    rows = thumbs.astype(np.float32)
    rows -= rows.mean(axis=-1, keepdims=True)
    rows /= np.maximum(np.sqrt((rows * rows).sum(axis=-1, keepdims=True)), np.float32(1e-6))
    return rows


def alikeness(thumbs: NDArray[np.float32], first: Ints, second: Ints) -> NDArray[np.float64]:
    """The best correlation of each pair, over the windows of either; 0 where the unmoved thumbs share little."""
    likeness = np.zeros(len(first))
    plain = np.concatenate(
        [(thumbs[first[part]] * thumbs[second[part]]).sum(axis=1) for part in _parts(len(first), 1 << 16)]
    )
    places = np.flatnonzero(plain >= _PLAIN)
    for part in _parts(len(places), 32):
        mine = places[part]
        one, other = thumbs[first[mine]], thumbs[second[mine]]
        likeness[mine] = np.maximum(plain[mine], np.maximum(_best(one, other), _best(other, one)))
    return likeness


def _best(whole: NDArray[np.float32], part: NDArray[np.float32]) -> NDArray[np.float32]:
    """The best correlation of each row of `part` with a window of the same row of `whole`."""
    if not len(whole):
        return np.zeros(0, np.float32)
    moved = (windows() @ whole.T).reshape(-1, THUMB * THUMB, len(whole))  # (W, cells, rows)
    moved -= moved.mean(axis=1, keepdims=True)
    size = np.sqrt(np.einsum("wcr,wcr->wr", moved, moved))
    return np.asarray((np.einsum("wcr,rc->wr", moved, part) / np.maximum(size, np.float32(1e-6))).max(axis=0))


def _parts(total: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, max(total, 1), size)]


def joined(first: Ints, second: Ints) -> list[tuple[int, ...]]:
    """Pairs joined into groups: whoever is a near copy of one of a group belongs to it. In order of first pairs."""
    parent: dict[int, int] = {}

    def root(index: int) -> int:
        while (above := parent.setdefault(index, index)) != index:
            parent[index] = parent[above]
            index = above
        return index

    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        parent[root(j)] = root(i)
    groups: dict[int, set[int]] = {}
    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        groups.setdefault(root(i), set()).update((i, j))
    return [tuple(sorted(group)) for group in groups.values()]
