"""The first answer of a fresh process:  python -m vitrail.verbs.first_answer MODEL ENGINE BATCH THREADS LEVEL

Prints JSON: seconds from here to the answer, the model opened on the way, and the peak of the process's memory.
"""

from __future__ import annotations

import time

BEGAN = time.monotonic()

import json  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
from contextlib import nullcontext  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING  # noqa: E402

import numpy as np  # noqa: E402

from vitrail.engines.levels import at_level  # noqa: E402
from vitrail.engines.trust import trusting  # noqa: E402
from vitrail.errors import UsageError  # noqa: E402
from vitrail.opening import open as open_model  # noqa: E402

if TYPE_CHECKING:
    from vitrail.engines.program import Answering


def ready(model: str, engine: str, threads: int | None, level: int | None = None, *, batch: int = 1) -> Answering:
    """The model on an engine that computes on so many threads, at a level; None leaves the engine its own.

    batch: for which it is made ready, see `opening.open`.
    """
    opened = _threaded(model, engine, threads, batch)
    return opened if level is None else at_level(opened, level, threads=threads)


def _threaded(model: str, engine: str, threads: int | None, batch: int) -> Answering:
    try:
        return open_model(model, engine=engine, threads=threads, batch=batch)
    except UsageError:  # of torch, whose threads are the process's own; or of something that is refused again
        opened = open_model(model, engine=engine, batch=batch)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    return opened


def main(model: str, engine: str, batch: str, threads: str, level: str, trust: str) -> None:
    """Open, answer once, tell. threads 0, level -1: the engine's own. trust 1: run a program from elsewhere."""
    with trusting() if trust == "1" else nullcontext():
        opened = ready(model, engine, int(threads) or None, None if level == "-1" else int(level), batch=int(batch))
    policy = opened.policy
    opened.logits(policy.normalise(np.zeros((int(batch), *policy.size, policy.channels), np.uint8)))
    seconds = time.monotonic() - BEGAN
    print(json.dumps({"seconds": seconds, "peak_bytes": _peak()}))


def _peak() -> int:
    """Bytes of this process at its largest. Linux' ru_maxrss begins with those of the process that started it."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main(*sys.argv[1:])
