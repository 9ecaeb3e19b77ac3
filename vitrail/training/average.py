"""The running average of the weights (EMA): plain functions over lists of tensors.

Early steps count less than `decay` says, so that the random start is soon forgotten (as TensorFlow's
ExponentialMovingAverage does with `num_updates`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that are averaged, in the order of the module."""
    return [p for p in module.parameters() if p.requires_grad]


def start(module: nn.Module) -> list[Tensor]:
    """The average before the first step: a copy of the trainable parameters."""
    return [p.detach().clone() for p in trainable(module)]


def decay_at(decay: float, step: int) -> float:
    """The decay of step number `step`, counted from 0.

    >>> [round(decay_at(0.999, step), 4) for step in (0, 10, 100_000)]
    [0.1, 0.55, 0.999]
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update(average: Sequence[Tensor], module: nn.Module, decay: float) -> None:
    """average = decay * average + (1 - decay) * weights, in place."""
    torch._foreach_lerp_(list(average), [p.detach() for p in trainable(module)], 1.0 - decay)


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
