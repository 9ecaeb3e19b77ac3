"""What a reader does while it reads: files it opens, processes it starts, and how far its memory grows."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

MEMORY = 80 << 20  # 64 MiB of parse memory, and what the interpreter needs beside it
WATCHED = ("import", "exec", "compile", "marshal", "pickle", "open", "os", "subprocess", "socket", "ctypes", "pty",
           "shutil", "urllib")  # fmt: skip

Deed = tuple[str, str]

_libc = ctypes.CDLL(None)
_seen: list[Deed] | None = None


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _seen is not None and event.partition(".")[0] in WATCHED:
        _seen.append((event, _word(arguments[0]) if arguments else ""))


def _word(argument: object) -> str:
    return os.fsdecode(argument) if isinstance(argument, bytes) else str(argument)


sys.addaudithook(_hook)


@contextlib.contextmanager
def watched() -> Iterator[list[Deed]]:
    """The list that fills with (event, its first argument) of all that is opened, imported or run."""
    global _seen
    seen: list[Deed] = []
    _seen = seen
    try:
        yield seen
    finally:
        _seen = None


@contextlib.contextmanager
def deeds(memory: int = MEMORY) -> Iterator[list[Deed]]:
    """As `watched`; AssertionError when the memory of the process grows by more than `memory` bytes at its peak."""
    before = forget_the_peak()
    with watched() as seen:
        yield seen
    grown = status("VmHWM") - before
    assert grown <= memory, f"{grown} bytes of memory were taken"


def forget_the_peak() -> int:
    """Let the peak of memory begin anew; bytes that the process has now."""
    _libc.malloc_trim(0)  # or what was freed before hides what is taken now
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def status(name: str) -> int:
    """VmRSS, VmHWM: bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))
