"""Kill a training run at random moments and resume it until it ends:

    python -m tests.verbs.kills FOLDER COUNT SEED FAMILY

Torch is imported once; every start is a fork of this process, so that a trial costs no import. Prints JSON: the
hashes of a run that was never stopped, and for each killed run its kills and its hashes.
"""

from __future__ import annotations

import json
import random
import sys
from functools import partial
from pathlib import Path

from tests.killed import forked, killed, seconds_of
from tests.verbs.small import hashes, small
from vitrail.verbs import train as verb
from vitrail.verbs.train import train


def start(folder: Path, family: str) -> int:
    """A child that trains in `folder`, resuming what lies there; its process number."""
    return forked(lambda: train(small(family=family), out=folder, resume=True))


def main(place: Path, count: int, seed: int, family: str) -> None:
    """Kill `count` times or more, over as many runs as that takes."""
    import torch

    import vitrail.data.loader
    import vitrail.reports.html
    import vitrail.reports.plots
    import vitrail.training.loop  # noqa: F401 - imported here once, for all children

    assert verb is not None
    torch.set_num_threads(1)
    took = seconds_of(partial(start, place / "unbroken", family))
    draw = random.Random(seed)
    runs: list[dict[str, object]] = []
    total = 0
    while total < count:
        folder = place / f"killed-{len(runs)}"
        kills = killed(partial(start, folder, family), draw, took)
        runs.append({"kills": kills, "hashes": hashes(folder)})
        total += kills
    print(json.dumps({"unbroken": hashes(place / "unbroken"), "runs": runs, "kills": total}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
