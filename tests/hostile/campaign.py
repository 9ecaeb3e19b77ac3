"""One engine for mutants: seeded changes to small real files of every container, each read, each outcome counted.

    python -m tests.hostile.campaign [NAME...] [--count N] [--seed S] [--out FILE]

What may happen to a mutant: it reads as the file it was made of, it reads as another valid file (formats without
checksums), or it is refused by a code.  Anything else is a finding: another exception or code, a message that is not
one printable line with a way out, something opened, imported or run, more memory or time than the bounds, or a reading
with which the reference implementation does not agree.  A finding's file is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import os
import platform
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from tests.hostile.deeds import MEMORY, Deed, forget_the_peak, watched
from vitrail.disk import write_file
from vitrail.errors import VitrailError, WeightsError
from vitrail.machine import cores, cpu_name

SECONDS = 5
MEMORY_DISK = "/dev/shm"
CODES = frozenset({"V201", "V202", "V206"})


@dataclass(frozen=True)
class Seed:
    """What is changed, and the file around it: so that mutants of what lies inside get past lengths and checksums."""

    body: bytes
    file: Callable[[bytes], bytes] = bytes


@dataclass(frozen=True)
class Reader:
    """A reader under attack.

    place: lays the bytes of a file into a folder, beside what belongs to it, and gives the path to read.
    check: raises AssertionError for a mutant that was accepted and should not be, or reads as something else elsewhere.
    built: a file drawn whole, every fourth in place of a mutant.  opens: what may be opened beside the path itself.
    """

    name: str
    promise: str
    full: int
    seeds: Callable[[], Sequence[Seed]]
    place: Callable[[Path, bytes], Path]
    read: Callable[[Path], object]
    splices: Sequence[bytes] = ()
    check: Callable[[Path, object], None] | None = None
    built: Callable[[random.Random], bytes] | None = None
    codes: frozenset[str] = CODES
    deeds: frozenset[str] = frozenset({"open"})
    memory: int = MEMORY


@dataclass
class Tally:
    """What became of the mutants of one reader."""

    mutants: int = 0
    seconds: float = 0.0
    equal: int = 0
    other: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def counts(self, promised: int) -> dict[str, object]:
        """The figures as they are kept."""
        return {
            "mutants": self.mutants,
            "promised": promised,
            "seconds": round(self.seconds, 1),
            "read_equal": self.equal,
            "read_as_another": self.other,
            "refused": dict(sorted(self.refused.items())),
            "findings": self.findings,
        }

    def line(self) -> str:
        codes = ", ".join(f"{code} {count}" for code, count in sorted(self.refused.items()))
        return (
            f"{self.mutants} mutants in {self.seconds:.0f} s: {self.equal} read equal, {self.other} read as another, "
            f"refused {codes or 'none'}; {len(self.findings)} findings"
        )


def put(path: Path, data: bytes) -> Path:
    """Write over a file without emptying it first, for which file systems take milliseconds."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
        os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)
    return path


# The ways to change bytes, each in place.

INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)
LENGTHS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, 1 << 63)


def _flip(draw: random.Random, body: bytearray, _: bytes) -> None:
    body[draw.randrange(len(body))] ^= 1 << draw.randrange(8)


def _set(draw: random.Random, body: bytearray, _: bytes) -> None:
    body[draw.randrange(len(body))] = draw.choice(INTERESTING) if draw.random() < 0.7 else draw.randrange(256)


def _insert(draw: random.Random, body: bytearray, splice: bytes) -> None:
    at = draw.randrange(len(body) + 1)
    body[at:at] = splice


def _overwrite(draw: random.Random, body: bytearray, splice: bytes) -> None:
    at = draw.randrange(len(body))
    body[at : at + len(splice)] = splice


def _replace(draw: random.Random, body: bytearray, splice: bytes) -> None:
    at = draw.randrange(len(body))
    body[at : at + draw.randint(0, 6)] = splice


def _delete(draw: random.Random, body: bytearray, _: bytes) -> None:
    at = draw.randrange(len(body))
    del body[at : at + (draw.randint(1, 8) if draw.random() < 0.8 else draw.randrange(len(body)))]


