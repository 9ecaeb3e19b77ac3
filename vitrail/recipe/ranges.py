"""The ranges that a recipe's numbers lie in."""

from __future__ import annotations

import math
from collections.abc import Callable


def _within(low: float, high: float) -> tuple[Callable[[float], bool], str]:
    return (lambda value: low <= value <= high), f"must lie in {low:g} to {high:g}"


def _least(low: float) -> tuple[Callable[[float], bool], str]:
    return (lambda value: math.isfinite(value) and value >= low), f"must be {low:g} or more"


ABOVE_0: tuple[Callable[[float], bool], str] = (
    (lambda value: math.isfinite(value) and value > 0),
    "must be above 0 and finite",
)

# dotted key -> (test of the number, what it must be); a tuple's numbers are tested one by one
RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "adapter.rank": _within(1, 4096),
    "adapter.alpha": ABOVE_0,
    "data.holdout": ((lambda value: 0 < value < 1), "must lie between 0 and 1"),
    "data.batch": _within(1, 1_000_000),
    "data.batch_per_device": _within(1, 1_000_000),
    "data.repeats": _within(1, 1000),
    "data.workers": _within(0, 256),
    "data.bad_limit": _within(0, 1),
    "data.patience": _least(0),
    "augment.crop.scale": ((lambda value: 0 < value <= 1), "must lie above 0, up to 1"),
    "augment.crop.ratio": ABOVE_0,
    "augment.crop.padding": _within(0, 4096),
    "augment.flip": _within(0, 1),
    "augment.vertical_flip": _within(0, 1),
    "augment.jitter.brightness": _within(0, 10),
    "augment.jitter.contrast": _within(0, 10),
    "augment.jitter.saturation": _within(0, 10),
    "augment.jitter.hue": _within(0, 0.5),
    "augment.jitter.probability": _within(0, 1),
    "augment.erase.probability": _within(0, 1),
    "augment.erase.area": _within(0, 1),
    "augment.erase.aspect": _within(0.01, 100),
    "augment.erase.count": _within(1, 64),
    "mix.mixup": _within(0, 1000),
    "mix.cutmix": _within(0, 1000),
    "mix.cutmix_minmax": _within(0, 1),
    "mix.probability": _within(0, 1),
    "mix.switch": _within(0, 1),
    "mix.off_epoch": _least(0),
    "loss.smoothing": _within(0, 0.999),
    "loss.threshold": ((lambda value: 0 <= value < 1), "must lie in 0 to below 1"),
    "loss.teacher.alpha": ((lambda value: 0 < value <= 1), "must lie above 0, up to 1"),
    "loss.teacher.temperature": ABOVE_0,
    "optimizer.betas": ((lambda value: 0 <= value < 1), "must lie in 0 to below 1"),
    "optimizer.eps": ABOVE_0,
    "optimizer.weight_decay": _least(0),
    "optimizer.layer_decay": ((lambda value: 0 < value <= 1), "must lie above 0, up to 1"),
    "optimizer.momentum": ((lambda value: 0 <= value < 1), "must lie in 0 to below 1"),
    "optimizer.newton_schulz": _within(1, 99),
    "schedule.epochs": ABOVE_0,
    "schedule.steps": _least(1),
    "schedule.lr": ABOVE_0,
    "schedule.warmup_epochs": _least(0),
    "schedule.warmup_steps": _least(0),
    "schedule.warmup_lr": _least(0),
    "schedule.min_lr": _least(0),
    "schedule.cooldown_epochs": _least(0),
    "schedule.t_max": ABOVE_0,
    "schedule.cycles": _within(1, 1000),
    "schedule.cycle_mul": _within(0.01, 100),
    "schedule.cycle_decay": _within(0, 1),
    "schedule.k_decay": ABOVE_0,
    "schedule.power": ABOVE_0,
    "schedule.milestones": ABOVE_0,
    "schedule.gamma": _within(0, 1),
    "schedule.every": ABOVE_0,
    "average.decay": ((lambda value: 0 <= value < 1), "must lie in 0 to below 1"),
    "average.from_epoch": _least(0),
    "train.seed": _within(0, 2**63 - 1),
    "train.accumulate": _within(1, 1_000_000),
    "train.clip": ABOVE_0,
    "train.clip_value": ABOVE_0,
    "train.loss_scale.initial": _within(1, 2.0**60),
    "train.loss_scale.factor": ((lambda value: 1 < value <= 2.0**20), "must lie above 1, up to 2^20"),
    "train.loss_scale.window": _least(1),
    "train.loss_scale.value": _within(1, 2.0**60),
    "train.threads": _within(1, 4096),
    "train.patience": _least(0),
    "checkpoint.every": _least(0),
    "checkpoint.keep": _least(1),
    "evaluation.every": _least(0),
    "evaluation.from": _least(0),
    "evaluation.patience": _least(1),
    "evaluation.batch": _within(1, 1_000_000),
    "watch.captures": _within(0, 1000),
    "watch.stall": _least(0),
    "watch.dump.every": _least(1),
    "watch.profile.first": _least(1),
    "watch.profile.steps": _within(1, 10_000),
}
