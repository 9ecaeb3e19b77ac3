"""TensorBoard: event files in `RUN/tensorboard`; it shows all runs when its log folder is `runs`."""

from __future__ import annotations

import json

from vitrail.training.trackers.table import Row, Run, Tracker, scalars


class _Writer:
    def __init__(self, run: Run) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # what an earlier part of the run wrote after the step that it resumes from is passed over
        purge = run.step + 1 if run.step else None
        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=purge)
        if not run.step:
            text = json.dumps(run.recipe, indent=1)
            self._writer.add_text("recipe", f"```\n{text}\n```")

    def row(self, row: Row) -> None:
        for name, value in scalars(row).items():
            self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        self._writer.close()


def open_run(run: Run) -> Tracker:
    """The event files of a run."""
    return _Writer(run)
