"""The whole way from pixels to logits, of several models over the same pictures, at several batch sizes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrail.pictures.predict import Model, logits_of

Logits = NDArray[np.float64]

BATCHES = (1, 2, 7)
WINDOW = 42  # pictures prepared at a time: a multiple of every batch size


@dataclass(frozen=True)
class CheckPicture:
    """A picture that a proof takes beside the generated ones.

    read: gives it decoded (H, W, C) in 8 bits, or the bytes of a file, which each model's policy then decodes; called
    when its turn comes, so that one photo at a time is held.
    label: the place of its true class in the source's classes, None when that is not known.
    """

    read: Callable[[], NDArray[np.uint8] | bytes]
    label: int | None = None

    @classmethod
    def of(cls, picture: NDArray[np.uint8] | bytes, label: int | None = None) -> CheckPicture:
        """A picture that is at hand: decoded, or the bytes of a file."""
        return cls(lambda: picture, label)


Run = tuple[Model, Sequence[int]]  # a model and its batch sizes


@dataclass(frozen=True, eq=False)
class Answers:
    """Logits (N, K) of each model, one a batch size, and the digests of the pictures."""

    logits: tuple[list[Logits], ...]
    digests: tuple[bytes, ...]


def digest(pixels: NDArray[np.uint8] | bytes) -> bytes:
    """SHA-256 of decoded pixels with their shape: by it a picture is known again, whatever file it came from; of the
    bytes of a file where that is what is asked about.
    """
    if isinstance(pixels, bytes):
        return hashlib.sha256(pixels).digest()
    shape = "x".join(map(str, pixels.shape))
    return hashlib.sha256(f"{shape}\0".encode() + np.ascontiguousarray(pixels).tobytes()).digest()


def answers(runs: Sequence[Run], pictures: Sequence[CheckPicture]) -> Answers:
    """What each model says of the pictures, the whole way through its own policy, at each of its batch sizes.

    Every picture is decoded once; what its `read` raises passes through.
    """
    parts = list(in_windows(runs, pictures))

    def joined(i: int, j: int) -> Logits:
        empty = np.zeros((0, len(runs[i][0].classes)))
        return np.concatenate([empty, *(part.logits[i][j] for part in parts)])

    whole = tuple([joined(i, j) for j in range(len(batches))] for i, (_, batches) in enumerate(runs))
    return Answers(whole, tuple(one for part in parts for one in part.digests))


def in_windows(runs: Sequence[Run], pictures: Sequence[CheckPicture]) -> Iterator[Answers]:
    """The same, of some pictures at a time, for more of them than memory bears."""
    for start in range(0, len(pictures), WINDOW):
        sized: list[list[NDArray[np.uint8]]] = [[] for _ in runs]
        digests: list[bytes] = []
        for picture in pictures[start : start + WINDOW]:
            pixels = picture.read()
            digests.append(digest(pixels))
            for rows, (model, _) in zip(sized, runs, strict=True):
                rows.append(model.policy.pixels(pixels))
        windows = [np.stack(rows) for rows in sized]
        yield Answers(
            tuple(
                [_logits(model, window, batch) for batch in batches]
                for (model, batches), window in zip(runs, windows, strict=True)
            ),
            tuple(digests),
        )


def _logits(model: Model, window: NDArray[np.uint8], batch: int) -> Logits:
    parts = (window[at : at + batch] for at in range(0, len(window), batch))
    return np.concatenate([np.asarray(logits_of(model, part), np.float64) for part in parts])
