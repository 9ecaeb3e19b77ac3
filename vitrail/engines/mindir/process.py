"""Our side of the process that has MindSpore (`child.py` has the frames): bounded in time, and gone when we are."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select
import struct
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path
from typing import IO

from vitrail.errors import BundleError, UsageError

VARIABLE = "VITRAIL_MINDSPORE_PYTHON"
INSTALL = "python3 -m venv .venv-mindspore && .venv-mindspore/bin/pip install mindspore==2.10.0"
LONGEST = 1 << 30  # bytes of one frame
START, COMPILE = 300.0, 900.0  # seconds: to import MindSpore and read a graph, and to write one
PICTURE = 10.0  # seconds for one more picture of a batch
CHILD = Path(__file__).with_name("child.py")


def interpreter(python: str | Path | None = None) -> str:
    """The Python that has MindSpore: the one given, else that of VITRAIL_MINDSPORE_PYTHON, else this one.

    UsageError V003 with the commands that make one when there is none.
    """
    named = str(python) if python is not None else os.environ.get(VARIABLE)
    if named:  # the child runs in another folder; a bare name is looked for in PATH
        return os.path.abspath(named) if os.path.dirname(named) else named
    if importlib.util.find_spec("mindspore") is None:
        raise absent("this Python has no MindSpore")
    return sys.executable


def absent(why: str) -> UsageError:
    """UsageError V003: what to install, and how to point to it."""
    hint = f"{INSTALL}, then export {VARIABLE}=.venv-mindspore/bin/python"
    return UsageError("V003", f"MINDIR needs MindSpore in some Python, and {why}", hint=hint)


class Child:
    """A running child.  code: of the BundleError for whatever goes wrong in it."""

    def __init__(self, mode: str, path: Path, *, python: str, threads: int | None, code: str) -> None:
        self._code, self._python = code, python
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115, it lives as long as the child
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
        environment["GLOG_v"] = "4"  # errors are raised; its log is for those who build it
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        try:
            self._process = subprocess.Popen(
                [python, "-I", "-W", "ignore", str(CHILD), mode, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                bufsize=0,
                cwd=path if path.is_dir() else path.parent,  # MindSpore leaves folders where it runs
                env=environment,
            )
        except OSError as error:
            self._said.close()
            raise absent(f"`{python}` cannot be run: {error.strerror}") from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._sink, self._source = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._sink, False)
        self.close = weakref.finalize(self, _end, self._process, self._said)

    def ask(self, data: bytes, *, seconds: float) -> bytes:
        """The body of the answer to a batch."""
        end, view = time.monotonic() + seconds, memoryview(data)
        while view:
            self._wait([], [self._sink], end, seconds)
            try:
                view = view[os.write(self._sink, view) :]
            except BrokenPipeError:
                break  # why it ended stands in what it said before
        return self.hear("A", seconds=seconds)

    def hear(self, kind: str, *, seconds: float) -> bytes:
        """The body of the next frame, which must be of that kind.

        UsageError V003 where MindSpore is not there; BundleError where it refuses, dies, hangs or is not understood.
        """
        end = time.monotonic() + seconds
        length, found = struct.unpack("<Ic", self._receive(5, end, seconds))
        if found not in (kind.encode(), b"E", b"N") or length > LONGEST:
            raise self._fault("gave a senseless answer")
        body = self._receive(length, end, seconds)
        if found == kind.encode():
            return body
        self.close()
        text = body.decode("utf-8", "replace")
        if found == b"N":
            raise absent(f"`{self._python}` has none: {text}")
        lines = [line.strip() for line in text.splitlines() if line.strip(" -")]
        raise self._fault("refuses it", lines[:3])

    def _receive(self, count: int, end: float, seconds: float) -> bytes:
        got = bytearray()
        while len(got) < count:
            self._wait([self._source], [], end, seconds)
            piece = os.read(self._source, count - len(got))
            if not piece:
                raise self._died()
            got += piece
        return bytes(got)

    def _wait(self, readable: list[int], writable: list[int], end: float, seconds: float) -> None:
        left = end - time.monotonic()
        if left <= 0 or not any(select.select(readable, writable, [], left)):
            raise self._fault(f"gave no answer within {seconds:g} s")

    def _died(self) -> BundleError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.poll()
        how = "" if code is None else f" (signal {-code})" if code < 0 else f" (exit code {code})"
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - 2000))
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return self._fault(f"ended{how}", lines[-3:])

    def _fault(self, what: str, said: list[str] | None = None) -> BundleError:
        self.close()
        verb = "written as MINDIR" if self._code == "V508" else "run on MindSpore"
        return BundleError(
            self._code,
            f"the network cannot be {verb}: the process that has MindSpore {what}",
            evidence=[line[:200] for line in said or ()],
            hint="try the Python that has mindspore==2.10.0, which is what was tried here; or choose another format",
        )


def _end(process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, said):
        assert pipe is not None
        pipe.close()
