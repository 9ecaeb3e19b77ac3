"""The whole way from pixels to logits, at several batch sizes; and how fast two models go it."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Sequence
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
    """A decoded picture (H, W, C) in 8 bits that a proof takes beside the generated ones.

    label: the place of its true class in the source's classes, None when that is not known.
    """

    pixels: NDArray[np.uint8]
    label: int | None = None


def digest(pixels: NDArray[np.uint8]) -> bytes:
    """SHA-256 of decoded pixels with their shape: by it a picture is known again, whatever file it came from."""
    shape = "x".join(map(str, pixels.shape))
    return hashlib.sha256(f"{shape}\0".encode() + np.ascontiguousarray(pixels).tobytes()).digest()


def answers(model: Model, pictures: Sequence[NDArray[np.uint8]], batches: Sequence[int]) -> list[Logits]:
    """Logits (N, K) of the pictures through the model's own policy, once for each batch size."""
    found: list[list[Logits]] = [[] for _ in batches]
    for start in range(0, len(pictures), WINDOW):
        window = np.stack([model.policy.pixels(picture) for picture in pictures[start : start + WINDOW]])
        for rows, batch in zip(found, batches, strict=True):
            for at in range(0, len(window), batch):
                rows.append(np.asarray(model.logits(model.policy.normalise(window[at : at + batch])), np.float64))
    return [np.concatenate(rows) if rows else np.zeros((0, len(model.classes))) for rows in found]


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
