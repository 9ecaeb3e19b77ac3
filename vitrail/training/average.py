"""The running average of the weights (EMA, SWA): plain functions over lists of tensors.

Early steps of an EMA count less than `decay` says, so that the random start is soon forgotten (as TensorFlow's
ExponentialMovingAverage does with `num_updates`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from vitrail.training.configs import EMA, Average


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that are averaged, in the order of the module."""
    return [p for p in module.parameters() if p.requires_grad]


def start(module: nn.Module) -> list[Tensor]:
    """The average before the first step: a copy of the trainable parameters."""
    return [p.detach().clone() for p in trainable(module)]


def decay_at(decay: float, updates: int) -> float:
    """The decay after so many updates of the weights.

    >>> [round(decay_at(0.999, updates), 4) for updates in (0, 10, 100_000)]
    [0.1, 0.55, 0.999]
    """
    return min(decay, (1 + updates) / (10 + updates))


def share(config: Average, step: int, *, updates: int, skipped: bool, steps_per_epoch: int) -> float:
    """Which part of the average becomes the weights after step number `step`; 0 leaves it as it is.

    updates: of the weights before this step. A skipped step moves no EMA; an epoch whose last step was skipped ends
    with the weights of the step before, and SWA counts it.

    >>> from vitrail.training.configs import SWA
    >>> swa = SWA(from_epoch=1)
    >>> [share(swa, step, updates=step, skipped=False, steps_per_epoch=2) for step in range(8)]
    [1.0, 1.0, 1.0, 1.0, 0.0, 0.5, 0.0, 0.3333333333333333]
    """
    if isinstance(config, EMA):
        return 0.0 if skipped else 1.0 - decay_at(config.decay, updates)
    epochs, within = divmod(step + 1, steps_per_epoch)
    ends = epochs - config.from_epoch  # that are averaged by now
    if ends < 1:
        return 0.0 if skipped else 1.0
    return 1.0 / ends if within == 0 else 0.0


@torch.no_grad()
def update(average: Sequence[Tensor], module: nn.Module, part: float) -> None:
    """average = (1 - part) * average + part * weights, in place."""
    if part:
        torch._foreach_lerp_(list(average), [p.detach() for p in trainable(module)], part)


@contextlib.contextmanager
def averaged(module: nn.Module, average: Sequence[Tensor] | None) -> Iterator[nn.Module]:
    """The module with the averaged weights in place of its own, which come back untouched; None changes nothing.

    Nothing is copied: the tensors change places.
    """
    if average is None:
        yield module
        return
    parameters = trainable(module)
    own = [p.data for p in parameters]
    try:
        for parameter, mean in zip(parameters, average, strict=True):
            parameter.data = mean
        yield module
    finally:
        for parameter, data in zip(parameters, own, strict=True):
            parameter.data = data
