"""Kill `vitrail predict --out` at random moments and start it again until it ends:

    python -m tests.predictions.kills BUNDLE PICTURES FOLDER COUNT SEED

Every start is a fork of this process, so that a trial costs no import. Prints JSON: the kills of each folder.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import vitrail.engines.torch  # noqa: F401 - imported here once, for all children
from vitrail.verbs.asking import Asking
from vitrail.verbs.predict_shards import predict_shards

HOW = Asking(shard_rows=3, batch=2, top=3, workers=2)


def start(bundle: Path, pictures: Path, folder: Path) -> int:
    """A child that predicts, or goes on with it; its process number."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        predict_shards(bundle, pictures, folder, HOW)
        code = 0
    finally:
        os._exit(code)


def ends(child: int, within: float) -> bool:
    """Whether a child ends by itself, well, in so many seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, status
            return True
        time.sleep(0.001)
    return False


def main(bundle: Path, pictures: Path, place: Path, count: int, seed: int) -> None:
    """Kill `count` times or more, over as many folders as that takes."""
    torch.set_num_threads(1)
    began = time.monotonic()
    assert ends(start(bundle, pictures, place / "unbroken"), 600)
    took = time.monotonic() - began
    draw = random.Random(seed)
    kills: list[int] = []
    while sum(kills) < count:
        folder = place / f"killed-{len(kills)}"
        kills.append(0)
        while not ends(child := start(bundle, pictures, folder), draw.uniform(0.0, took)):
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if os.WIFEXITED(status):
                assert status == 0, status
                break
            kills[-1] += 1
    print(json.dumps(kills))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
