"""A save that a power loss cuts off at any call leaves the old or the new generation: promise A4."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.faults.faults import Fault, trial, trials
from tests.faults.power import Disk, recorded
from tests.faults.scenarios import SAVES
from tests.training.test_checkpoint import SCENARIOS, assert_same, state_of
from vitrail.errors import VitrailError
from vitrail.training.checkpoint import load, newest_good


def cut(scenario: str, place: Path) -> Disk:
    """What a save did, from two runs of it: one that is killed at its first call, and one to its end."""
    clean = trial(SCENARIOS + scenario, place)
    (killed,) = trials(SCENARIOS + scenario, place, [Fault(1, "kill")])
    return recorded(killed.folder, clean.folder, clean.trace)


def wrong(scenario: str, disk: Disk, turn: int, place: Path) -> str | None:
    """What a resume finds amiss in one of the states; None for nothing. Every call is cut at, and in several ways."""
    choice = random.Random(turn)
    at, lost = turn % (disk.calls + 1), (1.0, 0.5, 0.2)[turn // (disk.calls + 1) % 3]
    for path, data in disk.left(at, choice, lost=lost).items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(data)
    try:
        path, notes = newest_good(place / "checkpoints")
        assert path is not None and not notes, notes
        found = load(path)
        assert_same(found, state_of(scenario)(found.step))
    except (AssertionError, VitrailError) as error:
        return f"before call {at + 1}, {lost}: {error}"
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return None


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    return cut("full_save", tmp_path_factory.mktemp("recorded"))


@pytest.mark.parametrize("turn", range(300))
def test_A04_what_was_not_flushed_may_be_gone(turn: int, saved: Disk, tmp_path: Path) -> None:
    assert wrong("full_save", saved, turn, tmp_path / "left") is None


@pytest.mark.prove
@pytest.mark.parametrize("scenario", SAVES)
def test_A04_twenty_thousand_states(scenario: str, tmp_path: Path) -> None:
    disk = cut(scenario, tmp_path)
    found = [wrong(scenario, disk, turn, tmp_path / "left") for turn in range(4000)]
    assert [what for what in found if what is not None] == []


def test_F01_the_power_loss_test_sees_a_save_without_flushes(tmp_path: Path) -> None:
    disk = cut("save_without_fsync", tmp_path)
    found = [wrong("full_save", disk, turn, tmp_path / "left") for turn in range(300)]
    assert sum(what is not None for what in found) > 20


def test_the_whole_save_is_what_the_save_left(saved: Disk, tmp_path: Path) -> None:
    everything = saved.left(saved.calls, random.Random(0), lost=0.0)
    assert sorted(path for path in everything if "/step-" in f"/{path}") == [
        f"checkpoints/step-00000020/{name}"
        for name in ("ema.safetensors", "manifest.json", "optimizer.safetensors", "state.json", "weights.safetensors")
    ]
