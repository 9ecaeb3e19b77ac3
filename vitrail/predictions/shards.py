"""Shards made and known again. Each is written aside and renamed; what is known of it lies beside it until the end.

A shard is taken for done when its bytes are those that were written down for this job: after a kill nothing is lost,
nothing stands twice, and a damaged or foreign file in its place is made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.loader import LARGE, ahead
from vitrail.data.sources.unlabelled import Pictures
from vitrail.data.threads import PATIENCE, working_on
from vitrail.disk import read_file, sha256_bytes, sha256_file, write_file
from vitrail.errors import PictureError, SystemFault, write_fault
from vitrail.formats import json
from vitrail.pictures import kernels
from vitrail.pictures.policy import Policy
from vitrail.pictures.predict import Failed, Model, Waiting, answers
from vitrail.predictions.job import SUMMARY, Job
from vitrail.predictions.rows import Answer, to_bytes

LIMIT = 64 << 20  # bytes of what is known of shards


@dataclass(frozen=True)
class Shard:
    """A shard that stands. bad: rows of pictures that could not be read."""

    name: str
    rows: int
    bad: int
    bytes: int
    sha256: str


def made(
    job: Job, numbers: Sequence[int], model: Model, pictures: Pictures, folder: Path, *, workers: int
) -> Iterator[tuple[int, Shard | None]]:
    """Make these shards in `folder`, one after the other: how many pictures were answered, after each batch, and the
    shard when it stands. `workers` threads decode ahead of the engine, also past the end of a shard.

    NumbersBroke V811 for NaN or Inf; SystemFault V701 for the disk, V702 where a read never returns.
    """
    if not numbers:
        return
    if len(numbers) * job.shard_rows >= LARGE:
        kernels.ready()
    per_shard = -(-job.shard_rows // job.batch)  # batches; the last shard may have fewer
    turns = per_shard * (len(numbers) - 1) + -(-len(job.rows(numbers[-1])) // job.batch)

    def place(turn: int) -> tuple[int, range]:
        number = numbers[turn // per_shard]
        rows, start = job.rows(number), turn % per_shard * job.batch
        return number, rows[start : start + job.batch]

    def prepare(turn: int) -> Waiting:
        return [(pictures.title(index), _pixels(pictures, index, model.policy)) for index in place(turn)[1]]

    rows: list[Answer] = []
    with closing(ahead(prepare, 0, turns, workers, PATIENCE)) as waiting:
        for turn, batch in enumerate(waiting):
            number, part = place(turn)
            rows += answers(model, batch, job.top)
            if part.stop < job.rows(number).stop:
                yield len(batch), None
                continue
            yield len(batch), _write(folder, job, number, rows)
            rows = []


def _pixels(pictures: Pictures, index: int, policy: Policy) -> NDArray[np.uint8] | PictureError:
    try:
        with working_on(pictures.title(index)):
            return policy.pixels(pictures.read(index))
    except PictureError as error:
        return error


def _write(folder: Path, job: Job, number: int, rows: Sequence[Answer]) -> Shard:
    name, data = job.name(number), to_bytes(rows, job.top, job.format)
    assert len(rows) == len(job.rows(number)), f"{len(rows)} rows in {name}"
    bad = sum(isinstance(answer, Failed) for answer in rows)
    shard = Shard(name, len(rows), bad, len(data), sha256_bytes(data))
    write_file(folder / name, data)
    write_file(_beside(folder, name), json.dumps({"job": job.digest, **asdict(shard)}) + b"\n")
    return shard


def _beside(folder: Path, name: str) -> Path:
    return folder / f".{name}.json"


def known(folder: Path, job: Job, numbers: Sequence[int]) -> tuple[dict[int, Shard], list[str]]:
    """Those of the shards that stand as they were written, and the names of the others that are there in some form."""
    listed = _summary(folder, job)
    found: dict[int, Shard] = {}
    spoiled: list[str] = []
    for number in numbers:
        name = job.name(number)
        shard = _stated(folder, job, name) or listed.get(name)
        if shard is not None and _stands(folder / name, shard, len(job.rows(number))):
            found[number] = shard
        elif shard is not None or (folder / name).is_symlink() or (folder / name).exists():
            spoiled.append(name)
    return found, spoiled


def _stands(path: Path, shard: Shard, rows: int) -> bool:
    try:
        return shard.rows == rows and sha256_file(path, follow=False) == shard.sha256
    except SystemFault:
        return False  # it is gone, unreadable or no file: it is made again, and if that cannot be, the disk says why


def _stated(folder: Path, job: Job, name: str) -> Shard | None:
    """What was written down beside a shard of this job."""
    values = _read(_beside(folder, name))
    return _shard(values) if values is not None and values.pop("job", None) == job.digest else None


def _summary(folder: Path, job: Job) -> dict[str, Shard]:
    values = _read(folder / SUMMARY)
    if values is None or values.get("job") != job.digest or not isinstance(values.get("shards"), list):
        return {}
    shards = [_shard(row) for row in values["shards"]]
    return {shard.name: shard for shard in shards if shard is not None}


def _read(path: Path) -> dict[str, Any] | None:
    """The object that a small file of ours holds; None where it is absent or damaged: its shards are made again."""
    try:
        value = json.loads(read_file(path, limit=LIMIT, follow=False), limit=LIMIT)
    except (SystemFault, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _shard(values: object) -> Shard | None:
    kinds = {"name": str, "rows": int, "bad": int, "bytes": int, "sha256": str}
    if not isinstance(values, Mapping) or {key: type(value) for key, value in values.items()} != kinds:
        return None
    return Shard(**values)


def finish(folder: Path, job: Job, shards: Sequence[Shard]) -> bool:
    """Write down that all shards stand, once and last; what lay beside each of them goes. Whether it stood already."""
    assert [shard.name for shard in shards] == [job.name(number) for number in range(job.shards)]
    values = {
        "job": job.digest,
        "pictures": job.pictures,
        "bad": sum(shard.bad for shard in shards),
        "shards": [asdict(shard) for shard in shards],
    }
    data = json.dumps(values, indent=1) + b"\n"
    stood = _holds(folder / SUMMARY, data)
    if not stood:
        write_file(folder / SUMMARY, data)
    try:
        for shard in shards:
            _beside(folder, shard.name).unlink(missing_ok=True)
    except OSError as error:
        raise write_fault(error, folder / SUMMARY) from error
    return stood


def _holds(path: Path, data: bytes) -> bool:
    try:
        return read_file(path, limit=LIMIT, follow=False) == data
    except SystemFault:
        return False  # there is none, or none that can be read: it is written
