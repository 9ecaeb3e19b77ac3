"""How fast models answer, measured in turns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vitrail import machine
from vitrail.pictures.predict import Model, taken

WARM, ROUNDS = 10, 100  # rounds that are not counted, and that are: the protocol of the model zoo's speed test
FEW = 9  # rounds for a figure in passing
SAMPLES = 10_000


class Ratio(NamedTuple):
    """A median with bounds of 95 %."""

    median: float
    low: float
    high: float


def in_turns(models: Sequence[Model], *, batch: int = 1, rounds: int = FEW, warm: int = 2) -> list[list[float]]:
    """Seconds of each model for a batch of black pictures in each round; in every round each has its turn."""
    black = (np.zeros((batch, *model.policy.size, model.policy.channels), np.uint8) for model in models)
    inputs = [taken(model, pixels) for model, pixels in zip(models, black, strict=True)]
    seconds: list[list[float]] = [[] for _ in models]
    for turn in range(rounds + warm):
        for times, model, pictures in zip(seconds, models, inputs, strict=True):
            time.sleep(machine.LONG_REST if len(models) > 1 else 0)
            model.logits(pictures)
            start = time.perf_counter()
            model.logits(pictures)
            if turn >= warm:
                times.append(time.perf_counter() - start)
    return seconds


def ratio(source: Sequence[float], candidate: Sequence[float]) -> Ratio:
    """How many times faster the candidate was, round by round: bounds are of bootstrap samples of the median.

    >>> ratio([2.0, 2.0, 2.0], [1.0, 1.0, 1.0])
    Ratio(median=2.0, low=2.0, high=2.0)
    """
    paired = np.array(source) / np.array(candidate)
    picks = np.random.default_rng(0).integers(0, len(paired), (SAMPLES, len(paired)))
    low, high = np.percentile(np.median(paired[picks], axis=1), [2.5, 97.5]).tolist()
    return Ratio(float(np.median(paired)), low, high)
