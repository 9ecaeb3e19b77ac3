"""How a run is told beside its own journal: to trackers, and in the lines of other packages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vitrail.data.sources import Source
from vitrail.disk import write_file
from vitrail.models.count import parameters
from vitrail.recipe import Recipe
from vitrail.recipe.write import to_plain
from vitrail.verbs.before import Listener

_DATA = {"cifar": "CIFAR10", "imagenet": "ImageNet"}  # source -> the zoo's word


@contextlib.contextmanager
def told(listener: Listener, recipe: Recipe, folder: Path, step: int) -> Iterator[Listener]:
    """The listener, and with it all that the recipe's journal goes to; step: where the run begins or goes on."""
    from vitrail.training.trackers import Run, Trackers

    run = Run(folder, step, to_plain(recipe))
    trackers = Trackers(recipe.journal.to, run, lambda text: listener({"event": "warning", "text": text}))

    def tell(row: Mapping[str, object]) -> None:
        listener(row)
        trackers.row(row)

    with contextlib.closing(trackers):
        yield tell


def about(recipe: Recipe, source: Source, load_s: float | None) -> Mapping[str, object]:
    """What `training.lines` says of a run before its first step; load_s: how long its start weights took to load."""
    targets = "label smoothing" if recipe.loss.smoothing else "Simple CE"
    scale = recipe.train.loss_scale
    return {
        "variant": recipe.variant,
        "parameters": parameters(recipe.config),
        "targets": "MixBatch" if recipe.mix is not None else targets,
        "weights": None if recipe.weights is None else recipe.weights.path,
        "loads": None if recipe.weights is None else "",
        "load_s": load_s,
        "data": _DATA.get(source.name, source.name),
        "optimizer": recipe.optimizer.name,
        "accumulate": recipe.train.accumulate,
        "dynamic": "" if scale is not None and scale.name == "dynamic" else None,
        "clip": "" if recipe.train.clip is not None else None,
    }


def write_evaluation_log(folder: Path, recipe: Recipe, quality: Mapping[str, Any]) -> None:
    """`eval.log` of a finished run, where its recipe asks for the lines of another package."""
    from vitrail.training.lines import EVAL_LOG, evaluation_log

    if text := evaluation_log(recipe.journal.lines, quality, str(folder / "bundle")):
        write_file(folder / EVAL_LOG, text.encode())