def _cut(draw: random.Random, body: bytearray, _: bytes) -> None:
    del body[draw.randrange(len(body)) :]


def _double(draw: random.Random, body: bytearray, _: bytes) -> None:
    start = draw.randrange(len(body))
    block = body[start : start + draw.choice((1, 2, 4, 8, 16, 64, 256))]
    at = start + len(block) if draw.random() < 0.5 else draw.randrange(len(body) + 1)
    body[at:at] = block


def _swap(draw: random.Random, body: bytearray, _: bytes) -> None:
    size = draw.choice((1, 2, 4, 8, 16, 64))
    one, two = sorted((draw.randrange(len(body)), draw.randrange(len(body))))
    if two + size <= len(body) and one + size <= two:
        body[one : one + size], body[two : two + size] = body[two : two + size], body[one : one + size]


def _length(draw: random.Random, body: bytearray, _: bytes) -> None:
    """A number of 1, 2, 4 or 8 bytes, of either order, becomes a little or very different."""
    width, order = draw.choice((1, 2, 4, 4, 8, 8)), draw.choice(("little", "little", "big"))
    at = draw.randrange(len(body))
    if at + width > len(body):
        return
    value = int.from_bytes(body[at : at + width], order)  # type: ignore[arg-type]
    value = draw.choice((value + 1, value - 1, value * 2, len(body), draw.choice(LENGTHS), -1 - draw.randrange(9)))
    body[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, order)  # type: ignore[arg-type]


WAYS = (_flip, _flip, _set, _set, _length, _length, _overwrite, _insert, _replace, _delete, _double, _swap, _cut)


def mutated(draw: random.Random, seeds: Sequence[Seed], splices: Sequence[bytes]) -> tuple[int, bytes]:
    """One to four changes to one of the seeds: its number, and the file."""
    which = draw.randrange(len(seeds))
    seed = seeds[which]
    body = bytearray(seed.body)
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        if body:
            draw.choice(WAYS)(draw, body, _splice(draw, seeds, splices))
    return which, seed.file(bytes(body))


def _splice(draw: random.Random, seeds: Sequence[Seed], splices: Sequence[bytes]) -> bytes:
    kind = draw.random()
    if kind < 0.6 and splices:
        return draw.choice(splices)
    if kind < 0.8:
        other = draw.choice(seeds).body  # a piece of another file
        at = draw.randrange(len(other))
        return other[at : at + draw.choice((1, 4, 16, 64))]
    return draw.randbytes(draw.randint(1, 6))


class TooLongError(BaseException):
    """Not an Exception, so that no reader takes it for one of its own."""


def _ring(_: int, frame: FrameType | None) -> None:
    raise TooLongError


@contextlib.contextmanager
def _alarms() -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, _ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(reader: Reader, count: int, seed: int, folder: Path, *, seconds: float = float("inf")) -> Tally:
    """Read `count` mutants, or as many as can be read in so many seconds: each depends on seed and number alone."""
    tally, seeds = Tally(), reader.seeds()
    str(WeightsError("V201", "\x1b", hint="\ud800"))  # imports the codec of escapes
    wholes = [reader.read(reader.place(folder, one.file(one.body))) for one in seeds]  # imports what it needs, too
    descriptors = len(os.listdir("/proc/self/fd"))
    with _alarms():
        began = time.perf_counter()
        base = forget_the_peak()
        for number in range(count):
            if time.perf_counter() - began > seconds:
                break
            draw = random.Random(f"{seed}/{number}")
            if reader.built is not None and number % 4 == 0:
                which, file = -1, reader.built(draw)
            else:
                which, file = mutated(draw, seeds, reader.splices)
            tally.mutants += 1
            fault = _try(reader, file, wholes[which] if which >= 0 else None, folder, tally)
            if fault is None and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > base + reader.memory:
                fault = f"took {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - base} bytes"
                base = forget_the_peak()
            if fault is not None:
                kept = folder / "findings" / f"{reader.name}-{seed}-{number}"
                kept.parent.mkdir(exist_ok=True)
                kept.write_bytes(file)
                tally.findings.append(f"{kept.name}: {fault}")
        tally.seconds = time.perf_counter() - began
    if len(os.listdir("/proc/self/fd")) != descriptors:
        tally.findings.append("descriptors are left open")
    return tally


