"""The learning rate of each step: a pure function of the config and the number of updates made before it.

First the warm-up, then the curve of the config, then the cooldown at its least rate.
"""

from __future__ import annotations

import math
from bisect import bisect_right

from vitrail.training.configs import Constant, Cosine, Exponential, Linear, MultiStep, Polynomial, Schedule

Falls = Cosine | Linear | Polynomial | MultiStep | Exponential


def total_steps(config: Schedule, steps_per_epoch: int) -> int:
    """Steps of the whole run, warm-up and cooldown included; at least one.

    >>> total_steps(Cosine(epochs=2.5, lr=0.1), 10)
    25
    """
    assert (config.epochs is None) != (config.steps is None), "exactly one of epochs and steps is given"
    if config.steps is not None:
        return config.steps
    assert config.epochs is not None
    return max(1, round(config.epochs * steps_per_epoch))


def learning_rate(config: Schedule, step: int, *, steps_per_epoch: int) -> float:
    """The rate of step number `step`, counted from 0 and without those that were skipped.

    The curves would meet `min_lr` one step after their last.

    >>> [round(learning_rate(Cosine(steps=4, lr=1.0), step, steps_per_epoch=1), 3) for step in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """
    total = total_steps(config, steps_per_epoch)
    warmup = min(_warmup_steps(config, steps_per_epoch), total)
    if step < warmup:
        unit = steps_per_epoch if config.per == "epoch" else 1
        return _warming(config, step // unit, warmup / unit)
    if isinstance(config, Constant):
        return config.lr
    end = total - round(config.cooldown_epochs * steps_per_epoch)
    if step >= end:
        return config.min_lr
    if config.per != "step":
        step -= step % steps_per_epoch
    start = warmup if config.warmup_prefix else 0
    at = max(0, step - start)  # an epoch may have begun within the warm-up
    return _curve(config, at / steps_per_epoch, of=(end - start) / steps_per_epoch)


def _warmup_steps(config: Schedule, steps_per_epoch: int) -> int:
    if config.warmup_steps is not None:
        return config.warmup_steps
    return round(config.warmup_epochs * steps_per_epoch)


def _warming(config: Schedule, t: int, length: float) -> float:
    """The rate t steps, or epochs, into a warm-up of `length`."""
    if config.warmup == "harmonic":
        return config.lr / max(length - t, 1)
    way = {"line": t / length, "ending": t / max(length - 1, 1), "shifted": (t + 1) / length}[config.warmup]
    return config.warmup_lr + (config.lr - config.warmup_lr) * min(way, 1.0)


def _curve(config: Falls, at: float, *, of: float) -> float:
    """The rate `at` epochs on a curve of `of` epochs."""
    if isinstance(config, Cosine):
        return _cosine(config, at, of=of)
    if isinstance(config, MultiStep):
        return max(config.min_lr, config.lr * math.pow(config.gamma, bisect_right(config.milestones, at)))
    if isinstance(config, Exponential):
        fallen = config.lr * math.pow(config.gamma, at / config.every)
        return config.min_lr + fallen if config.min_added else max(config.min_lr, fallen)
    power = config.power if isinstance(config, Polynomial) else 1.0
    return config.min_lr + (config.lr - config.min_lr) * math.pow(1.0 - at / of, power)


def _cosine(config: Cosine, at: float, *, of: float) -> float:
    """Loshchilov and Hutter's (arXiv 1608.03983): half a cosine a cycle."""
    length = config.t_max or of / sum(config.cycle_mul**cycle for cycle in range(config.cycles))
    peak = config.lr
    for _ in range(config.cycles):
        if at < length or config.rise:
            height = peak if config.min_added else peak - config.min_lr
            angle = math.pi * (at / length) ** config.k_decay
            return config.min_lr + 0.5 * height * (1.0 + math.cos(angle))
        at, length, peak = at - length, length * config.cycle_mul, peak * config.cycle_decay
    return config.min_lr
