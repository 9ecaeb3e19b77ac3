"""Kill or fail the N-th file call of anything: `trials("module:function", folder, faults)`.

A scenario is a function `prepare(folder) -> act`: what it does itself is set-up without faults; the returned `act()`
runs with every file call below `folder` counted, and one of them killed or failed. Every trial has its own folder and
its own forked process; the module is imported once.

    clean = trial("tests.faults.scenarios:full_save", tmp_path)          # no fault: the number of calls, the trace
    for outcome in trials("tests.faults.scenarios:full_save", tmp_path, kills(clean)): ...
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_name("preload.c")
ERRNOS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EINTR)
Kind = Literal["nothing", "kill", "errno", "short-one", "short-less"]


@dataclass(frozen=True)
class Fault:
    """What happens at counted call number `at` (from 1), or with onward at every call from there on."""

    at: int = 0
    kind: Kind = "nothing"
    errno: int = 0
    onward: bool = False

    def __post_init__(self) -> None:
        # Python repeats a call that gave EINTR, so EINTR for ever would be a hang by construction.
        assert not (self.onward and self.errno == errno.EINTR)


class Call(NamedTuple):
    """One recorded call: its name without variants, its path below the trial's folder, a second path if it has one."""

    name: str
    path: str
    other: str = ""


@dataclass(frozen=True)
class Outcome:
    """How one trial ended. exit: the exit status, negative for a signal; hit: the first call that was changed."""

    fault: Fault
    folder: Path
    exit: int
    calls: int
    hits: int
    hit: Call | None
    trace: tuple[Call, ...]
    result: object
    error: dict[str, str] | None  # code and text of a VitrailError
    crash: str | None  # the traceback of anything else: always a bug

    @property
    def killed(self) -> bool:
        """The fault was a kill and it struck."""
        return self.exit == -9


def trials(scenario: str, folder: Path, faults: Iterable[Fault], *, trace: bool = False) -> list[Outcome]:
    """One trial per fault, each in a new folder below `folder`; the checks afterwards are the caller's."""
    return list(_trials(scenario, folder, list(faults), trace))


def trial(scenario: str, folder: Path) -> Outcome:
    """The scenario without a fault, with its trace: how many calls there are, and which."""
    (outcome,) = trials(scenario, folder, [Fault()], trace=True)
    assert outcome.crash is None, outcome.crash
    return outcome


def kills(clean: Outcome) -> list[Fault]:
    """A SIGKILL at every call of a clean run."""
    return [Fault(at, "kill") for at in range(1, clean.calls + 1)]


def failures(clean: Outcome) -> list[Fault]:
    """Every error and short write at every call of a clean run, once and from there on."""
    numbers = range(1, clean.calls + 1)
    counted = [call for call in clean.trace if call.name != "read"]
    writes = [at for at in numbers if counted[at - 1].name == "write"]
    return [
        *(Fault(at, "errno", code) for code in ERRNOS for at in numbers),
        *(Fault(at, "errno", code, onward=True) for code in ERRNOS if code != errno.EINTR for at in numbers),
        *(Fault(at, kind, onward=on) for kind in ("short-one", "short-less") for on in (False, True) for at in writes),
    ]


def library() -> Path:
    """The preload library, built once per content of its source, by the compiler that the README asks for."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None, "the README asks for gcc"
    name = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    built = Path(tempfile.gettempdir()) / f"vitrail-faults-{os.getuid()}" / f"{name}.so"
    if not built.exists():
        built.parent.mkdir(mode=0o700, exist_ok=True)
        aside = built.with_suffix(f".{os.getpid()}")
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", aside, SOURCE, "-ldl"], check=True
        )
        os.replace(aside, built)
    return built


def _trials(scenario: str, folder: Path, faults: Sequence[Fault], trace: bool) -> Iterator[Outcome]:
    environment = os.environ | {"LD_PRELOAD": str(library()), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.server", scenario],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        for fault in faults:
            place = Path(tempfile.mkdtemp(dir=folder.resolve(), prefix="trial-"))
            request = {"folder": str(place), "trace": trace, **vars(fault)}
            server.stdin.write(json.dumps(request) + "\n")
            server.stdin.flush()
            line = server.stdout.readline()
            assert line, f"the fault server died at {fault}"
            yield _outcome(fault, place, json.loads(line))
        server.stdin.close()


def _outcome(fault: Fault, place: Path, said: dict[str, object]) -> Outcome:
    calls = [Call(*words) for words in said.pop("trace")]  # type: ignore[attr-defined]
    hit = said.pop("hit")
    return Outcome(fault=fault, folder=place, trace=tuple(calls), hit=Call(*hit) if hit else None, **said)  # type: ignore
