"""`train`: from a recipe and pictures to a run folder with a bundle in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from vitrail.data.sources import Source, open_source
from vitrail.disk import make_folder
from vitrail.engines.table import need
from vitrail.errors import UsageError
from vitrail.locks import locked
from vitrail.opening import RECIPE_FILE
from vitrail.ranks import Ranks, joined
from vitrail.recipe import Recipe, load_recipe
from vitrail.training.trackers import need_trackers
from vitrail.verbs.before import Listener, look_through, silent
from vitrail.verbs.begin import Call, exists_already
from vitrail.verbs.drift import Bits
from vitrail.verbs.mirror import bring_back, copied, local_folder
from vitrail.verbs.outside import refuse_inside
from vitrail.verbs.run import Run, TrainResult


def shorthand(model: str | None, weights: str | None, data: str | None) -> list[str]:
    """The overrides that `--model`, `--weights` and `--data` stand for."""
    given = {"model.variant": model, "weights.path": weights, "data.root": data}
    found = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items() if value is not None]
    return found if data is None else [*found, "data.source=auto"]


def default_folder(recipe: Recipe) -> Path:
    """`runs/RECIPE-NAME`."""
    return Path("runs") / recipe.name.replace("/", "-")


def train(
    recipe: Recipe | str | Path,
    overrides: Sequence[str] = (),
    *,
    out: Path | str | None = None,
    resume: bool = False,
    strict: bool = False,
    allow_drift: Sequence[str] = (),
    listener: Listener = silent,
) -> TrainResult:
    """Train as the recipe says; the run folder holds all that came of it, a bundle at its end.

    recipe: a `Recipe`, a path or a shipped name. out: the run folder, by default `runs/RECIPE-NAME`; of the address of
    a store, such as `s3://bucket/runs/x`, the run lies in `runs/x` and is copied there. resume: go on from the newest
    good checkpoint, to the same bits as if never stopped. allow_drift: fields that may differ from the checkpoint's
    although the bits are then others. listener: called with every event. Under torchrun all of its processes call
    this; rank 0 alone listens and writes.
    """
    wanted = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    need("torch", "train")
    need("matplotlib", "train")
    need_trackers(wanted.journal.to)
    place = out if out is not None else default_folder(wanted)
    with joined(wanted.train.patience) as ranks:
        first = ranks.rank == 0
        if resume:
            ranks.first(lambda: bring_back(place))
        with copied(place, listener, resume=resume) if first else nullcontext(silent) as tell:
            source = _opened(local_folder(place), wanted, ranks, tell, resume=resume)
            with locked(local_folder(place)) if first else nullcontext():
                call = Call(wanted, source, local_folder(place), ranks, tell, Bits(allow_drift))
                result = Run(call).go(resume=resume, strict=strict)
        ranks.first(lambda: None)  # the others wait for its copy, however long that takes
        return result


def _opened(folder: Path, wanted: Recipe, ranks: Ranks, listener: Listener, *, resume: bool) -> Source:
    """The source, open and looked through; the run's folder is there then."""
    ranks.first(lambda: _refuse_second_start(folder, resume))
    refuse_inside(folder, wanted.data.root, wanted.data.val)
    source = open_source(wanted.data, seed=wanted.train.seed)
    for note in source.notes:
        listener({"event": "note", "text": note})
    ranks.first(lambda: _prepare(folder, source, wanted, listener))
    return source


def _prepare(folder: Path, source: Source, wanted: Recipe, listener: Listener) -> None:
    if not (folder / RECIPE_FILE).is_file():
        look_through(source, wanted, listener)
    make_folder(folder)


def _refuse_second_start(folder: Path, resume: bool) -> None:
    if (folder / RECIPE_FILE).is_file() and not resume:
        with locked(folder):  # a run that is still going on says so
            pass
        raise exists_already(folder)


def no_recipe_given() -> UsageError:
    """What `train` says when it is told neither a recipe nor a model."""
    return UsageError(
        "V001",
        "give a RECIPE, or --model and --data",
        hint="`vitrail show recipes` and `vitrail show models` list them",
    )
