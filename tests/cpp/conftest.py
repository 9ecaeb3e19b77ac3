from __future__ import annotations

from pathlib import Path

import pytest

from cpp.build import INSTALL, build, missing


@pytest.fixture(scope="session")
def built() -> Path:
    """The folder of the built programs; without compiler or headers the tests are skipped with the install line."""
    if lacking := missing():
        pytest.skip(f"C++ is not built: {', '.join(lacking)} missing; {INSTALL}")
    return build()
