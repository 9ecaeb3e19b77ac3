"""What is due after a step: the evaluation, then the checkpoint; and what a run that is stopped leaves behind."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import torch
from torch import nn

from vitrail.errors import Stopped, SystemFault
from vitrail.training import across, checkpoint
from vitrail.training.best import judged
from vitrail.training.checkpoint import CHECKPOINTS
from vitrail.training.compiling import uncompiled
from vitrail.training.due import better, given_up
from vitrail.training.run import Run
from vitrail.training.signals import Interrupted
from vitrail.training.state import TrainState, shown
from vitrail.training.step import generators_kept


def settle(run: Run) -> None:
    """What is due after this step: the evaluation, then the checkpoint."""
    state, plan = run.state, run.plan
    evaluated = plan.evaluate is not None and run.due(plan.evaluation)
    if evaluated:
        state.settled = False
        _evaluate(run)
        if plan.evaluation.patience is not None:
            state.best_seen = better(state.best_seen, state.metrics["top1"])
            if given_up(plan.evaluation.patience, state.best_seen):
                run.end_now("patience")
    state.settled = True
    if not run.due(plan.checkpoint):
        return
    before = (state.best, state.best_step)
    is_best = evaluated and judged(state, plan.checkpoint.best)
    try:
        _save(run, best=is_best)
    except SystemFault as error:
        if plan.checkpoint.on_error == "stop" or state.step == run.total:
            raise
        state.best, state.best_step = before
        run.tell("warning", code=error.code, text=error.what)


def _evaluate(run: Run) -> None:
    state, plan = run.state, run.plan
    assert plan.evaluate is not None
    began = time.monotonic()
    try:
        # several ranks stop together, after a batch: a signal must not end one of them while it speaks to the others
        interrupting = run.stop.interrupting() if run.ranks.size == 1 else contextlib.nullcontext()
        with (
            _to_evaluate(state) as module, uncompiled(plan.train.compile), generators_kept(run.how.device),
            torch.no_grad(), interrupting,
        ):  # fmt: skip
            metrics = {name: float(value) for name, value in plan.evaluate(module).items()}
    except Interrupted:
        across.stopped(run.ranks, run.stop)
        raise stopped_by(run) from None
    assert "top1" in metrics, sorted(metrics)
    state.metrics = metrics
    run.tell("evaluation", **metrics, wall_s=time.monotonic() - began)


@contextlib.contextmanager
def _to_evaluate(state: TrainState) -> Iterator[nn.Module]:
    """The network in evaluation mode with the averaged weights; every part's mode comes back as it was."""
    modes = [(part, part.training) for part in state.module.modules()]
    try:
        with shown(state) as module:
            yield module.eval()
    finally:
        for part, training in modes:
            part.training = training


def _save(run: Run, *, best: bool) -> None:
    state = run.state
    state.elapsed_s = run.elapsed()
    saved = _snapshot(run)
    name = f"step-{state.step:08d}"
    row: dict[str, object] = {"event": "checkpoint", "step": state.step, "name": name, "best": best}
    began = time.monotonic()
    with run.eyes.saving(state.step):
        run.rows.write(row)
        run.rows.sync()
        across.save(run.ranks, run.plan.folder / CHECKPOINTS, saved, keep=run.plan.checkpoint.keep, best=best)
    run.saved = state.step
    took = time.monotonic() - began
    run.ranks.first(lambda: run.listener({**row, "wall_s": took}))  # who copies it far away takes his time


def _snapshot(run: Run) -> checkpoint.Snapshot | None:
    return across.snapshot_of(run.ranks, run.state, run.plan.identity, sharded=run.plan.checkpoint.sharded)


def stopped_by(run: Run) -> Stopped:
    """Save, unless this very state is saved already, and give the error that ends the run."""
    state, plan = run.state, run.plan
    if run.saved != state.step:
        state.elapsed_s = run.elapsed()
        saved = _snapshot(run)
        with run.eyes.saving(state.step):
            run.rows.sync()
            across.save(run.ranks, plan.folder / CHECKPOINTS, saved, keep=plan.checkpoint.keep)
    run.tell("stopped", by=run.stop.caught, wall_s=run.elapsed())
    return Stopped(
        "V901",
        f"stopped by {run.stop.caught} after step {state.step} of {run.total}",
        evidence=[f"saved in `{plan.folder / CHECKPOINTS}`"],
        hint="run the same command with --resume to go on from there",
    )
