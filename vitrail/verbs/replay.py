"""`replay`: a step that broke, repeated from what the run kept of it, to say where its numbers broke first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vitrail.engines.table import need
from vitrail.errors import RecipeError, RunError, UsageError, WeightsError
from vitrail.machine import keep_fp32_true
from vitrail.ranks import Ranks, World
from vitrail.recipe import Recipe
from vitrail.recipe.read import parse_recipe

if TYPE_CHECKING:
    from torch import nn

    from vitrail.training.capture import Capture
    from vitrail.training.replay import Replay
    from vitrail.training.step import How


@dataclass(frozen=True)
class ReplayResult:
    """A repeated step beside the kept one. drift: what here is not as it was where the step was taken."""

    recipe: Recipe
    capture: Capture
    replay: Replay
    drift: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The result in plain values; numbers that JSON does not have as words."""
        kept, done, found = self.capture.facts, self.replay.done, self.replay.finding
        return {
            "step": kept.step + 1,
            "epoch": kept.epoch + 1,
            "rank": kept.rank,
            "seed": kept.seed,
            "precision": self.recipe.precision,
            "scale": None if kept.scale is None else kept.scale.value,
            "kept": {"loss": _plain(kept.loss), "norm": _plain(kept.norm)},
            "repeated": {"loss": _plain(done.loss), "norm": _plain(done.norm)},
            "same_bits": self.replay.same,
            "drift": list(self.drift),
            "first": None
            if found is None
            else {
                "phase": found.phase,
                "name": found.name,
                "what": found.what,
                "holds": _plain(found.holds),
                "inputs": _plain(found.inputs),
                "pictures": list(found.pictures),
            },
            "pictures": [int(index) for index in self.capture.batch.indices],
        }


def _plain(value: object) -> Any:
    from math import isfinite

    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return value if not isinstance(value, float) or isfinite(value) else repr(value)


def replay(file: Path | str) -> ReplayResult:
    """Repeat the forward and backward of a kept step, and find the first layer or gradient with NaN or Inf.

    file: one of a run's `captures/`. RunError V604, V605 or V607 for what is none, or is not as it was written;
    UsageError V007 where no file lies. A teacher that the recipe names is opened where it says.
    """
    need("torch", "train")
    import torch

    from vitrail.training.capture import read
    from vitrail.training.drift import drifts, environment
    from vitrail.training.replay import replay as repeat

    path = Path(file)
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise UsageError("V007", f"`{path}` {found}", hint="name a file in the `captures/` of a run folder")
    capture = read(path)
    recipe = _recipe(capture, path)
    keep_fp32_true()
    torch.set_num_threads(recipe.train.threads or torch.get_num_threads())
    module = _network(capture, recipe, path)
    done = repeat(module, capture, _how(capture, recipe))
    return ReplayResult(recipe, capture, done, tuple(map(str, drifts(capture.facts.environment, environment("cpu")))))


def _recipe(capture: Capture, path: Path) -> Recipe:
    try:
        recipe = parse_recipe(capture.facts.recipe, "the recipe of the capture")
    except RecipeError as error:
        raise _unfit(path, [error.what, *error.evidence]) from error
    if recipe.config.classes != len(capture.facts.classes) or recipe.train.seed != capture.facts.seed:
        raise _unfit(path, ["its classes or its seed are not those of its recipe"])
    shape = (recipe.config.channels, *recipe.config.image_size)
    labels = capture.batch.labels
    if capture.batch.images.shape[1:] != shape or labels.min() < 0 or labels.max() >= recipe.config.classes:
        raise _unfit(path, [f"its pictures or labels are not those of a network for {shape}"])
    return recipe


def _unfit(path: Path, evidence: list[str]) -> RunError:
    return RunError(
        "V604", f"`{path}` does not fit itself", evidence=evidence, hint="use another copy, or capture the step again"
    )


def _network(capture: Capture, recipe: Recipe, path: Path) -> nn.Module:
    from vitrail.models import set_attention
    from vitrail.training.groups import freeze
    from vitrail.training.layers_in_fp32 import keep_in_fp32
    from vitrail.weights.fit import check
    from vitrail.weights.tensors import load_native

    try:
        shapes = {name: tuple(tensor.shape) for name, tensor in _built(recipe, "meta").state_dict().items()}
        check(capture.weights, shapes, "the network")  # before anything is allocated
        module = _built(recipe, "cpu")
        load_native(module, capture.weights)
    except WeightsError as error:
        raise _unfit(path, [error.what, *error.evidence]) from error
    set_attention(module, "fused" if recipe.train.attention == "fused" else "explicit")
    freeze(module, recipe.train.freeze)
    keep_in_fp32(module, recipe.train.fp32)
    return module.train()


def _built(recipe: Recipe, device: Literal["cpu", "meta"]) -> nn.Module:
    from vitrail.models import build
    from vitrail.training.adapter import put_on

    module = build(recipe.config, device=device)
    if recipe.adapter is not None:
        put_on(module, recipe.config, recipe.adapter, seed=recipe.train.seed)
    return module


def _how(capture: Capture, recipe: Recipe) -> How:
    import torch

    from vitrail.data.mix import mixer
    from vitrail.data.order import part_of
    from vitrail.training.step import How
    from vitrail.verbs.teacher import teacher_of

    facts, batch, weights, teacher = capture.facts, recipe.data.batch, capture.class_weights, None
    part = None
    if facts.ranks > 1:
        part = part_of(batch, rank=facts.rank, size=facts.ranks, paired=recipe.mix is not None)
    if recipe.loss.teacher is not None:
        teacher = teacher_of(recipe, capture.facts.classes).module
    return How(
        device=torch.device("cpu"),
        precision="fp32" if recipe.precision == "auto" else recipe.precision,
        loss=recipe.loss,
        seed=facts.seed,
        ranks=Ranks(World(rank=facts.rank)),
        accumulate=recipe.train.accumulate,
        loss_scale=recipe.train.loss_scale,
        mix=mixer(recipe.mix, seed=facts.seed, classes=recipe.config.classes, batch=batch, part=part),
        class_weights=None if weights is None else torch.tensor(weights),
        teacher=teacher,
    )
