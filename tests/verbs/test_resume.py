"""A run that is killed, stopped or damaged goes on, to the same bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.verbs.small import hashes, small
from vitrail.errors import OutsideBound, RunError, Stopped
from vitrail.training.journal import read
from vitrail.verbs.train import train

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    train(small(), out=folder)
    return folder


def _campaign(place: Path, count: int, seed: int) -> Mapping[str, object]:
    command = [sys.executable, "-m", "tests.verbs.kills", str(place), str(count), str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr[-3000:]
    values: Mapping[str, object] = json.loads(done.stdout.splitlines()[-1])
    return values


def _all_equal(campaign: Mapping[str, object], count: int) -> None:
    runs = campaign["runs"]
    assert isinstance(runs, list) and sum(run["kills"] for run in runs) >= count
    for run in runs:
        assert run["hashes"] == campaign["unbroken"]


def test_A11_twenty_random_kills_end_in_the_same_bits(tmp_path: Path) -> None:
    _all_equal(_campaign(tmp_path, 20, seed=1), 20)


@pytest.mark.prove
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_A11_two_hundred_random_kills(tmp_path: Path, seed: int) -> None:
    _all_equal(_campaign(tmp_path, 200, seed=seed), 200)


def test_A08_stopped_at_a_step_and_resumed(tmp_path: Path, unbroken: Path) -> None:
    """SIGTERM inside an epoch: exit 75, and the resumed run equals the unbroken one, journal included."""
    run = tmp_path / "run"

    def stop(event: Mapping[str, object]) -> None:
        if event["event"] == "step" and event["step"] == 30:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped) as caught:
        train(small(), out=run, listener=stop)
    assert caught.value.exit_code == 75 and "after step 30" in caught.value.what
    train(small(), out=run, resume=True)
    assert hashes(run) == hashes(unbroken)
    kept = ("start", "step", "evaluation")
    ours, theirs = (
        [
            {key: value for key, value in row.items() if not key.endswith(("_s", "per_s"))}
            for row in read(folder / "journal.jsonl")
            if row["event"] in kept
        ]
        for folder in (run, unbroken)
    )
    assert ours == theirs


def test_a_second_start_is_refused_and_a_finished_run_is_left_alone(unbroken: Path) -> None:
    with pytest.raises(RunError) as caught:
        train(small(), out=unbroken)
    assert caught.value.code == "V601" and "--resume" in caught.value.hint
    before = hashes(unbroken)
    again = train(small(), out=unbroken, resume=True)
    assert hashes(unbroken) == before and again.steps == 0 and again.quality["pictures"] == 355


def test_another_recipe_is_refused_with_the_difference(unbroken: Path) -> None:
    with pytest.raises(RunError) as caught:
        train(small("schedule.lr=0.5"), out=unbroken, resume=True)
    assert caught.value.code == "V602" and caught.value.evidence == ("schedule.lr  0.003 -> 0.5",)


def test_A05_a_damaged_checkpoint_is_passed_over(tmp_path: Path, unbroken: Path) -> None:
    run = tmp_path / "run"

    def stop(event: Mapping[str, object]) -> None:
        if event["event"] == "step" and event["step"] == 50:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        train(small(), out=run, listener=stop)
    newest = max((run / "checkpoints").glob("step-????????"))
    data = bytearray((newest / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (newest / "weights.safetensors").write_bytes(data)
    told: list[Mapping[str, object]] = []
    train(small(), out=run, resume=True, listener=told.append)
    assert [event for event in told if event["event"] == "warning"]
    assert hashes(run) == hashes(unbroken)


def test_A05_strict_stops_at_a_damaged_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"

    def stop(event: Mapping[str, object]) -> None:
        if event["event"] == "step" and event["step"] == 50:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        train(small(), out=run, listener=stop)
    (max((run / "checkpoints").glob("step-????????")) / "state.json").write_text("{")
    with pytest.raises(OutsideBound) as caught:
        train(small(), out=run, resume=True, strict=True)
    assert caught.value.code == "V803" and caught.value.exit_code == 5


def test_resume_without_a_checkpoint_starts_at_zero(tmp_path: Path, unbroken: Path) -> None:
    told: list[Mapping[str, object]] = []
    train(small(), out=tmp_path / "run", resume=True, listener=told.append)
    assert any("starting at step 0" in str(event.get("text")) for event in told)
    assert hashes(tmp_path / "run") == hashes(unbroken)


def test_a_run_goes_on_as_a_new_run(tmp_path: Path, unbroken: Path) -> None:
    """`weights.path` may be a run: its weights are the start, its policy is kept."""
    done = train(small(f"weights.path={unbroken}", "schedule.steps=5"), out=tmp_path / "next")
    assert done.steps == 5
    fresh = train(small("schedule.steps=5"), out=tmp_path / "fresh")
    assert done.quality["top1"] > fresh.quality["top1"] + 0.1
