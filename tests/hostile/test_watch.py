"""The watch over hostile files is itself tried: what it must catch, it catches."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vitrail.errors import VitrailError, WeightsError

REFUSAL = WeightsError("V201", "damaged", hint="none")


def _fills_memory(_: Path) -> None:
    bytearray(b"x") * (100 << 20)
    raise REFUSAL


def _opens_another(path: Path) -> None:
    path.with_name("other").read_bytes()
    raise REFUSAL


def _imports(_: Path) -> None:
    sys.modules.pop("this_that", None)
    with pytest.raises(ImportError):
        __import__("this_that")
    raise REFUSAL


def _runs(path: Path) -> None:
    subprocess.run(["true"], check=True)
    raise REFUSAL


def _leaves_a_canary(path: Path) -> None:
    path.touch()
    path.rename(path.with_name("canary"))
    raise REFUSAL


def _breaks(_: Path) -> None:
    raise ValueError("untyped")


@pytest.mark.parametrize("bad", [_fills_memory, _opens_another, _imports, _runs, _breaks])
def test_F1_the_watch_catches(
    bad: Callable[[Path], None], tmp_path: Path, refused: Callable[[Callable[[Path], object], Path], VitrailError]
) -> None:
    (tmp_path / "other").touch()
    with pytest.raises((AssertionError, ValueError)):
        refused(bad, tmp_path / "x")


def test_F1_the_watch_sees_a_canary(
    tmp_path: Path, refused: Callable[[Callable[[Path], object], Path], VitrailError]
) -> None:
    with pytest.raises(AssertionError, match="ran code"):
        refused(_leaves_a_canary, tmp_path / "x")
    (tmp_path / "canary").unlink()
