"""From a recipe, resolved, to all that the training loop needs for it. Nothing is written."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from vitrail import __version__
from vitrail.data.sources import Source
from vitrail.models.configs import family_of
from vitrail.recipe import Recipe
from vitrail.recipe.settle import taught_by
from vitrail.recipe.write import fingerprint, to_yaml
from vitrail.verbs.before import settled_device
from vitrail.verbs.begin import Call
from vitrail.verbs.teacher import teacher_of
from vitrail.verbs.telling import about

if TYPE_CHECKING:
    from torch import nn

    from vitrail.models.classifier import Classifier
    from vitrail.training.plan import Evaluate, Plan


def plan_of(
    call: Call,
    recipe: Recipe,
    start: Classifier | None,
    *,
    evaluate: Evaluate | None = None,
    load_s: float | None = None,
) -> Plan:
    """All that the loop needs for a resolved recipe. start: what it starts from; load_s: how long that took to load."""
    import torch

    from vitrail.data.loader import TrainLoader, bad_allowed
    from vitrail.data.mix import mixer
    from vitrail.data.order import part_of
    from vitrail.models import build, set_attention
    from vitrail.training.adapter import put_on
    from vitrail.training.plan import Plan

    device = settled_device(recipe, call.ranks.world)
    assert recipe.train.threads is not None
    torch.set_num_threads(recipe.train.threads)
    module = build(recipe.config, seed=recipe.train.seed) if start is None else start.module
    if recipe.adapter is not None:
        put_on(module, recipe.config, recipe.adapter, seed=recipe.train.seed)
    set_attention(module, "fused" if recipe.train.attention == "fused" else "explicit")
    seed, batch, ranks = recipe.train.seed, recipe.data.batch, call.ranks
    part = None
    if ranks.size > 1:
        part = part_of(batch, rank=ranks.rank, size=ranks.size, paired=recipe.mix is not None)
    loader = TrainLoader(call.source, recipe.policy, recipe.augment, recipe.data, seed, part)
    return Plan(
        module=module,
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        loss=recipe.loss,
        average=recipe.average,
        train=recipe.train,
        checkpoint=recipe.checkpoint,
        evaluation=recipe.evaluation,
        precision="fp32" if recipe.precision == "auto" else recipe.precision,
        device=str(device),
        ranks=ranks,
        loader=loader,
        bad_allowed=bad_allowed(call.source, recipe.data),
        mix=mixer(recipe.mix, seed=seed, classes=recipe.config.classes, batch=batch, part=part),
        class_weights=_class_weights(call.source, recipe),
        teacher=_teacher(call, recipe),
        evaluate=evaluate,
        folder=call.folder,
        identity=_identity(call, recipe),
        told=recipe.journal,
        about=about(recipe, call.source, load_s),
        watch=recipe.watch,
        recipe=to_yaml(recipe, version=__version__),
    )


def _class_weights(source: Source, recipe: Recipe) -> tuple[float, ...] | None:
    from vitrail.training.configs import CrossEntropy
    from vitrail.training.losses import balanced_weights

    if not isinstance(recipe.loss, CrossEntropy) or recipe.loss.class_weights == "none":
        return None
    return balanced_weights(source.count(source.training).tolist())


def _teacher(call: Call, recipe: Recipe) -> nn.Module | None:
    if recipe.loss.teacher is None:
        return None
    teacher = teacher_of(recipe, call.source.classes)
    taught_by(recipe, teacher.sha256)
    for line in teacher.report:
        call.tell({"event": "note", "text": line})
    return teacher.module


def _identity(call: Call, recipe: Recipe) -> dict[str, object]:
    return {
        "recipe": fingerprint(recipe),
        "data": call.source.fingerprint,
        "holdout": recipe.data.holdout,
        "seed": recipe.train.seed,
        **call.bits.recorded(recipe),
        "model": {
            "variant": recipe.variant,
            "family": family_of(recipe.config),
            "config": asdict(recipe.config),
            "policy": recipe.policy.to_json(),
            "classes": list(call.source.classes),
            **({} if recipe.adapter is None else {"adapter": asdict(recipe.adapter)}),
        },
    }
