"""Trackers get every figure of a run, of a resumed one too, and never end it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.verbs.small import small
from vitrail.errors import UsageError
from vitrail.training.journal import read
from vitrail.training.trackers.table import TRACKERS, Run, Trackers, need_trackers, scalars
from vitrail.verbs.train import train

Row = dict[str, Any]


def rows(first: int, last: int) -> list[Row]:
    steps = [
        {"event": "step", "step": step, "epoch": 0, "loss": 1.0 / step, "lr": 1e-3, "wait_s": 1.0, "step_s": 3.0}
        for step in range(first, last + 1)
    ]
    return [*steps, {"event": "evaluation", "step": last, "top1": 0.5, "wall_s": 0.1}]


def tracked(name: str, folder: Path) -> list[str]:
    """A run of four steps, resumed after the third one was already told once; the warnings."""
    warnings: list[str] = []
    folder.mkdir()
    for begins, ends in ((0, 3), (2, 4)):
        trackers = Trackers([name], Run(folder, begins, {"train": {"seed": 1}}), warnings.append)
        for row in [*rows(begins + 1, ends), *([{"event": "end", "step": 4}] if begins else [])]:
            trackers.row(row)
        trackers.close()
    return warnings


def test_A24_tensorboard_has_each_step_once_after_a_resume(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert tracked("tensorboard", tmp_path / "run") == []
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    told = events.Scalars("train/loss")
    assert [one.step for one in told] == [1, 2, 3, 4]
    assert [one.value for one in told] == pytest.approx([1.0, 1 / 2, 1 / 3, 1 / 4])
    assert events.Scalars("train/wait_share")[0].value == 0.25
    assert events.Scalars("evaluation/top1")[-1].value == 0.5
    assert "recipe/text_summary" in events.Tags()["tensors"]


class FakeWandb(ModuleType):
    """What we call of wandb, with its own names; checked by hand against wandb 0.31."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.begun: list[Mapping[str, object]] = []
        self.logged: list[tuple[int, Mapping[str, float]]] = []
        self.finished = 0

    def Settings(self, *, silent: bool) -> object:
        return SimpleNamespace(silent=silent)

    def init(self, **given: object) -> Any:
        self.begun.append(given)
        return self

    def log(self, figures: Mapping[str, float], *, step: int) -> None:
        self.logged.append((step, figures))

    def finish(self) -> None:
        self.finished += 1


def test_wandb_offline_and_one_run_over_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_PROJECT", "flowers")
    assert tracked("wandb", tmp_path / "run") == []
    first, second = fake.begun
    assert (first["mode"], first["project"], first["name"], first["resume"]) == ("offline", "flowers", "run", "allow")
    assert first["id"] == second["id"] == (tmp_path / "run" / "wandb-id").read_text().strip()
    assert first["config"] == {"train": {"seed": 1}}
    assert [step for step, figures in fake.logged if "train/loss" in figures] == [1, 2, 3, 3, 4]
    assert fake.finished == 2


class FakeClient:
    """What we call of mlflow's client, with its own names; checked by hand against mlflow-skinny 3.17."""

    made: list[FakeClient] = []  # noqa: RUF012

    def __init__(self, *, tracking_uri: str) -> None:
        self.uri, self.logged, self.ended = tracking_uri, list[tuple[str, str, int]](), list[str]()
        self.tags: list[str] = []
        FakeClient.made.append(self)

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, name: str) -> str:
        return "1"

    def create_run(self, experiment: str, *, run_name: str) -> object:
        return SimpleNamespace(info=SimpleNamespace(run_id=f"{run_name}-of-{experiment}"))

    def set_tag(self, run: str, key: str, value: str) -> None:
        self.tags.append(key)

    def log_batch(self, run: str, *, metrics: list[Any]) -> None:
        self.logged += [(run, one.key, one.step) for one in metrics]

    def set_terminated(self, run: str) -> None:
        self.ended.append(run)


def test_mlflow_in_the_run_folder_and_one_run_over_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking, entities = ModuleType("mlflow.tracking"), ModuleType("mlflow.entities")
    tracking.MlflowClient = FakeClient  # type: ignore[attr-defined]
    entities.Metric = lambda key, value, timestamp, step: SimpleNamespace(key=key, step=step)  # type: ignore[attr-defined]
    for name, module in (
        ("mlflow", ModuleType("mlflow")),
        ("mlflow.tracking", tracking),
        ("mlflow.entities", entities),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    FakeClient.made.clear()
    assert tracked("mlflow", tmp_path / "run") == []
    first, second = FakeClient.made
    assert first.uri == f"sqlite:///{tmp_path}/run/mlflow.db"
    assert {run for run, *_ in first.logged + second.logged} == {"run-of-1"}
    assert [step for _, key, step in second.logged if key == "train/loss"] == [3, 4]
    assert (first.tags, first.ended, second.ended) == (["recipe"], [], ["run-of-1"])


class Breaking(ModuleType):
    """A tracker that fails when it is opened, or at its second row."""

    def __init__(self, at: str) -> None:
        super().__init__("breaking")
        self.at, self.rows = at, 0

    def open_run(self, run: Run) -> Any:
        if self.at == "open":
            raise ConnectionError("no server")
        return self

    def row(self, row: Mapping[str, object]) -> None:
        self.rows += 1
        if self.at == "row" and self.rows == 2:
            raise ConnectionError("no server")

    def close(self) -> None:
        if self.at == "close":
            raise ConnectionError("no server")


@pytest.mark.parametrize(("at", "got"), [("open", 0), ("row", 2), ("close", 9)])
def test_a_tracker_that_fails_is_told_of_once_and_the_run_goes_on(
    at: str, got: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Breaking(at)
    monkeypatch.setattr("vitrail.training.trackers.table.TRACKERS", {**TRACKERS, "wandb": ("sys", "wandb")})
    monkeypatch.setitem(sys.modules, "vitrail.training.trackers.wandb", broken)
    events: list[Row] = []
    recipe = small("schedule.steps=4", "schedule.warmup_epochs=0", "journal.to=[wandb]")
    train(recipe, out=tmp_path / "run", listener=lambda event: events.append(dict(event)))
    warnings = [event["text"] for event in events if event["event"] == "warning"]
    assert warnings == ["wandb gets no more rows of this run: ConnectionError: no server"]
    assert broken.rows == got or at == "close"
    assert read(tmp_path / "run" / "journal.jsonl")[-1]["event"] == "end"


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_named_before_anything_is_done(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(UsageError) as caught:
        need_trackers([name])
    assert (caught.value.code, f"vitrail[{name}]" in caught.value.hint) == ("V003", True)


def test_rows_that_are_no_figures_are_none() -> None:
    assert scalars({"event": "checkpoint", "step": 1, "best": True, "wall_s": 0.5}) == {}
    assert scalars({"event": "evaluation", "step": 1, "top1": 0.5}) == {"evaluation/top1": 0.5}
