"""When is evaluated and saved, and what ends a run early: promises A8, A19 and A20 hold there, too."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.training.tiny import STEPS_PER_EPOCH, TOTAL, Loader, fingerprint, plan, saved, silent, story
from vitrail.data.batches import TrainBatch
from vitrail.errors import Stopped
from vitrail.training import configs
from vitrail.training.checkpoint import CHECKPOINTS, generations
from vitrail.training.due import Best, better, given_up, seconds
from vitrail.training.journal import JOURNAL, read
from vitrail.training.loop import train

SCORES = (0.2, 0.5, 0.4, 0.5, 0.3, 0.9)  # one an evaluation; the third in a row without a greater one is the fifth


def scored(scores: tuple[float, ...] = SCORES) -> Callable[[nn.Module], dict[str, float]]:
    """Evaluations that find these, one after the other."""
    counted = iter(scores)
    return lambda module: {"top1": next(counted)}


def steps_of(folder: Path, event: str) -> list[object]:
    return [row["step"] for row in read(folder / JOURNAL) if row["event"] == event]


def test_evaluations_and_checkpoints_at_their_epochs_or_steps(tmp_path: Path) -> None:
    every = plan(
        tmp_path,
        evaluation=configs.Evaluation(every=2, unit="steps", from_=3),
        checkpoint=configs.Checkpoint(every=5, unit="steps", keep=9),
    )
    train(every, resume=None, listener=silent)
    assert steps_of(tmp_path, "evaluation") == [4, TOTAL]
    assert steps_of(tmp_path, "checkpoint") == [5, TOTAL]
    assert [path.name for path in generations(tmp_path / CHECKPOINTS)] == ["step-00000005", f"step-{TOTAL:08d}"]


def test_an_evaluation_from_an_epoch_on(tmp_path: Path) -> None:
    late = plan(tmp_path, evaluation=configs.Evaluation(from_=2), schedule=configs.Constant(epochs=3, lr=1e-3))
    train(late, resume=None, listener=silent)
    assert steps_of(tmp_path, "evaluation") == [2 * STEPS_PER_EPOCH, 3 * STEPS_PER_EPOCH]


PATIENT = {
    "evaluation": configs.Evaluation(every=1, unit="steps", patience=3),
    "checkpoint": configs.Checkpoint(every=1, unit="steps", keep=9),
}


def test_a_run_without_progress_ends_early_and_well(tmp_path: Path) -> None:
    done = train(plan(tmp_path, evaluate=scored(), **PATIENT), resume=None, listener=silent)
    last = read(tmp_path / JOURNAL)[-1]
    assert (done.steps, done.best, done.best_step, last["event"], last["by"]) == (5, 0.5, 2, "end", "patience")
    assert saved(tmp_path).step == 5


@pytest.mark.parametrize("step", range(1, 6))
def test_A08_early_stopping_counts_on_over_a_resume(step: int, tmp_path: Path) -> None:
    train(plan(tmp_path / "whole", evaluate=scored(), **PATIENT), resume=None, listener=silent)

    def stopping(batch: TrainBatch) -> TrainBatch:
        if batch.step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch

    with pytest.raises(Stopped):  # the signal comes before the evaluation, which is made up for
        train(
            plan(tmp_path / "cut", evaluate=scored(), loader=Loader(stopping), **PATIENT), resume=None, listener=silent
        )
    snapshot = saved(tmp_path / "cut")
    assert (snapshot.step, snapshot.state["settled"]) == (step, False)
    again = plan(tmp_path / "cut", evaluate=scored(SCORES[step - 1 :]), **PATIENT)
    done = train(again, resume=snapshot, listener=silent)
    assert done.steps == 5
    assert story(tmp_path / "cut") == story(tmp_path / "whole")


def test_A08_a_run_that_gave_up_and_was_killed_trains_no_further(tmp_path: Path) -> None:
    first = train(plan(tmp_path, evaluate=scored(), **PATIENT), resume=None, listener=silent)
    whole = story(tmp_path)
    again = train(plan(tmp_path, evaluate=scored(()), **PATIENT), resume=saved(tmp_path), listener=silent)
    assert fingerprint(again.state) == fingerprint(first.state)
    assert story(tmp_path) == whole


def clock(monkeypatch: pytest.MonkeyPatch, tick: float) -> None:
    """A monotonic clock that moves by `tick` seconds each time it is read."""
    ticks = itertools.count(1000.0, tick)
    monkeypatch.setattr("vitrail.training.run.time.monotonic", lambda: next(ticks))


def test_a_time_budget_ends_the_run_with_its_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, 10.0)
    short = plan(tmp_path, train=configs.Train(seed=5, time="1m30s"), evaluation=configs.Evaluation(every=0))
    done = train(short, resume=None, listener=silent)
    last = read(tmp_path / JOURNAL)[-1]
    assert 1 <= done.steps < TOTAL
    assert (last["event"], last["by"]) == ("end", "time")
    assert steps_of(tmp_path, "evaluation") == steps_of(tmp_path, "end") == [done.steps]
    assert saved(tmp_path).step == done.steps


def test_the_steps_within_a_budget_are_those_of_the_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate does not know of the budget: it stands where the schedule has it at that step."""
    train(plan(tmp_path / "whole"), resume=None, listener=silent)
    clock(monkeypatch, 10.0)
    train(plan(tmp_path / "short", train=configs.Train(seed=5, clip=1.0, time="90s")), resume=None, listener=silent)
    short, whole = ([row for row in story(tmp_path / at) if row["event"] == "step"] for at in ("short", "whole"))
    assert 1 <= len(short) < len(whole)
    assert short == whole[: len(short)]


