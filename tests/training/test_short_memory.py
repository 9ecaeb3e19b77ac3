"""A save and a load in too little memory are refused or done, and what was saved before stands: promise A3."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training import short_memory

STEPS = 20


def outcomes(place: Path, count: int) -> list[dict[str, str]]:
    """What became of a save and a load within each of so many limits, in forked processes of one new interpreter."""
    command = [sys.executable, "-m", "tests.training.short_memory", str(place), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(place: Path, count: int) -> None:
    found = outcomes(place, count)
    assert len(found) == count
    said = [one[act] for one in found for act in ("save", "load")]
    assert set(said) <= {"done", *short_memory.REFUSED}, said
    assert {"done"} < set(said), "each limit let all pass, or none: nothing was tried"
    assert all(one["stands"] == "True" and one["after"] == "done" for one in found), found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    return outcomes(tmp_path_factory.mktemp("short"), STEPS)


@pytest.mark.parametrize("step", range(STEPS))
def test_A03_short_memory_is_a_refusal_and_harmless(step: int, found: list[dict[str, str]]) -> None:
    one = found[step]
    assert {one["save"], one["load"]} <= {"done", *short_memory.REFUSED}
    assert (one["stands"], one["after"]) == ("True", "done")


def test_A03_some_limits_are_too_low_and_some_are_not(found: list[dict[str, str]]) -> None:
    said = {one[act] for one in found for act in ("save", "load")}
    assert "done" in said and len(said) > 1


@pytest.mark.prove
def test_A03_five_hundred_limits(tmp_path: Path) -> None:
    check(tmp_path, 500)
