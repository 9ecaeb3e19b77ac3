"""A step or a save that stands still ends the run, one that computes does not: promise A16."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.tiny import saved

ROOT = Path(__file__).resolve().parents[2]
GUARD = 60  # seconds: a hang, not a measure
RUN = """
import os, sys, time
from pathlib import Path
from tests.training.tiny import plan, silent
from vitrail import disk
from vitrail.training.loop import train
from vitrail.training.watch_configs import Watch

steps = 0

def sleep(*_):
    time.sleep(600)

def compute(*_):
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        sum(range(1000))

def at_fifth_step(act):
    def hook(*_):
        global steps
        steps += 1
        if steps == 5:
            act()
    return hook

how, limit = sys.argv[2], float(sys.argv[3])
wanted = plan(Path(sys.argv[1]), watch=Watch(stall=limit), evaluate=None)
if how in ("sleep", "compute"):
    wanted.module.register_forward_pre_hook(at_fifth_step(globals()[how]))
if how == "disk":
    fsync = os.fsync
    os.fsync = lambda number: sleep() if steps > 3 else fsync(number)
    wanted.module.register_forward_pre_hook(at_fifth_step(lambda: None))
train(wanted, resume=None, listener=silent)
"""


def outcome(folder: Path, how: str, limit: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RUN, str(folder), how, limit]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=GUARD)


@pytest.mark.parametrize(("how", "what"), [("sleep", "step 5"), ("disk", "the save after step 6")])
def test_A16_what_stands_still_ends_with_the_stacks(how: str, what: str, tmp_path: Path) -> None:
    done = outcome(tmp_path, how, "1.0")
    assert done.returncode == 4, done.stderr
    assert f"error[V705]: {what} stood still for 1 seconds" in done.stderr
    assert "in sleep" in done.stderr
    assert saved(tmp_path).step == 3


def test_A16_what_computes_is_left_alone(tmp_path: Path) -> None:
    done = outcome(tmp_path, "compute", "0.5")
    assert done.returncode == 0, done.stderr
    assert saved(tmp_path).step == 6
