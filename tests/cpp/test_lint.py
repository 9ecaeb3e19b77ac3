"""clang-tidy has nothing to say of C++."""

from __future__ import annotations

import pytest

from cpp.build import INSTALL, found, lint, missing


@pytest.mark.prove
def test_clang_tidy_says_nothing() -> None:
    if lacking := missing() or ([] if found("clang-tidy") else ["clang-tidy"]):
        pytest.skip(f"C++ is not looked at: {', '.join(lacking)} missing; {INSTALL} clang-tidy")
    assert lint() == ""
