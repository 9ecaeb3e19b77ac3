"""The learning rate of each step: a pure function of the config and the step's number."""

from __future__ import annotations

import math

from vitrail.training.configs import Cosine, Schedule


def total_steps(config: Schedule, steps_per_epoch: int) -> int:
    """Steps of the whole run, warm-up included; at least one.

    >>> total_steps(Cosine(epochs=2.5, lr=0.1), 10)
    25
    """
    assert (config.epochs is None) != (config.steps is None), "exactly one of epochs and steps is given"
    if config.steps is not None:
        return config.steps
    assert config.epochs is not None
    return max(1, round(config.epochs * steps_per_epoch))


def learning_rate(config: Schedule, step: int, *, steps_per_epoch: int) -> float:
    """The rate of step number `step`, counted from 0.

    Warm-up is a line that starts at `warmup_lr` and would meet `lr` at its end; then half a cosine that would meet
    `min_lr` one step after the last. Of Loshchilov and Hutter (arXiv 1608.03983), without restarts.
    """
    total = total_steps(config, steps_per_epoch)
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total)
    if step < warmup:
        return config.warmup_lr + (config.lr - config.warmup_lr) * step / warmup
    if not isinstance(config, Cosine):
        return config.lr
    if step >= total:
        return config.min_lr
    way = (step - warmup) / (total - warmup)
    return config.min_lr + 0.5 * (config.lr - config.min_lr) * (1.0 + math.cos(math.pi * way))
