"""Weights & Biases: offline in `RUN/wandb` unless WANDB_MODE says otherwise; `wandb sync` sends what lies there."""

from __future__ import annotations

import os
from typing import Any

from vitrail.training.trackers.table import Row, Run, Tracker, scalars


class _Writer:
    def __init__(self, run: Run) -> None:
        import wandb

        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "vitrail"),
            name=run.name,
            id=run.identity("wandb"),
            resume="allow",
            dir=str(run.folder),
            mode=os.environ.get("WANDB_MODE", "offline"),
            config=dict(run.recipe),
            settings=wandb.Settings(silent=True),
        )

    def row(self, row: Row) -> None:
        figures = scalars(row)
        if figures:
            self._run.log(figures, step=row["step"])

    def close(self) -> None:
        self._run.finish()


def open_run(run: Run) -> Tracker:
    """A run of the project that WANDB_PROJECT names."""
    return _Writer(run)
