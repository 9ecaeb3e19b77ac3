"""What two ranks do for `test_two_ranks.py`, one thing after the other, in one start of torchrun."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from tests.verbs.small import small
from vitrail import disk
from vitrail.data.configs import Data
from vitrail.data.sources import open_source
from vitrail.errors import NumbersBroke, Stopped, SystemFault, VitrailError
from vitrail.models import build
from vitrail.models.classifier import Classifier
from vitrail.ranks import Ranks, joined, world
from vitrail.recipe import Recipe
from vitrail.training import across, checkpoint
from vitrail.verbs import adapter
from vitrail.verbs.sharing import evaluated
from vitrail.verbs.train import train

STEPS = ("schedule.steps=12", "schedule.warmup_epochs=0", "checkpoint.every=0", "evaluation.every=0")
QUIET = (*STEPS, "model.attention_dropout=0", "model.drop_path=0")


def adapters(base: Path) -> tuple[str, ...]:
    """A short run of adapters beside the weights of `base`, without random masks."""
    return (*QUIET, "model.dropout=0", f"weights.path={base}", "adapter={rank: 2, targets: [qkv, mlp]}")


def pid_of(place: Path, rank: int) -> int:
    """The process of a rank, as it said when it started."""
    return int((place / f"pid-{rank}").read_text())


def run(
    place: Path, recipe: Recipe, *, stop: int | None = None, victim: int | None = None, resume: bool = False
) -> None:
    """Train; after step `stop` rank `victim`, or this process, is told to stop."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def tell(event: Mapping[str, object]) -> None:
        if event["event"] == "step" and event["step"] == stop:
            os.kill(os.getpid() if victim is None else pid_of(place.parent, victim), signal.SIGTERM)

    try:
        train(recipe, out=place, resume=resume, listener=tell)
    except Stopped as error:
        assert stop is not None and error.exit_code == 75
    else:
        assert stop is None


def evaluations(place: Path) -> None:
    """Held-out pictures of every small number, one at least, so that the last batches, or whole ranks, are short."""
    source = open_source(Data(source="digits"))
    recipe = small("evaluation.batch=4")
    model = Classifier(build(recipe.config), recipe.config, recipe.policy, source.classes)
    found = {}
    with joined(60) as ranks:
        for count in (1, 2, 3, 4, 5, 9):
            part = type(source)(**{**vars(source), "held_out": source.held_out[:count]})
            done = evaluated(model, part, recipe, ranks)
            found[str(count)] = [done.indices.tolist(), done.losses.tolist()]
        assert all(one == found for one in ranks.gather(found))
        if ranks.rank == 0:
            (place / "evaluations.json").write_text(json.dumps(found))


def errors(place: Path) -> None:
    """What one rank is refused, all are; a bug of one is a fault of the others."""
    found = []
    for rank in (0, 1):
        try:
            with joined(60) as ranks:
                if ranks.rank == rank:
                    small("schedule.lr=-1")
                ranks.gather(None)
        except VitrailError as error:
            found.append(error.code)
    (place / f"errors-{world().rank}.json").write_text(json.dumps(found))


def adapted(place: Path, base: Path) -> None:
    """Adapters, with a tracker: rank 0 alone writes. In parts, stopped and resumed, too."""
    if world().rank:
        vars(adapter)["write_file"] = lambda path, _: sys.exit(f"rank 1 writes {path}")
    wanted = adapters(base)
    tracked = ["journal.to=[tensorboard]"] if importlib.util.find_spec("tensorboard") else []
    run(place / "adapted", small(*wanted, *tracked, family="vit"))
    run(place / "adapted_in_parts", small(*wanted, "train.parallel=fsdp", family="vit"), stop=5)
    run(place / "adapted_in_parts", small(*wanted, "train.parallel=fsdp", family="vit"), resume=True)


def slow(place: Path) -> None:
    """What rank 0 does with a checkpoint, a copy far away, takes longer than a rank may keep the others waiting."""

    slept: list[object] = []

    def tell(event: Mapping[str, object]) -> None:
        if event["event"] == "checkpoint" and "wall_s" in event and not slept:
            slept.append(event)
            time.sleep(8.0)

    train(small(*QUIET, "train.patience=5"), out=place, listener=tell)


def refused(place: Path, recipe: Recipe) -> None:
    """The disk refuses rank 1 its part: nobody keeps any, and both leave with that error."""
    whole = across._written

    def fails(ranks: Ranks, aside: Path | None, own: checkpoint.Snapshot) -> checkpoint.Members:
        if ranks.rank:
            raise SystemFault("V701", "the disk is full", hint="make room")
        return whole(ranks, aside, own)

    vars(across)["_written"] = fails
    try:
        train(recipe, out=place)
    except SystemFault as error:
        assert error.what == "the disk is full"
    else:
        raise AssertionError("it was saved")
    finally:
        vars(across)["_written"] = whole


def refused_at_the_end(place: Path, recipe: Recipe) -> None:
    """The disk refuses rank 0 the last file of the first checkpoint; the run goes on, and the second is saved."""
    whole, calls = disk.write_new, []

    def fails(path: Path, data: bytes | Callable[[IO[bytes]], object]) -> None:
        if path.name == "state.json":
            calls.append(path)
            if len(calls) == 1:
                raise OSError(errno.ENOSPC, "no space left on device")
        whole(path, data)

    vars(disk)["write_new"] = fails
    try:
        train(recipe, out=place)
    finally:
        vars(disk)["write_new"] = whole


def breaks(place: Path) -> None:
    """A rate that no number bears: both ranks leave with the same error."""
    try:
        train(small(*STEPS, "schedule.lr=1.0e+30", "watch.activations=true"), out=place)
    except NumbersBroke as error:
        assert error.code == "V811"
    else:
        raise AssertionError("nothing broke")


def main(place: Path) -> None:
    """Everything that needs two ranks."""
    (place / f"pid-{world().rank}").write_text(str(os.getpid()))
    np.seterr(all="raise")
    run(place / "quiet", small(*QUIET))
    run(place / "noise", small(*STEPS))
    run(place / "stopped", small(*STEPS), stop=5, victim=1)
    run(place / "stopped", small(*STEPS), resume=True)
    run(place / "to_two", small(*QUIET), resume=True)  # the test has begun it as one process
    run(place / "to_one", small(*QUIET), stop=5)
    run(place / "fsdp", small(*QUIET, "train.parallel=fsdp"), stop=5)
    run(place / "fsdp", small(*QUIET, "train.parallel=fsdp"), resume=True)
    sharded = small(*QUIET, "train.parallel=fsdp", "checkpoint.sharded=true")
    run(place / "sharded", sharded, stop=5)
    run(place / "sharded", sharded, resume=True)
    run(place / "shards_to_one", sharded, stop=5)
    refused(place / "refused", sharded)
    saves = ("checkpoint.every=6", "checkpoint.unit=steps", "checkpoint.on_error=continue")
    going_on = ("train.parallel=fsdp", "checkpoint.sharded=true", *saves)
    refused_at_the_end(place / "went_on", small(*QUIET, *going_on))
    run(place / "odd", small(*QUIET, "data.batch=7", "train.accumulate=3"))
    run(place / "fewer", small(*QUIET, "data.batch=2"))
    run(place / "each", small(*QUIET, "data.batch_per_device=32", "schedule.lr_rule=per_device"))
    run(place / "told", small(*QUIET, "journal.lines=vit_tensorflow", "train.time=1h"))
    adapted(place, place / "base")
    slow(place / "slow")
    breaks(place / "broke")
    evaluations(place)
    errors(place)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
