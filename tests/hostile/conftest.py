"""What a hostile file must not do: every item of the lists is read under the same watch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hostile.deeds import deeds
from vitrail.errors import VitrailError


@pytest.fixture
def refused(tmp_path: Path) -> Iterator[Callable[[Callable[[Path], object], Path], VitrailError]]:
    """A function that reads a file and gives its typed refusal; anything run, opened or held too large fails."""
    canary = tmp_path / "canary"

    def run(reader: Callable[[Path], object], path: Path) -> VitrailError:
        threads = threading.active_count()
        with deeds() as seen, pytest.raises(VitrailError) as caught:
            reader(path)
        assert not canary.exists(), "the file ran code"
        assert set(seen) <= {("open", str(path))}
        assert threading.active_count() == threads
        assert "\n" not in caught.value.what
        assert caught.value.what.isprintable()
        assert len(str(caught.value)) < 3000
        assert caught.value.hint
        return caught.value

    yield run
    assert not canary.exists(), "the file ran code"
