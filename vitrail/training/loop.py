"""The training loop: steps, evaluations and checkpoints of one run, stopped and resumed without a trace."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, dataclass
from math import inf

import torch

from vitrail import disk
from vitrail.data.batches import TrainBatch
from vitrail.errors import DataError, is_shortage, printable
from vitrail.machine import memory_in_use
from vitrail.training import across, checkpoint, journal, lines, memory
from vitrail.training.answers import seen_answers
from vitrail.training.capturing import captured
from vitrail.training.due import given_up, seconds
from vitrail.training.groups import describe
from vitrail.training.plan import Plan, prepared
from vitrail.training.run import Listener, Run
from vitrail.training.saving import settle, stopped_by
from vitrail.training.schedule import learning_rate, total_steps
from vitrail.training.signals import watched
from vitrail.training.state import TrainState, restore
from vitrail.training.step import SKIPS_IN_ROW, Step, broken, take_step
from vitrail.training.upload import uploaded


@dataclass(frozen=True)
class Outcome:
    """A finished run. metrics: of the last evaluation; best: the greatest top1 of a step that was saved.

    seconds: of training, evaluation and saving, all resumed parts together. `state.final_module` gives what to ship.
    """

    state: TrainState
    steps: int
    metrics: Mapping[str, float]
    best: float | None
    best_step: int | None
    skipped: int
    seconds: float


def train(plan: Plan, *, resume: checkpoint.Snapshot | None, listener: Listener) -> Outcome:
    """Train to the end. The caller holds the run folder's lock and has seen that the snapshot is of the same run.

    Every event goes to the journal and, as the same row, to `listener`. Stopped V901 after SIGTERM, SIGINT or SIGHUP,
    with the state saved; NumbersBroke V811 for NaN or Inf; SystemFault V701 when the disk, V703 when memory gives out.
    """
    ranks = plan.ranks
    with watched() as stop, ranks.watch(lambda: stop.caught):
        state, how = prepared(plan)
        if resume is not None:
            restore(state, resume)
        form = lines.form(plan.told.lines, plan.about)
        ranks.first(lambda: _prepare(plan, state, form, fresh=resume is None))
        rows = _journal(plan, form)
        with contextlib.closing(rows), seen_answers(plan.told.lines, state.module) as answers:
            total = total_steps(plan.schedule, plan.loader.steps_per_epoch)
            began = time.monotonic() - state.elapsed_s
            saved = -1 if resume is None else state.step
            run = Run(plan, how, state, ranks, rows, listener, stop, total, began, saved, answers=answers)
            _say_start(run, resumed=resume is not None)
            with contextlib.closing(run.eyes):
                _steps(run)
            best = {"best": state.best, "best_step": state.best_step}
            counts = {} if ranks.rank else journal.counted(plan.folder / journal.JOURNAL)
            run.tell("end", **state.metrics, **best, **counts, **_drift(plan), by=run.ended_by, wall_s=run.elapsed())
    return Outcome(
        state=state,
        steps=state.step,
        metrics=dict(state.metrics),
        best=state.best,
        best_step=state.best_step,
        skipped=state.skipped,
        seconds=run.elapsed(),
    )


def _prepare(plan: Plan, state: TrainState, form: lines.Form | None, *, fresh: bool) -> None:
    """The run folder's journal, up to where the run begins or goes on, which `form` has then seen."""
    disk.make_folder(plan.folder)
    if fresh:
        journal.restart(plan.folder)
    else:
        journal.truncate_to(plan.folder / journal.JOURNAL, state.step, settled=state.settled)
    if form is not None:
        journal.retell(plan.folder, form)


def _journal(plan: Plan, form: lines.Form | None) -> journal.Journal:
    if plan.ranks.rank:
        return across.NoJournal()
    return journal.Journal(plan.folder, patient=plan.checkpoint.on_error == "continue", form=form)


def _say_start(run: Run, *, resumed: bool) -> None:
    run.tell(
        "resume" if resumed else "start",
        steps=run.total,
        steps_per_epoch=run.plan.loader.steps_per_epoch,
        precision=run.plan.precision,
        device=run.plan.device,
        threads=torch.get_num_threads(),
        parameters=describe(run.plan.module, run.plan.optimizer),
        optimizer=asdict(run.plan.optimizer),
        **_drift(run.plan),
    )


