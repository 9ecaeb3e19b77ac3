"""What a run is given, and what is made of it before its first step: the state, and how steps are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from vitrail.data.batches import TrainBatch
from vitrail.models import set_recompute
from vitrail.ranks import Ranks
from vitrail.training import across, average, loss_scale, optimizers
from vitrail.training.compiling import compile_blocks
from vitrail.training.configs import Average, Checkpoint, Evaluation, Journal, Loss, Schedule, Train
from vitrail.training.groups import freeze
from vitrail.training.layers_in_fp32 import keep_in_fp32
from vitrail.training.optimizer_configs import Optimizer
from vitrail.training.state import TrainState
from vitrail.training.step import How, Mixer, Settled
from vitrail.training.watch_configs import Watch

Evaluate = Callable[[nn.Module], Mapping[str, float]]  # a network in evaluation mode -> metrics with `top1`


class Loader(Protocol):
    """Where batches come from; `data.loader.TrainLoader` is one."""

    @property
    def steps_per_epoch(self) -> int: ...

    def iterate(self, start: int, stop: int) -> Iterator[TrainBatch]: ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a run needs, settled: nothing in it is `auto`.

    identity (plain values: hashes of recipe and data) is saved with every state, for the caller to compare on resume.
    recipe: the resolved one as YAML, kept with a broken step.
    """

    module: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    loss: Loss
    average: Average | None
    train: Train
    checkpoint: Checkpoint
    evaluation: Evaluation
    precision: Settled
    device: str = "cpu"
    ranks: Ranks = Ranks()
    loader: Loader
    bad_allowed: int = 0  # different pictures that may turn out bad in one process
    mix: Mixer | None
    class_weights: tuple[float, ...] | None = None
    teacher: nn.Module | None = None
    evaluate: Evaluate | None
    folder: Path
    identity: Mapping[str, object]
    told: Journal = Journal()
    about: Mapping[str, object] = field(default_factory=dict)  # what the log's first lines say, see `lines.TABLE`
    watch: Watch = Watch()
    recipe: str = ""


def prepared(plan: Plan) -> tuple[TrainState, How]:
    """The state before the first step, and how steps are taken: for the loop, or to try some without it."""
    state, spread = _state(plan)
    return state, how_of(plan, spread)


def _state(plan: Plan) -> tuple[TrainState, nn.Module | None]:
    """The state before the first step, and the network as it computes on several ranks."""
    module = plan.module.to(plan.device).train()
    freeze(module, plan.train.freeze)
    keep_in_fp32(module, plan.train.fp32)
    if plan.train.recompute:
        set_recompute(module)
    if plan.train.compile:
        compile_blocks(module)
    spread, twin = across.spread(plan.ranks, module, plan.train.parallel)
    ema = average.start(module) if plan.average is not None else None
    scale = None if plan.train.loss_scale is None else loss_scale.first(plan.train.loss_scale)
    return TrainState(module, optimizers.make(plan.optimizer, module), ema, scale=scale, twin=twin), spread


def how_of(plan: Plan, spread: nn.Module | None = None) -> How:
    """How the plan's steps are taken; spread: the network as it computes on several ranks."""
    weights = None if plan.class_weights is None else torch.tensor(plan.class_weights, device=plan.device)
    return How(
        device=torch.device(plan.device),
        precision=plan.precision,
        loss=plan.loss,
        seed=plan.train.seed,
        ranks=plan.ranks,
        spread=spread,
        steps_per_epoch=plan.loader.steps_per_epoch,
        accumulate=plan.train.accumulate,
        clip=plan.train.clip,
        clip_value=plan.train.clip_value,
        loss_scale=plan.train.loss_scale,
        average=plan.average,
        mix=plan.mix,
        class_weights=weights,
        teacher=None if plan.teacher is None else plan.teacher.to(plan.device).eval(),
    )
