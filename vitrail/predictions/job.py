"""What is asked of which pictures, pinned in the folder of its shards.

`predict.json` stands there from the beginning and holds all that decides a byte of a shard: whoever asks for something
else is refused with the difference. `shards.json` is written last, with the hash of every shard.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from vitrail.disk import ASIDE, make_folder, read_file, remove_leftovers, sha256_bytes, write_file
from vitrail.errors import RunError, SystemFault, UsageError, printable, read_fault
from vitrail.formats import json
from vitrail.locks import locked

FORMAT = "1.0"
NAME = "predict.json"
SUMMARY = "shards.json"
PART = "part-"  # how names of shards begin
MOST_SHARDS = 50_000  # of one job: all of them are listed in one file
MOST_ROWS = 100_000  # of one shard: they are in memory until it is written
LIMIT = 16 << 20  # bytes of predict.json

Format = Literal["csv", "parquet"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that decides a byte of the shards.

    model: SHA-256 of a bundle's manifest, or of the weights. engine: what computes, as `vitrail.open` takes it, of
    which graph, "" for weights, on which kind of device. policy: in plain values.
    pictures, source: how many there are, and their fingerprint. batch: pictures computed at a time, which decides the
    last bits of a probability. versions: of vitrail, and of what decodes and computes.
    """

    model: str
    engine: str
    graph: str
    device: str
    policy: dict[str, Any]
    source: str
    pictures: int
    top: int
    batch: int
    shard_rows: int
    format: Format
    versions: dict[str, str]

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.pictures // self.shard_rows)

    @property
    def digest(self) -> str:
        """SHA-256 of what is pinned."""
        return sha256_bytes(self.to_json())

    def name(self, number: int) -> str:
        """The file of shard `number`, from 0: `part-000012-of-000345.csv`."""
        return f"{PART}{number:06d}-of-{self.shards:06d}.{self.format}"

    def rows(self, number: int) -> range:
        """The pictures of shard `number`."""
        start = number * self.shard_rows
        return range(start, min(start + self.shard_rows, self.pictures))

    def plain(self) -> dict[str, Any]:
        """What is pinned, in plain values."""
        return {"job": FORMAT, **{field.name: getattr(self, field.name) for field in fields(self)}}

    def to_json(self) -> bytes:
        """`predict.json`: the same job gives the same bytes."""
        return json.dumps(self.plain(), indent=1) + b"\n"


def differences(ours: dict[str, Any], theirs: dict[str, Any], *, who: str) -> list[str]:
    """What two jobs differ in, a line each, parts of the policy by their own names.

    >>> differences({"top": 5, "policy": {"crop": 0.9}}, {"top": 3, "policy": {"crop": 1.0}}, who="there")
    ['policy.crop: 1.0 there, 0.9 here', 'top: 3 there, 5 here']
    """
    one, other = _flat(ours), _flat(theirs)
    absent = "absent"
    return [
        f"{key}: {other.get(key, absent)} {who}, {one.get(key, absent)} here"
        for key in sorted({*one, *other})
        if one.get(key, absent) != other.get(key, absent)
    ]


def _flat(values: dict[str, Any], lead: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{lead}{key}.") if isinstance(value, dict) else {f"{lead}{key}": value}
    return found


@contextmanager
def held(folder: Path, job: Job) -> Iterator[None]:
    """Inside, `folder` is this job's alone, and holds nothing but what it wrote.

    UsageError V006 where something else lies there, RunError V602 with the differences where another job does, V604
    where its `predict.json` is damaged, V606 where another process is at it; SystemFault V701 for the disk.
    """
    _check_limits(job)
    if folder.exists() and not folder.is_dir():
        raise UsageError("V006", f"`{folder}` is a file", hint="name a folder for the shards")
    pinned = folder / NAME
    if not pinned.exists():
        _refuse_others(folder)
    make_folder(folder)
    with locked(folder):
        if pinned.exists():
            _refuse_another(pinned, job)
            _refuse_strangers(folder, job)
        else:
            _refuse_others(folder)
            write_file(pinned, job.to_json())
        remove_leftovers(folder)
        yield


def pinned_engine(folder: Path) -> str | None:
    """The engine that a job begun in `folder` goes on with; None where there is none, or none that can be read."""
    try:
        there = json.loads(read_file(folder / NAME, limit=LIMIT, follow=False))
    except (SystemFault, ValueError):
        return None  # what is wrong with it is said when the folder is taken
    engine = there.get("engine") if isinstance(there, dict) else None
    return engine if isinstance(engine, str) else None


def _check_limits(job: Job) -> None:
    if job.shards > MOST_SHARDS:
        raise UsageError(
            "V007",
            f"{job.pictures:,} pictures in shards of {job.shard_rows:,} rows are {job.shards:,} shards",
            hint=f"give --shard-rows {-(-job.pictures // MOST_SHARDS)} or more: {MOST_SHARDS:,} shards are the most",
        )


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise read_fault(error, folder) from error


def _refuse_others(folder: Path) -> None:
    """What a job that was stopped before it pinned anything leaves is a lock, no more."""
    others = [name for name in _names(folder) if name != ".lock" and not name.startswith(ASIDE)]
    if others:
        raise UsageError(
            "V006",
            f"`{folder}` is not empty, and holds no {NAME}",
            evidence=[f"it holds {printable(name)}" for name in others[:5]],
            hint="give a new folder",
        )


def _refuse_another(pinned: Path, job: Job) -> None:
    data = read_file(pinned, limit=LIMIT, follow=False)
    try:
        there = json.loads(data)
    except ValueError as error:
        raise RunError("V604", f"`{pinned}` is damaged: {error}", hint="give another --out, and begin again") from error
    if not isinstance(there, dict):
        raise RunError("V604", f"`{pinned}` is no JSON object", hint="give another --out, and begin again")
    if wrong := differences(job.plain(), there, who="there"):
        raise RunError(
            "V602",
            f"`{pinned.parent}` holds the shards of another job",
            evidence=wrong,
            hint="ask for the same as there, or give another --out",
        )


def _refuse_strangers(folder: Path, job: Job) -> None:
    """A file that looks like a shard and is none of this job would be read as rows."""
    own = {job.name(number) for number in range(job.shards)}
    strangers = [name for name in _names(folder) if name.startswith(PART) and name not in own]
    if strangers:
        raise UsageError(
            "V006",
            f"`{folder}` holds {len(strangers)} files beside its {job.shards} shards that look like shards",
            evidence=[printable(name) for name in strangers[:5]],
            hint="move them away: whoever reads the folder would take them for rows of it",
        )
