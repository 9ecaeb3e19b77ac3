"""A small job of predictions under faults: nine pictures in memory, three shards, a model without an engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from vitrail.data.sources.unlabelled import Pictures
from vitrail.errors import PictureError
from vitrail.pictures.policy import Policy
from vitrail.predictions.job import Job, held
from vitrail.predictions.shards import finish, known, made


class Sums:
    """A model of three classes whose answers are sums of pixels: it has no threads, so it may be forked."""

    policy = Policy(size=(4, 4), mean=(0.5,) * 3, std=(0.5,) * 3)
    classes = ("one", "two", "three")

    def logits(self, batch: np.ndarray) -> np.ndarray:
        return batch.reshape(len(batch), 3, -1).sum(axis=2).astype(np.float32)


def picture(index: int) -> np.ndarray:
    if index == 5:
        raise PictureError("V302", "picture 5 is cut", hint="send it again")
    return np.random.default_rng(index).integers(0, 256, (6, 5, 3), np.uint8)


PICTURES = Pictures("memory", 9, picture, lambda index: f"{index}.png", "the same nine")
PLAIN = {
    "model": "sums", "engine": "sums", "graph": "", "device": "cpu", "policy": Sums.policy.to_json(),
    "source": "the same nine", "pictures": 9, "top": 2, "batch": 2, "shard_rows": 4, "format": "csv", "versions": {},
}  # fmt: skip
JOB = Job(**PLAIN)


def answer(folder: Path, job: Job = JOB) -> bool:
    """The job from wherever it is to its end; whether it was there before."""
    with held(folder, job):
        numbers = range(job.shards)
        shards, _ = known(folder, job, numbers)
        todo = [number for number in numbers if number not in shards]
        for _, shard in made(job, todo, Sums(), PICTURES, folder, workers=0):
            if shard is not None:
                shards[int(shard.name[5:11])] = shard
        return finish(folder, job, [shards[number] for number in numbers])


def whole(place: Path) -> Callable[[], object]:
    """The whole job in a new folder."""
    return lambda: answer(place / "out")


def repaired(place: Path) -> Callable[[], object]:
    """A finished job of which one shard is damaged."""
    answer(place / "out")
    with (place / "out" / JOB.name(1)).open("ab") as file:
        file.write(b"junk")
    return lambda: answer(place / "out")
