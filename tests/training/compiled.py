"""A tiny run with compiled blocks, in a process of its own:

    python -m tests.training.compiled FOLDER NETWORK STOP

Goes on from what lies in FOLDER; stops after step STOP, 0: never. Prints `stopped`, or the hash of its last state.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from tests.training import tiny
from vitrail.errors import Stopped
from vitrail.models import build
from vitrail.models.catalog import variant
from vitrail.models.configs import ModelConfig
from vitrail.training import configs
from vitrail.training.checkpoint import CHECKPOINTS
from vitrail.training.loop import train

SMALL = {"image_size": (8, 8), "dim": 16, "heads": 2, "depth": 2, "classes": tiny.CLASSES, "drop_path": 0.2}
NETWORKS: dict[str, ModelConfig] = {
    "cct": tiny.NETWORK,
    "vit": replace(variant("vit_tiny_patch16_224").config, patch=4, dropout=0.1, **SMALL),  # type: ignore[arg-type]
    "beit": replace(variant("beit_base_patch16_224").config, patch=4, shared_bias=True, **SMALL),  # type: ignore[arg-type]
}


def main(folder: Path, network: str, stop: int) -> str:
    torch.set_num_threads(1)

    def listen(row: Mapping[str, object]) -> None:
        if row["event"] == "step" and row["step"] == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    settings = configs.Train(seed=5, clip=1.0, accumulate=3, compile=True)  # parts of two sizes
    plan = tiny.plan(folder, module=build(NETWORKS[network], seed=1), train=settings)
    there = (folder / CHECKPOINTS).is_dir()
    try:
        done = train(plan, resume=tiny.saved(folder) if there else None, listener=listen)
    except Stopped:
        return "stopped"
    return tiny.fingerprint(done.state)


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
