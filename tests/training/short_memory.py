"""Saves and loads under a falling limit of memory:  python -m tests.training.short_memory PLACE COUNT

One JSON line for each limit: what became of a save and of a load, whether the generation before stands, and whether a
save without the limit then goes well.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.hostile.deeds import status
from vitrail.errors import VitrailError
from vitrail.formats.stored import Stored
from vitrail.training.checkpoint import Snapshot, load, newest_good, save

ROWS = 1 << 16  # of 64 numbers: 16 MiB a tensor
REFUSED = ("MemoryError", "V701", "V702", "V703")
OLD, NEW = 1, 2


def snapshot(step: int) -> Snapshot:
    values = np.full((ROWS, 64), step, np.float32)
    return Snapshot(step, {name: {"layer": Stored.of(values)} for name in ("optimizer", "weights")}, {"epoch": step})


def outcome(act: Callable[[], object]) -> str:
    try:
        act()
    except VitrailError as error:
        return error.code
    except MemoryError:
        return "MemoryError"
    return "done"


def stands(folder: Path) -> bool:
    """Whether the generation before is good and holds what was saved."""
    path, notes = newest_good(folder, set_aside=False)
    if path is None or notes:
        return False
    found = load(path)
    return bool((found.files["weights"]["layer"].array() == found.step).all())


def one(folder: Path, room: int) -> dict[str, str]:
    """In a fork: save and load with so many bytes of room beyond what the process has, then without a limit."""
    made, before = snapshot(NEW), resource.getrlimit(resource.RLIMIT_AS)
    gc.collect()
    resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + room, before[1]))
    said = {"save": outcome(lambda: save(folder, made, keep=2))}
    said["load"] = outcome(lambda: load(folder / f"step-{OLD:08d}"))
    resource.setrlimit(resource.RLIMIT_AS, before)
    said["stands"] = str(stands(folder))
    said["after"] = outcome(lambda: save(folder, snapshot(NEW + 1), keep=2))
    return said


def main(place: Path, count: int) -> None:
    """Fork once for each limit, from none of a tensor's size to four of them."""
    for turn in range(count):
        folder = place / f"{turn}"
        save(folder, snapshot(OLD), keep=2)
        child = os.fork()
        if child == 0:
            print(json.dumps(one(folder, turn * 5 * ROWS * 256 // count)), flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
