"""`predict --out`: what is on millions of pictures, in shards, by one process, torchrun's ranks or Ray's workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vitrail.engines.trust import all_trusted, trusting
from vitrail.errors import RunError, Stopped, UsageError, count
from vitrail.predictions.job import Job, differences, held
from vitrail.predictions.shards import Shard, finish, known, made
from vitrail.ranks import Ranks, joined
from vitrail.training.signals import watched
from vitrail.verbs.asking import PLAIN, Asked, Asking, agree, asked_of
from vitrail.verbs.outside import refuse_inside

Made = Iterator[tuple[int, Shard | None]]  # pictures answered, and the shard that stands since


@dataclass(frozen=True)
class ShardsResult:
    """What stands. made: shards made by this call; again: those of them that lay there damaged or foreign.

    stood: whether all of it stood before.
    """

    folder: Path
    job: Job
    shards: tuple[Shard, ...]
    made: int
    again: tuple[str, ...]
    stood: bool

    @property
    def bad(self) -> int:
        """Rows of pictures that could not be read."""
        return sum(shard.bad for shard in self.shards)

    def to_json(self) -> dict[str, object]:
        """The result in plain values."""
        return {
            "folder": str(self.folder),
            "format": self.job.format,
            "pictures": self.job.pictures,
            "bad": self.bad,
            "bytes": sum(shard.bytes for shard in self.shards),
            "shards": len(self.shards),
            "made": self.made,
            "again": list(self.again),
            "finished_before": self.stood,
        }


@dataclass
class _Part:
    """What one rank has: shards by their numbers, and what it did for them."""

    shards: dict[int, Shard]
    again: list[str]
    made: int = 0
    stopped: str | None = None


def predict_shards(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    how: Asking = PLAIN,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    note: Callable[[str], None] = lambda text: None,
) -> ShardsResult:
    """One row a picture of `data` in shards in the folder `out`, or what was begun there brought to its end.

    Under torchrun all of its processes call this, and each makes its shards; all get the whole result. progress:
    pictures answered here, and those to answer here. UsageError V006 or RunError V602 where something else lies in
    `out`; Stopped V901 after a signal: the same call goes on from there.
    """
    folder = Path(out)
    refuse_inside(folder, data)
    with joined(0.0) as ranks, ExitStack() as stack:
        if how.ray and ranks.size > 1:
            raise UsageError("V001", "--ray under torchrun: both would spread the shards", hint="take one of them")
        asked = asked_of(model, data, folder, how, ranks)
        if ranks.rank == 0:
            for line in asked.pictures.notes:
                note(line)
        agree(ranks, asked.job)
        ranks.first(lambda: stack.enter_context(held(folder, asked.job)))
        numbers = range(ranks.rank, asked.job.shards, ranks.size)
        part = _Part(*known(folder, asked.job, numbers))
        _tell(asked.job, part, len(numbers), note)
        todo = [number for number in numbers if number not in part.shards]
        if how.ray and todo:
            making = _by_ray(Worker(str(model), str(data), folder, how, asked.job, all_trusted()), todo)
        else:
            making = made(asked.job, todo, asked.model, asked.pictures, folder, workers=how.workers)
        _make(making, asked.job, part, todo, ranks, progress=progress, note=note)
        return _together(ranks, folder, asked.job, part)


def _tell(job: Job, part: _Part, mine: int, note: Callable[[str], None]) -> None:
    if part.shards:
        note(f"{len(part.shards):,} of {count(mine, 'shard')} stand already")
    for name in part.again:
        note(f"{name} is not known to be whole: it is made again")


def _make(
    making: Made,
    job: Job,
    part: _Part,
    todo: Sequence[int],
    ranks: Ranks,
    *,
    progress: Callable[[int, int], None],
    note: Callable[[str], None],
) -> None:
    numbers = {job.name(number): number for number in todo}
    done, total = 0, sum(len(job.rows(number)) for number in todo)
    with watched() as stop, ranks.watch(lambda: stop.caught), closing(making):  # type: ignore[type-var]
        for answered, shard in making:
            done += answered
            progress(done, total)
            if shard is not None:
                part.shards[numbers[shard.name]] = shard
                part.made += 1
                bad = f", {shard.bad} of them bad" if shard.bad else ""
                note(f"{shard.name}: {count(shard.rows, 'picture')}{bad} ({done:,} of {total:,})")
                ranks.at(f"wrote {shard.name}")
            if stop.caught or ranks.stopping:
                part.stopped = stop.caught or "a signal"
                break


def _together(ranks: Ranks, folder: Path, job: Job, part: _Part) -> ShardsResult:
    """What all ranks have; `Stopped` on all of them where one was told to stop before all shards stood."""
    parts = ranks.gather(part)
    shards = {number: shard for one in parts for number, shard in one.shards.items()}
    if len(shards) < job.shards:
        by = next(one.stopped for one in parts if one.stopped)
        raise Stopped(
            "V901",
            f"stopped by {by}: {len(shards):,} of {count(job.shards, 'shard')} stand in `{folder}`",
            hint="run the same command again to go on",
        )
    ordered = tuple(shards[number] for number in range(job.shards))
    stood = ranks.first(lambda: finish(folder, job, ordered))
    again = tuple(sorted(name for one in parts for name in one.again))
    return ShardsResult(folder, job, ordered, sum(one.made for one in parts), again, stood)


@dataclass(frozen=True)
class Worker:
    """What a worker of Ray needs to make shards of the same job; called by each of them once."""

    model: str
    data: str
    folder: Path
    how: Asking
    job: Job
    trust: bool  # programs that were made elsewhere

    def __call__(self) -> Callable[[int], Shard]:
        with trusting() if self.trust else nullcontext():
            asked = asked_of(self.model, self.data, self.folder, self.how, Ranks())
        if wrong := differences(self.job.plain(), asked.job.plain(), who="on a worker"):
            raise RunError(
                "V602",
                "a worker of Ray would write other rows",
                evidence=wrong,
                hint="every machine must reach the same model and the same pictures, and have the same engine",
            )
        return partial(_one, asked, self.folder, self.how.workers)

    def absolute(self) -> Worker:
        """With places that mean the same in another working folder."""
        model, data = (os.path.abspath(place) if os.path.exists(place) else place for place in (self.model, self.data))
        return Worker(model, data, self.folder.absolute(), self.how, self.job, self.trust)


def _one(asked: Asked, folder: Path, workers: int, number: int) -> Shard:
    (shard,) = [s for _, s in made(asked.job, [number], asked.model, asked.pictures, folder, workers=workers) if s]
    return shard


def _by_ray(worker: Worker, todo: Sequence[int]) -> Made:
    from vitrail.predictions.ray import spread

    gpu = worker.job.device != "cpu"
    with closing(spread(worker.absolute(), todo, worker.how.ray, gpu=gpu)) as shards:  # type: ignore[type-var]
        for shard in shards:
            yield shard.rows, shard
