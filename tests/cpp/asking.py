"""How tests ask the built programs."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


def ask(program: Path, lines: list[str]) -> list[str]:
    """One answer for each line."""
    with tempfile.TemporaryFile("w+") as asked:
        asked.write("".join(f"{line}\n" for line in lines))
        asked.seek(0)
        done = subprocess.run([program], stdin=asked, capture_output=True, text=True, errors="surrogateescape")
    assert done.returncode == 0, done.stderr[-2000:]
    answers = done.stdout.splitlines()
    assert len(answers) == len(lines)
    return answers


class Fault(ctypes.Structure):
    _fields_ = [("exit_code", ctypes.c_int), ("code", ctypes.c_char * 8), ("text", ctypes.c_char * 1012)]


class Options(ctypes.Structure):
    _fields_ = [
        ("engine", ctypes.c_char_p), ("precision", ctypes.c_char_p), ("threads", ctypes.c_int), ("trust", ctypes.c_int),
        ("batch", ctypes.c_int),
    ]  # fmt: skip


class Shape(ctypes.Structure):
    _fields_ = [("channels", ctypes.c_int), ("height", ctypes.c_int), ("width", ctypes.c_int)]


def of(call: Any, count: int, *given: Any) -> np.ndarray:
    out, fault = (ctypes.c_float * count)(), Fault()
    assert call(*given, out, count, ctypes.byref(fault)) == 0, fault.text
    return np.array(out, np.float32)


class Refused(Exception):
    """C++ said no, by a code."""


@contextmanager
def model(
    library: Any, folder: Path, engine: str, *, trust: bool = False, threads: int = 1, batch: int = 0
) -> Iterator[ctypes.c_void_p]:
    """A model through the C interface, closed at the end."""
    opened, fault = ctypes.c_void_p(), Fault()
    options = Options(engine.encode(), None, threads, int(trust), batch)
    if library.vitrail_open(str(folder).encode(), ctypes.byref(options), ctypes.byref(opened), ctypes.byref(fault)):
        raise Refused(fault.code.decode(), fault.text.decode())
    try:
        yield opened
    finally:
        library.vitrail_close(opened)


def by_eight_threads(ask: Callable[[int], bool]) -> list[bool]:
    """What each of eight threads, all at once, gives for its number."""
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(ask, range(8)))
