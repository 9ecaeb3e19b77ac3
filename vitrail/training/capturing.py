"""From a step that broke to its capture, at the moment when it did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from vitrail.data.batches import TrainBatch
from vitrail.training.capture import Capture, Facts
from vitrail.training.loss_scale import Scale
from vitrail.training.step import Step
from vitrail.training.watch import stored

if TYPE_CHECKING:
    from vitrail.training.plan import Plan


def captured(plan: Plan, batch: TrainBatch, done: Step, *, lr: float, scale: Scale | None) -> Callable[[], Capture]:
    """What makes the capture of a step that changed nothing; nothing is copied before it is called."""
    identity: Mapping[str, Any] = plan.identity
    facts = Facts(
        step=batch.step,
        epoch=batch.epoch,
        seed=plan.train.seed,
        rank=plan.ranks.rank,
        ranks=plan.ranks.size,
        whole=batch.whole or len(batch.labels),
        lr=lr,
        loss=done.loss,
        norm=done.norm,
        scale=scale,
        recipe=plan.recipe,
        classes=tuple(identity.get("model", {}).get("classes", ())),
        environment=identity.get("environment", {}),
    )

    def make() -> Capture:
        weights = {name: stored(tensor.detach().cpu()) for name, tensor in plan.module.state_dict().items()}
        images, labels = (torch.as_tensor(values).cpu().numpy() for values in (batch.images, batch.labels))
        return Capture(facts, weights, replace(batch, images=images, labels=labels), plan.class_weights)

    return make
