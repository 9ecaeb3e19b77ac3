"""What happened in a run, one JSON object a line, and the same for people in `train.log`.

Every row has `event` and `step`, the steps done when it was written:

    start  resume  end          the run itself
    step  skipped  broke        one step: trained, left out, or the one that ended the run
    overflow                    one step left out because its loss scale was too great; the next one's is smaller
    dump  capture  profile      what was watched of a step, after its row: the file, and what is in it
    bad                         a picture to train on that could not be read, before the step without it
    evaluation  checkpoint      what was done after a step; a checkpoint's row is written just before its files
    stopped  warning            a signal; something that failed and was passed over

Numbers are written so that they are read back exactly. What depends on the clock ends in `_s`, what depends on the
machine in `_bytes`; all else is the same in a resumed run and in an unbroken one, apart from `resume`, `stopped`,
`warning` and `profile` rows.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vitrail import disk
from vitrail.errors import RunError, printable, write_fault

JOURNAL, LOG = "journal.jsonl", "train.log"
Row = Mapping[str, object]
Form = Callable[[Mapping[str, Any]], list[str]]  # a row -> lines of the log
_LIMIT = 4 << 30  # bytes of a journal that is read
# Rows of a step itself, which a resume from just after it does not write again.
_OF_STEP = ("start", "step", "skipped", "overflow", "dump", "capture")


class Journal:
    """Appends rows to a run's journal and log, each flushed to the system before the call returns.

    patient: a row that the disk refuses is kept and written before the next one; otherwise it is SystemFault V701.
    form: gives the log's lines for a row, in place of our own.
    """

    def __init__(self, folder: Path, *, patient: bool = False, form: Form | None = None) -> None:
        self._form = form
        self._files = [_Lines(folder / JOURNAL, patient), _Lines(folder / LOG, patient)]

    def write(self, row: Row) -> None:
        """Append one row; to the log, too, unless it is a step's or a form says otherwise."""
        self._files[0].add(_dumps(row))
        if self._form is not None:
            self._files[1].add("".join(f"{line}\n" for line in self._form(row)).encode())
        elif row["event"] != "step":
            self._files[1].add(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {plain(row)}\n".encode())

    def sync(self) -> None:
        """Make the rows durable: before a checkpoint, so that no row is missing that a resume from it counts on."""
        for file in self._files:
            file.sync()

    def close(self) -> None:
        """Write what waits, and close. The rows of a full disk are lost then."""
        for file in self._files:
            file.close()


class _Lines:
    def __init__(self, path: Path, patient: bool) -> None:
        self._path, self._patient, self._waiting = path, patient, b""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            self._file = os.open(path, flags, 0o644)
        except OSError as error:
            raise write_fault(error, path) from error

    def add(self, line: bytes) -> None:
        self._waiting += line
        try:
            while self._waiting:
                self._waiting = self._waiting[os.write(self._file, self._waiting) :]
        except OSError as error:
            if not self._patient:
                raise write_fault(error, self._path) from error

    def sync(self) -> None:
        self.add(b"")
        try:
            os.fsync(self._file)
        except OSError as error:
            if not self._patient:
                raise write_fault(error, self._path) from error

    def close(self) -> None:
        try:
            self.add(b"")
        finally:
            os.close(self._file)


def _dumps(row: Row) -> bytes:
    return json.dumps(_numbers(row), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _numbers(value: object) -> object:
    """NaN and Inf as words: JSON has no such numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, Mapping):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_numbers(item) for item in value]
    return value


def plain(row: Row) -> str:
    """A row as a line of the log.

    >>> plain({"event": "evaluation", "step": 96, "top1": 0.9125, "wall_s": 0.5})
    'evaluation step=96 top1=0.9125 wall_s=0.5'
    """
    return printable(" ".join([str(row["event"]), *(f"{k}={_short(v)}" for k, v in row.items() if k != "event")]))


def _short(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 400 else f"{text[:397]}..."


def read(path: Path) -> list[dict[str, object]]:
    """The rows of a journal. A last line that a kill cut short is left out; RunError V604 for any other damage."""
    data = disk.read_file(path, limit=_LIMIT)
    lines = data.split(b"\n")
    rows: list[dict[str, object]] = []
    for number, line in enumerate(lines[:-1]):  # what follows the last line end is empty, or half a row
        row = _row(line)
        if row is None:
            if any(_row(later) is not None for later in lines[number + 1 : -1]):
                raise RunError("V604", f"line {number + 1} of `{path}` is no row", hint="restore it from a copy")
            break
        rows.append(row)
    return rows


def _row(line: bytes) -> dict[str, object] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int and "event" in row else None


def waited(rows: Sequence[Row]) -> float:
    """The share of the time of all steps that went into waiting for their pictures.

    >>> waited([{"event": "step", "step": 1, "wait_s": 1.0, "step_s": 3.0}, {"event": "end", "step": 1}])
    0.25
    """
    steps = [row for row in rows if row["event"] == "step"]
    waits, works = (math.fsum(float(str(row[key])) for row in steps) for key in ("wait_s", "step_s"))
    return waits / (waits + works) if waits + works > 0 else 0.0


def pace(rows: Sequence[Row]) -> dict[str, float]:
    """Images a second and seconds a step, waiting included, over all steps but the first two: a machine warms up.

    >>> step = {"event": "step", "step": 1, "wait_s": 0.1, "step_s": 0.4, "images_per_s": 64.0}
    >>> pace([step, step, {**step, "step_s": 0.3, "images_per_s": 80.0}])
    {'images_per_s': 80.0, 'sec_per_step': 0.4}
    """
    steps = [row for row in rows if row["event"] == "step"]
    steps = steps[2:] or steps
    times = [float(str(row["wait_s"])) + float(str(row["step_s"])) for row in steps]
    images = math.fsum(time * float(str(row["images_per_s"])) for time, row in zip(times, steps, strict=True))
    total = math.fsum(times)
    return {"images_per_s": images / total, "sec_per_step": total / len(steps)} if total > 0 else {}


def counted(path: Path) -> dict[str, object]:
    """How many steps of a run overflowed, and how many were left out because their numbers broke."""
    events = [row["event"] for row in read(path)]
    return {"overflows": events.count("overflow"), "broken": events.count("skipped")}


def truncate_to(path: Path, step: int, *, settled: bool = True) -> None:
    """Drop what happened after `step`, so that a resume from there writes it again, once.

    settled: whether what was due at `step` was done when the state was saved; else those rows go, too. A row `end`
    goes always. The file may be absent.
    """
    if not os.path.lexists(path):
        return
    kept = [row for row in read(path) if row["event"] != "end" and _stands(row, step, settled)]
    disk.write_file(path, b"".join(_dumps(row) for row in kept))


def _stands(row: Row, step: int, settled: bool) -> bool:
    at = row["step"]
    assert isinstance(at, int)
    if row["event"] == "bad":  # written before its step is counted
        return at < step
    return at < step or (at == step and (settled or row["event"] in _OF_STEP))


def retell(folder: Path, form: Form) -> None:
    """Write the log anew in this form, from the rows of the journal."""
    lines = [line for row in read(folder / JOURNAL) for line in form(row)]
    disk.write_file(folder / LOG, "".join(f"{line}\n" for line in lines).encode())


def restart(folder: Path) -> None:
    """An empty journal, for a run that starts at step 0; the log is kept."""
    disk.write_file(folder / JOURNAL, b"")
