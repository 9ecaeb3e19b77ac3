"""Kill `vitrail predict --out` at random moments and start it again until it ends:

    python -m tests.predictions.kills BUNDLE PICTURES FOLDER COUNT SEED

Every start is a fork of this process, so that a trial costs no import. Prints JSON: the kills of each folder.
"""

from __future__ import annotations

import json
import random
import sys
from functools import partial
from pathlib import Path

import torch

import vitrail.engines.torch  # noqa: F401 - imported here once, for all children
from tests.killed import forked, killed, seconds_of
from vitrail.verbs.asking import Asking
from vitrail.verbs.predict_shards import predict_shards

HOW = Asking(shard_rows=3, batch=2, top=3, workers=2)


def start(bundle: Path, pictures: Path, folder: Path) -> int:
    """A child that predicts, or goes on with it; its process number."""
    return forked(lambda: predict_shards(bundle, pictures, folder, HOW))


def main(bundle: Path, pictures: Path, place: Path, count: int, seed: int) -> None:
    """Kill `count` times or more, over as many folders as that takes."""
    torch.set_num_threads(1)
    took = seconds_of(partial(start, bundle, pictures, place / "unbroken"))
    draw = random.Random(seed)
    kills: list[int] = []
    while sum(kills) < count:
        kills.append(killed(partial(start, bundle, pictures, place / f"killed-{len(kills)}"), draw, took))
    print(json.dumps(kills))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
