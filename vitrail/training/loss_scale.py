"""The factor on the loss that keeps fp16 gradients above its smallest number: a pure state machine.

step          scale    since
good          s        n + 1
good, n = w   s f      1          w the window, f the factor; no upper limit
overflow      s / f    1          never below 1; nothing is updated, no schedule and no average moves on
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vitrail.training.configs import DynamicScale, LossScale


@dataclass(frozen=True)
class Scale:
    """The factor of the next step, and which step it is since the factor was last changed, counted from 1."""

    value: float
    since: int = 1


def first(config: LossScale) -> Scale:
    """The scale of the first step."""
    return Scale(config.initial if isinstance(config, DynamicScale) else config.value)


def can_fall(config: LossScale | None, scale: Scale | None) -> bool:
    """Whether an overflow may be cured by a smaller scale."""
    return isinstance(config, DynamicScale) and scale is not None and scale.value > 1.0


def after(config: LossScale, scale: Scale, *, overflow: bool) -> Scale:
    """The scale of the next step, as MindSpore's and torch's scalers have it.

    >>> after(DynamicScale(initial=8, window=2), Scale(8.0, 2), overflow=False)
    Scale(value=16.0, since=1)
    """
    if not isinstance(config, DynamicScale):
        return scale
    if overflow:
        return Scale(max(scale.value / config.factor, 1.0))
    if scale.since >= config.window:
        return Scale(scale.value * config.factor)
    return replace(scale, since=scale.since + 1)
