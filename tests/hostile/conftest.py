"""What a hostile file must not do: every item of the lists is read under the same watch."""

from __future__ import annotations

import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vitrail.errors import VitrailError

MEMORY = 80 << 20  # 64 MiB of parse memory, and what the interpreter needs beside it

_seen: list[tuple[str, str]] = []
_watching = False


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _watching and event.partition(".")[0] in ("import", "exec", "open", "os", "subprocess", "socket", "ctypes"):
        _seen.append((event, str(arguments[0]) if arguments else ""))


sys.addaudithook(_hook)


@pytest.fixture
def refused(tmp_path: Path) -> Iterator[Callable[[Callable[[Path], object], Path], VitrailError]]:
    """A function that reads a file and gives its typed refusal; anything run, opened or held too large fails."""
    canary = tmp_path / "canary"

    def run(reader: Callable[[Path], object], path: Path) -> VitrailError:
        global _watching
        threads = threading.active_count()
        _seen.clear()
        tracemalloc.start()
        _watching = True
        try:
            with pytest.raises(VitrailError) as caught:
                reader(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            _watching = False
            tracemalloc.stop()
        assert not canary.exists(), "the file ran code"
        assert {(event, name) for event, name in _seen} <= {("open", str(path))}
        assert peak <= MEMORY, f"{peak} bytes were held"
        assert threading.active_count() == threads
        assert "\n" not in caught.value.what
        assert caught.value.what.isprintable()
        assert len(str(caught.value)) < 3000
        assert caught.value.hint
        return caught.value

    yield run
    assert not canary.exists(), "the file ran code"
