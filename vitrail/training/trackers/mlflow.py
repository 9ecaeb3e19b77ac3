"""MLflow: the database `RUN/mlflow.db` unless MLFLOW_TRACKING_URI names a server."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from vitrail.training.trackers.table import Row, Run, Tracker, scalars


class _Writer:
    def __init__(self, run: Run) -> None:
        from mlflow.tracking import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(run.folder / 'mlflow.db').resolve()}"
        self._client: Any = MlflowClient(tracking_uri=uri)
        kept = run.folder / "mlflow-id"
        self._id = kept.read_text().strip() if kept.is_file() else self._begin(run, kept)

    def _begin(self, run: Run, kept: Path) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "vitrail")
        experiment = self._client.get_experiment_by_name(name)
        number = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        made: str = self._client.create_run(number, run_name=run.name).info.run_id
        self._client.set_tag(made, "recipe", json.dumps(run.recipe)[:5000])
        kept.write_text(f"{made}\n")
        return made

    def row(self, row: Row) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        figures = [Metric(name, value, now, row["step"]) for name, value in scalars(row).items()]
        if figures:
            self._client.log_batch(self._id, metrics=figures)
        if row["event"] == "end":
            self._client.set_terminated(self._id)

    def close(self) -> None:
        """Nothing waits: every row is written when it comes."""


def open_run(run: Run) -> Tracker:
    """A run of the experiment that MLFLOW_EXPERIMENT_NAME names."""
    return _Writer(run)