def _try(reader: Reader, file: bytes, whole: object, folder: Path, tally: Tally) -> str | None:
    """What is wrong with how a mutant was read, or None."""
    path = reader.place(folder, file)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with watched() as seen:
            found = reader.read(path)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if reader.check is not None:
            reader.check(path, found)
        if found == whole:
            tally.equal += 1
        else:
            tally.other += 1
    except VitrailError as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        tally.refused[error.code] += 1
        if error.code not in reader.codes:
            return f"{error.code}: {error}"
        bare = not error.hint
        if bare or not error.what.isprintable() or len(str(error)) > 4000:
            return f"no message: {error}"
    except TooLongError:
        return f"not read after {SECONDS} s"
    except Exception as error:  # that is what is looked for
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return _misdeed(reader, seen, path.parent)


def _misdeed(reader: Reader, seen: Sequence[Deed], folder: Path) -> str | None:
    for event, what in seen:
        inside = os.path.dirname(what) in ("", str(folder)) or what == str(folder)
        if event not in reader.deeds or (event == "open" and not inside):
            return f"{event} {what}"
    return None


def _row(reader: Reader, tally: Tally, seed: int) -> dict[str, object]:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"promise": reader.promise, **tally.counts(reader.full), "seed": seed, "date": today}


def _note(out: Path, kind: str, name: str, row: dict[str, object]) -> None:
    """Put one row into the file of results; others may do so at the same time."""
    with _alone(out.parent):
        values = json.loads(out.read_text()) if out.exists() else {}
        rows = {"readers": {}, "races": {}} | {key: values[key] for key in ("readers", "races") if key in values}
        rows[kind][name] = row
        values = {
            **{key: dict(sorted(found.items())) for key, found in rows.items()},
            "machine": {"processor": cpu_name(), "cores": cores()},
            "versions": {"python": platform.python_version()}
            | {key: importlib.metadata.version(key) for key in ("vitrail", "numpy", "torch", "safetensors", "h5py")},
        }
        write_file(out, (json.dumps(values, indent=1) + "\n").encode())


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _races(out: Path | None) -> None:
    """The full count of loads of files that are swapped meanwhile (`test_races.py`); AssertionError for wrong bytes."""
    from tests.hostile.test_races import WRITERS, loads, race

    for name in WRITERS:
        with tempfile.TemporaryDirectory(dir=MEMORY_DISK if os.path.isdir(MEMORY_DISK) else None) as folder:
            right, refused = race(name, loads(name), Path(folder))
        print(f"races of {name}: {right} read right, {refused} refused", flush=True)
        if out:
            _note(out, "races", name, {"promise": "C11", "loads": right + refused, "right": right, "refused": refused})


def main(arguments: Sequence[str] | None = None) -> int:
    from tests.hostile.mutants import READERS

    parser = argparse.ArgumentParser(description="Read seeded mutants and count what becomes of them.")
    parser.add_argument("names", nargs="*", default=[*READERS, "races"], help=f"of {', '.join(READERS)}, races")
    parser.add_argument("--count", type=int, help="mutants of each; default: the promised count")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="the most for each")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--out", type=Path, help="the JSON file of results")
    parser.add_argument("--keep", type=Path, help="the folder for the files of findings")
    asked = parser.parse_args(arguments)
    found = 0
    for name in asked.names:
        if name == "races":
            _races(asked.out)
            continue
        with tempfile.TemporaryDirectory(dir=MEMORY_DISK if os.path.isdir(MEMORY_DISK) else None) as folder:
            count = asked.count or READERS[name].full
            tally = run(READERS[name], count, asked.seed, Path(folder), seconds=asked.seconds)
            if tally.findings and asked.keep:
                asked.keep.mkdir(parents=True, exist_ok=True)
                for path in (Path(folder) / "findings").glob("*"):
                    (asked.keep / path.name).write_bytes(path.read_bytes())
        print(f"{name}: {tally.line()}", *tally.findings[:20], sep="\n  ", flush=True)
        found += len(tally.findings)
        if asked.out:
            _note(asked.out, "readers", name, _row(READERS[name], tally, asked.seed))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
