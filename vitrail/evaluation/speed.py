"""How fast models answer, measured in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import numpy as np

from vitrail.pictures.predict import Model

REST = 0.02  # seconds: the threads of the other side spin for a while after their work, and would be measured too
WARM = 2  # rounds that are not counted


def in_turns(models: Sequence[Model], *, batch: int = 1, rounds: int = 15) -> list[list[float]]:
    """Seconds of each model for a batch of black pictures in each round; in every round each has its turn."""
    inputs = [
        model.policy.normalise(np.zeros((batch, *model.policy.size, model.policy.channels), np.uint8))
        for model in models
    ]
    taken: list[list[float]] = [[] for _ in models]
    for turn in range(rounds + WARM):
        for times, model, pictures in zip(taken, models, inputs, strict=True):
            time.sleep(REST)
            model.logits(pictures)
            start = time.perf_counter()
            model.logits(pictures)
            if turn >= WARM:
                times.append(time.perf_counter() - start)
    return taken


def speed(source: Model, candidate: Model, *, rounds: int = 15) -> float:
    """How many times faster `candidate` answers for one picture than `source`: the ratio of two medians."""
    ours, theirs = in_turns([source, candidate], rounds=rounds)
    return statistics.median(ours) / statistics.median(theirs)
