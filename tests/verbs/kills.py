"""Kill a training run at random moments and resume it until it ends:

    python -m tests.verbs.kills FOLDER COUNT SEED FAMILY

Torch is imported once; every start is a fork of this process, so that a trial costs no import. Prints JSON: the
hashes of a run that was never stopped, and for each killed run its kills and its hashes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from tests.verbs.small import hashes, small
from vitrail.verbs import train as verb
from vitrail.verbs.train import train


def start(folder: Path, family: str) -> int:
    """A child that trains in `folder`, resuming what lies there; its process number."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        train(small(family=family), out=folder, resume=True)
        code = 0
    finally:
        os._exit(code)


def unbroken(folder: Path, family: str) -> float:
    """One run without a kill; the seconds it took."""
    began = time.monotonic()
    _, status = os.waitpid(start(folder, family), 0)
    assert status == 0, status
    return time.monotonic() - began


def killed(folder: Path, family: str, draw: random.Random, longest: float) -> int:
    """A run that is killed at random moments until it ends by itself; the number of kills."""
    kills = 0
    while True:
        child = start(folder, family)
        deadline = time.monotonic() + draw.uniform(0.0, longest)
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                assert status == 0, status
                return kills
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert status == 0, status
            return kills
        kills += 1


def main(place: Path, count: int, seed: int, family: str) -> None:
    """Kill `count` times or more, over as many runs as that takes."""
    import torch

    import vitrail.data.loader
    import vitrail.reports.html
    import vitrail.reports.plots
    import vitrail.training.loop  # noqa: F401 - imported here once, for all children

    assert verb is not None
    torch.set_num_threads(1)
    took = unbroken(place / "unbroken", family)
    draw = random.Random(seed)
    runs: list[dict[str, object]] = []
    total = 0
    while total < count:
        folder = place / f"killed-{len(runs)}"
        kills = killed(folder, family, draw, took)
        runs.append({"kills": kills, "hashes": hashes(folder)})
        total += kills
    print(json.dumps({"unbroken": hashes(place / "unbroken"), "runs": runs, "kills": total}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