def test_the_budget_counts_over_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopping(batch: TrainBatch) -> TrainBatch:
        if batch.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch

    with pytest.raises(Stopped):
        train(plan(tmp_path, loader=Loader(stopping)), resume=None, listener=silent)
    snapshot = saved(tmp_path)
    snapshot.state["elapsed_s"] = 3600.0  # type: ignore[index]
    budget = configs.Train(seed=5, clip=1.0, time="1h")
    done = train(plan(tmp_path, train=budget), resume=snapshot, listener=silent)
    assert done.steps == snapshot.step + 1  # the step in which the time is seen to be over


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, 3.2e8, -1.6e9])
def test_A20_a_clock_that_jumps_changes_nothing(jump: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calm = train(plan(tmp_path / "calm"), resume=None, listener=silent)
    real, count = time.time, itertools.count()
    monkeypatch.setattr(time, "time", lambda: real() + (jump if next(count) % 2 else 0.0))
    local = time.localtime
    monkeypatch.setattr(time, "localtime", lambda *at: local(max(0.0, real() + jump)))

    def stopping(batch: TrainBatch) -> TrainBatch:
        if batch.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch

    with pytest.raises(Stopped):
        train(plan(tmp_path / "jumps", loader=Loader(stopping)), resume=None, listener=silent)
    for number, path in enumerate(generations(tmp_path / "jumps" / CHECKPOINTS)):
        os.utime(path, (max(0.0, real() - jump * number),) * 2)
    done = train(plan(tmp_path / "jumps"), resume=saved(tmp_path / "jumps"), listener=silent)
    assert fingerprint(done.state) == fingerprint(calm.state)
    assert story(tmp_path / "jumps") == story(tmp_path / "calm")


@given(st.lists(st.integers(0, 4), max_size=30), st.integers(1, 5))
def test_patience_is_the_run_of_evaluations_without_a_new_greatest(scores: list[int], patience: int) -> None:
    best: Best | None = None
    for done, score in enumerate(scores, 1):
        best = better(best, score)
        first = scores.index(max(scores[:done]))
        assert best == Best(max(scores[:done]), done - 1 - first)
        assert given_up(patience, best) == (done - 1 - first >= patience)


@pytest.mark.parametrize("text", ["", "30", "m", "30x", "1m1h", "-1m", "0s", "1h 30m", "inf", "30M"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        seconds(text)
