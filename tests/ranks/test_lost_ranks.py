"""A rank that dies, hangs or is told to stop: the others end soon, say which it was, and what was saved is good."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.verbs.small import MODELS, RECIPE
from vitrail.training.checkpoint import newest_good

ROOT = Path(__file__).resolve().parents[2]
GUARD = 240.0  # seconds: no promise, a test that hangs


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


class Pair:
    """Two ranks, started as torchrun starts them, but with nobody who would end them."""

    def __init__(self, place: Path, patience: float) -> None:
        self.run = place / "run"
        (place / "recipe.yaml").write_text(RECIPE.replace("MODEL", MODELS["cct"]))
        words = ["schedule.epochs=400", "checkpoint.every=1", "checkpoint.keep=3", f"train.patience={patience:g}"]
        command = [sys.executable, "-m", "vitrail", "train", str(place / "recipe.yaml"), *words]
        command += ["--out", str(self.run)]
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": "2"}
        base = {**os.environ, **meeting, "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self.said = [place / f"rank-{rank}.txt" for rank in (0, 1)]
        self.ranks = []
        for rank, said in enumerate(self.said):
            with said.open("w") as file:
                environment = {**base, "RANK": str(rank), "LOCAL_RANK": str(rank)}
                started = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
            self.ranks.append(started)

    def wait_for(self, event: str, step: int) -> None:
        """Until the journal has a row of that event at the step or later."""
        end = time.monotonic() + GUARD
        while time.monotonic() < end:
            assert all(rank.poll() is None for rank in self.ranks), [said.read_text() for said in self.said]
            journal = self.run / "journal.jsonl"
            lines = journal.read_text().splitlines() if journal.exists() else []
            rows = [json.loads(line) for line in lines if line.endswith("}")]
            if any(row["event"] == event and row["step"] >= step for row in rows):
                return
            time.sleep(0.05)
        raise AssertionError([said.read_text()[-3000:] for said in self.said])

    def end(self) -> None:
        for rank in self.ranks:
            if rank.poll() is None:
                rank.kill()
            rank.wait()


def _good(pair: Pair) -> None:
    path, passed_over = newest_good(pair.run / "checkpoints", set_aside=False)
    assert path is not None and not passed_over


def test_A15_a_killed_rank_ends_the_other_and_is_named(tmp_path: Path) -> None:
    _killed(tmp_path, 1, ("step", 30))


@pytest.mark.prove
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("event", ["step", "evaluation", "checkpoint"])
@pytest.mark.parametrize("step", [1, 22, 44, 60, 66])
def test_A15_killed_at_many_moments(tmp_path: Path, victim: int, event: str, step: int) -> None:
    _killed(tmp_path, victim, (event, step))


def _killed(tmp_path: Path, victim: int, where: tuple[str, int]) -> None:
    pair = Pair(tmp_path, patience=120)
    try:
        pair.wait_for(*where)
        pair.ranks[victim].kill()
        other = 1 - victim
        assert pair.ranks[other].wait(GUARD) == 4
        said = pair.said[other].read_text()
        assert "error[V706]" in said and f"rank {victim} died" in said, said
        if where[1] > 22:
            _good(pair)
    finally:
        pair.end()


def test_A16_a_rank_that_stands_still_is_named(tmp_path: Path) -> None:
    pair = Pair(tmp_path, patience=4)
    try:
        pair.wait_for("step", 30)
        os.kill(pair.ranks[1].pid, signal.SIGSTOP)
        assert pair.ranks[0].wait(GUARD) == 4
        said = pair.said[0].read_text()
        assert "error[V706]" in said and "rank 1" in said, said
        _good(pair)
    finally:
        pair.end()


@pytest.mark.prove  # `test_two_ranks.py` stops one quickly
@pytest.mark.parametrize("where", [("step", 30), ("checkpoint", 22)])
def test_A19_told_to_stop_all_ranks_save_and_leave(tmp_path: Path, where: tuple[str, int]) -> None:
    pair = Pair(tmp_path, patience=120)
    try:
        pair.wait_for(*where)
        pair.ranks[1].send_signal(signal.SIGTERM)
        assert [rank.wait(GUARD) for rank in pair.ranks] == [75, 75]
        assert "stopped by SIGTERM after step" in pair.said[0].read_text()
        _good(pair)
    finally:
        pair.end()
