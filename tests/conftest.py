"""What every test may use: the reference data beside the project, where it lies, and quiet defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference vectors and real pictures; tests that need it are skipped where it is absent."""
    if not (SHARED / "reference").is_dir():
        pytest.skip("needs ../shared (reference vectors and pictures), which is absent here")
    return SHARED
