"""What a hostile file must not do: every item of the lists is read under the same watch."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vitrail.errors import VitrailError

MEMORY = 80 << 20  # 64 MiB of parse memory, and what the interpreter needs beside it

_libc = ctypes.CDLL(None)
_seen: list[tuple[str, str]] = []
_watching = False


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _watching and event.partition(".")[0] in ("import", "exec", "open", "os", "subprocess", "socket", "ctypes"):
        _seen.append((event, str(arguments[0]) if arguments else ""))


sys.addaudithook(_hook)


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """Note what is opened, imported or run, and how far the memory of the process grows at its peak."""
    global _watching
    _seen.clear()
    _libc.malloc_trim(0)  # or what was freed before hides what is taken now
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    _watching = True
    try:
        yield
    finally:
        _watching = False
    grown = _status("VmHWM") - before
    assert grown <= MEMORY, f"{grown} bytes of memory were taken"


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))


@pytest.fixture
def refused(tmp_path: Path) -> Iterator[Callable[[Callable[[Path], object], Path], VitrailError]]:
    """A function that reads a file and gives its typed refusal; anything run, opened or held too large fails."""
    canary = tmp_path / "canary"

    def run(reader: Callable[[Path], object], path: Path) -> VitrailError:
        threads = threading.active_count()
        with _watched(), pytest.raises(VitrailError) as caught:
            reader(path)
        assert not canary.exists(), "the file ran code"
        assert {(event, name) for event, name in _seen} <= {("open", str(path))}
        assert threading.active_count() == threads
        assert "\n" not in caught.value.what
        assert caught.value.what.isprintable()
        assert len(str(caught.value)) < 3000
        assert caught.value.hint
        return caught.value

    yield run
    assert not canary.exists(), "the file ran code"
