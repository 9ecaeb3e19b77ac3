"""The whole way from pixels to logits, at several batch sizes; and how fast two models go it."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrail.pictures.predict import Model

Logits = NDArray[np.float64]

BATCHES = (1, 2, 7)
REST = 0.02  # seconds: the threads of the other side spin for a while after their work, and would be measured too
WINDOW = 42  # pictures prepared at a time: a multiple of every batch size


@dataclass(frozen=True)
class CheckPicture:
    """A picture that a proof takes beside the generated ones.

    read: gives it decoded (H, W, C) in 8 bits; called when its turn comes, so that one photo at a time is held.
    label: the place of its true class in the source's classes, None when that is not known.
    """

    read: Callable[[], NDArray[np.uint8]]
    label: int | None = None

    @classmethod
    def of(cls, pixels: NDArray[np.uint8], label: int | None = None) -> CheckPicture:
        """A picture that is decoded already."""
        return cls(lambda: pixels, label)


@dataclass(frozen=True, eq=False)
class Answers:
    """Logits (N, K) of each model, one a batch size, and the digests of the pictures."""

    logits: tuple[list[Logits], ...]
    digests: tuple[bytes, ...]


def digest(pixels: NDArray[np.uint8]) -> bytes:
    """SHA-256 of decoded pixels with their shape: by it a picture is known again, whatever file it came from."""
    shape = "x".join(map(str, pixels.shape))
    return hashlib.sha256(f"{shape}\0".encode() + np.ascontiguousarray(pixels).tobytes()).digest()


def answers(runs: Sequence[tuple[Model, Sequence[int]]], pictures: Sequence[CheckPicture]) -> Answers:
    """What each model says of the pictures, the whole way through its own policy, at each of its batch sizes.

    runs: models with their batch sizes. Every picture is decoded once; what its `read` raises passes through.
    """
    found: list[list[list[Logits]]] = [[[] for _ in batches] for _, batches in runs]
    digests: list[bytes] = []
    for start in range(0, len(pictures), WINDOW):
        sized: list[list[NDArray[np.uint8]]] = [[] for _ in runs]
        for picture in pictures[start : start + WINDOW]:
            pixels = picture.read()
            digests.append(digest(pixels))
            for rows, (model, _) in zip(sized, runs, strict=True):
                rows.append(model.policy.pixels(pixels))
        for (model, batches), window, parts in zip(runs, sized, found, strict=True):
            for batch, part in zip(batches, parts, strict=True):
                part += _logits(model, np.stack(window), batch)
    empty = [np.zeros((0, len(model.classes))) for model, _ in runs]
    whole = [[np.concatenate(p) if p else none for p in parts] for parts, none in zip(found, empty, strict=True)]
    return Answers(tuple(whole), tuple(digests))


def _logits(model: Model, window: NDArray[np.uint8], batch: int) -> list[Logits]:
    parts = (window[at : at + batch] for at in range(0, len(window), batch))
    return [np.asarray(model.logits(model.policy.normalise(part)), np.float64) for part in parts]


def speed(source: Model, candidate: Model, *, batch: int = 1, rounds: int = 15) -> float:
    """How many times faster `candidate` answers than `source`: the ratio of two medians, measured in turns."""
    inputs = source.policy.normalise(np.zeros((batch, *source.policy.size, source.policy.channels), np.uint8))
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 2):
        for times, model in zip(taken, (source, candidate), strict=True):
            time.sleep(REST)
            model.logits(inputs)
            start = time.perf_counter()
            model.logits(inputs)
            if turn >= 2:  # the first two warm caches up
                times.append(time.perf_counter() - start)
    return statistics.median(taken[0]) / statistics.median(taken[1])