def _drift(plan: Plan) -> dict[str, object]:
    """What changed at a resume, for rows that then say so."""
    return {"drift": plan.identity["drift"]} if plan.identity.get("drift") else {}


def _steps(run: Run) -> None:
    if not run.state.settled:
        settle(run)
    elif given_up(run.plan.evaluation.patience, run.state.best_seen):  # it ended, and was killed before it had its end
        run.end_now("patience")
    limit = inf if run.plan.train.time is None else seconds(run.plan.train.time)
    batches = run.plan.loader.iterate(run.state.step, run.total)
    batches = uploaded(batches, run.total - run.state.step, run.how.device)
    try:
        while run.state.step < run.total:
            began = time.monotonic()
            batch = _next(run, batches)
            waited = time.monotonic() - began
            _tell_bad(run, batch)
            _one(run, batch, waited)
            if limit < inf and run.ranks.total(run.elapsed() >= limit):  # the clocks of ranks are not one
                run.end_now("time")
            settle(run)
            if across.stopped(run.ranks, run.stop):
                raise stopped_by(run)
    finally:
        if isinstance(batches, Generator):
            batches.close()


def _next(run: Run, batches: Iterator[TrainBatch]) -> TrainBatch:
    try:
        return across.counted(run.ranks, batches)
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        raise memory.not_ready(run.state.step + 1, str(error)) from error


def _tell_bad(run: Run, batch: TrainBatch) -> None:
    """Every picture of a batch that could not be read, counted; DataError V406 when there are more than allowed."""
    for one in batch.bad:
        run.bad.add(one.index)
        run.tell(
            "bad", epoch=batch.epoch, index=one.index, name=printable(one.name), code=one.error.code, why=one.error.what
        )
    if len(run.bad) > run.plan.bad_allowed:
        raise DataError(
            "V406",
            f"{len(run.bad)} pictures could not be read, {run.plan.bad_allowed} may be bad",
            evidence=[str(one) for one in batch.bad[:10]],
            hint="repair or remove them and go on with --resume; `data.bad_limit` says how many may be bad",
        )


def _one(run: Run, batch: TrainBatch, waited: float) -> None:
    state = run.state
    began = time.monotonic()
    lr = learning_rate(run.plan.schedule, state.updates, steps_per_epoch=run.plan.loader.steps_per_epoch)
    scale = state.scale
    done = _guarded_step(run, batch, lr)
    took = time.monotonic() - began
    numbers: dict[str, object] = {"epoch": batch.epoch, "loss": done.loss, "norm": done.norm, "lr": lr}
    if scale is not None:
        numbers["scale"] = scale.value
    if run.answers is not None:
        numbers["acc"] = run.ranks.total(run.answers.right(batch.labels)) / (batch.whole or len(batch.labels))
    numbers |= {"wait_s": waited, "step_s": took, "memory_bytes": memory_in_use(run.how.device)}
    if done.overflow:
        run.tell("overflow", **numbers)
    elif not done.skipped:
        pace = (batch.whole or len(batch.labels)) / max(took + waited, 1e-9)
        run.tell("step", **numbers, images_per_s=pace)
    run.eyes.write(state.step, 1.0 if scale is None else scale.value)
    if not done.skipped:
        return
    kept = None
    if len(batch.labels) and state.twin is None:  # else its tensors lie in parts, that one rank cannot put together
        make = captured(run.plan, batch, done, lr=lr, scale=scale)
        kept = run.eyes.keep(make, step=batch.step, rank=run.ranks.rank, overflow=done.overflow)
    if done.overflow:
        return
    batch = across.with_all_indices(run.ranks, batch)
    stops = run.plan.train.on_nan == "stop" or state.skipped_in_row > SKIPS_IN_ROW
    run.tell("broke" if stops else "skipped", **numbers, indices=[int(index) for index in batch.indices])
    if stops:
        raise broken(done, batch, in_row=state.skipped_in_row, kept=kept)


def _guarded_step(run: Run, batch: TrainBatch, lr: float) -> Step:
    try:
        with run.eyes.step(run.state.step + 1):
            return take_step(run.state, batch, lr, run.how)
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        reason = str(error)
    raise memory.shortage(run.state, batch, run.how, reason)  # the error, and the memory it holds, are gone by now
