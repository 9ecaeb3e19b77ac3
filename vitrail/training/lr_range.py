"""The learning rate range test (arXiv 1506.01186): the rate rises at every step, and the loss says where to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from vitrail.errors import NumbersBroke
from vitrail.training.plan import Plan, prepared
from vitrail.training.step import take_step
from vitrail.training.upload import uploaded

BELOW, ABOVE = 1e-3, 1e2  # of the recipe's own rate: where the test begins, and where it would end
SMOOTHING = 0.9  # of the running mean of the loss
BURST = 2.0  # times the least smoothed loss: beyond it nothing is learned any more


@dataclass(frozen=True)
class Tried:
    """One step of the test."""

    lr: float
    loss: float
    smoothed: float


@dataclass(frozen=True)
class LrRange:
    """The test, step by step, and the rate that it suggests; None where the loss never fell."""

    tried: tuple[Tried, ...]
    suggested: float | None
    burst: bool  # whether the loss burst before the last step


def lr_range(plan: Plan, steps: int, told: Callable[[int, int], None] = lambda done, of: None) -> LrRange:
    """Train the plan's network for up to `steps` steps at rates that rise exponentially, from a thousandth of the
    recipe's rate to a hundred times it. The network is spoilt by it.

    NumbersBroke V811 where already the first step's loss is NaN or Inf.
    """
    state, how = prepared(plan)
    batches = uploaded(plan.loader.iterate(0, steps), steps, how.device)
    tried: list[Tried] = []
    mean = 0.0
    try:
        for step, batch in enumerate(batches):
            lr = rate(plan.schedule.lr, step, steps)
            done = take_step(state, batch, lr, how)
            told(step + 1, steps)
            if done.overflow:
                continue
            if not math.isfinite(done.loss):
                break
            mean = SMOOTHING * mean + (1.0 - SMOOTHING) * done.loss
            smoothed = mean / (1.0 - SMOOTHING ** (len(tried) + 1))
            tried.append(Tried(lr, done.loss, smoothed))
            if smoothed > BURST * min(one.smoothed for one in tried):
                break
    finally:
        if isinstance(batches, Generator):
            batches.close()
    if not tried:
        raise NumbersBroke(
            "V811", "the loss of the first step is no number", hint="look at the pictures, or give precision=fp32"
        )
    return LrRange(tuple(tried), suggestion(tried), state.step < steps)


def rate(base: float, step: int, steps: int) -> float:
    """The rate of a step.

    >>> [round(rate(1.0, step, 6), 4) for step in range(6)]
    [0.001, 0.01, 0.1, 1.0, 10.0, 100.0]
    """
    return base * BELOW * math.pow(ABOVE / BELOW, step / max(1, steps - 1))


def suggestion(tried: Sequence[Tried]) -> float | None:
    """A tenth of the rate at which the smoothed loss is least; None where that is the first step or has no way to fall.

    The least loss comes late, as it is a running mean, and at the edge of what can be borne: hence the tenth.
    """
    least = min(range(len(tried)), key=lambda place: tried[place].smoothed)
    return None if least == 0 else tried[least].lr / 10.0
