"""The training loop: steps, evaluations and checkpoints of one run, stopped and resumed without a trace."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from vitrail import disk
from vitrail.data.batches import TrainBatch
from vitrail.errors import DataError, Stopped, SystemFault, printable
from vitrail.machine import memory_in_use
from vitrail.models import set_recompute
from vitrail.ranks import Ranks
from vitrail.training import across, average, checkpoint, journal, lines, loss_scale, memory, optimizers
from vitrail.training.answers import Answers, seen_answers
from vitrail.training.best import judged
from vitrail.training.capturing import captured
from vitrail.training.compiling import compile_blocks, uncompiled
from vitrail.training.configs import Average, Checkpoint, Evaluation, Journal, Loss, Optimizer, Schedule, Train
from vitrail.training.due import EndedBy, better, due, given_up, seconds
from vitrail.training.groups import describe, freeze
from vitrail.training.layers_in_fp32 import keep_in_fp32
from vitrail.training.schedule import learning_rate, total_steps
from vitrail.training.signals import Interrupted, Stop, watched
from vitrail.training.state import TrainState, restore, shown
from vitrail.training.step import SKIPS_IN_ROW, How, Mixer, Settled, Step, broken, generators_kept, take_step
from vitrail.training.upload import uploaded
from vitrail.training.watch import Watcher
from vitrail.training.watch_configs import Watch

CHECKPOINTS = "checkpoints"
Evaluate = Callable[[nn.Module], Mapping[str, float]]  # a network in evaluation mode -> metrics with `top1`
Listener = Callable[[journal.Row], None]


class Loader(Protocol):
    """Where batches come from; `data.loader.TrainLoader` is one."""

    @property
    def steps_per_epoch(self) -> int: ...

    def iterate(self, start: int, stop: int) -> Iterator[TrainBatch]: ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a run needs, settled: nothing in it is `auto`.

    identity (plain values: hashes of recipe and data) is saved with every state, for the caller to compare on resume.
    recipe: the resolved one as YAML, kept with a broken step.
    """

    module: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    loss: Loss
    average: Average | None
    train: Train
    checkpoint: Checkpoint
    evaluation: Evaluation
    precision: Settled
    device: str = "cpu"
    ranks: Ranks = Ranks()
    loader: Loader
    bad_allowed: int = 0  # different pictures that may turn out bad in one process
    mix: Mixer | None
    class_weights: tuple[float, ...] | None = None
    teacher: nn.Module | None = None
    evaluate: Evaluate | None
    folder: Path
    identity: Mapping[str, object]
    told: Journal = Journal()
    about: Mapping[str, object] = field(default_factory=dict)  # what the log's first lines say, see `lines.TABLE`
    watch: Watch = Watch()
    recipe: str = ""


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


@dataclass
class _Run:
    plan: Plan
    how: How
    state: TrainState
    ranks: Ranks
    rows: journal.Journal
    listener: Listener
    stop: Stop
    total: int
    began: float  # on the monotonic clock, moved back by the time of the parts before
    saved: int  # the step of the newest checkpoint; -1: none
    ended_by: EndedBy = "schedule"
    answers: Answers | None = None
    bad: set[int] = field(default_factory=set)  # the pictures that this process could not read

    def __post_init__(self) -> None:
        self.eyes = Watcher(self.plan.watch, self.state.module, self.plan.folder, self.tell, self.ranks)
        if self.plan.watch.activations:  # all ranks leave a step out, or none
            self.how = replace(self.how, broken_layer=lambda: across.first_of(self.ranks, self.eyes.broken_layer()))

    def tell(self, event: str, **more: object) -> None:
        row = {"event": event, "step": self.state.step, **more}
        self.rows.write(row)
        self.listener(row)

    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def due(self, what: Checkpoint | Evaluation) -> bool:
        """Whether it is to be done after this step: at the last one always."""
        step, first = self.state.step, what.from_ if isinstance(what, Evaluation) else 0
        return step == self.total or due(step, what.every, what.unit, self.plan.loader.steps_per_epoch, first=first)

    def end_now(self, by: EndedBy) -> None:
        """This step is the last one, before the schedule's."""
        if self.state.step < self.total:
            self.total, self.ended_by = self.state.step, by


def train(plan: Plan, *, resume: checkpoint.Snapshot | None, listener: Listener) -> Outcome:
    """Train to the end. The caller holds the run folder's lock and has seen that the snapshot is of the same run.

    Every event goes to the journal and, as the same row, to `listener`. Stopped V901 after SIGTERM, SIGINT or SIGHUP,
    with the state saved; NumbersBroke V811 for NaN or Inf; SystemFault V701 when the disk, V703 when memory gives out.
    """
    ranks = plan.ranks
    with watched() as stop, ranks.watch(lambda: stop.caught):
        state, spread = _state(plan)
        if resume is not None:
            restore(state, resume)
        form = lines.form(plan.told.lines, plan.about)
        ranks.first(lambda: _prepare(plan, state, form, fresh=resume is None))
        rows = _journal(plan, form)
        with contextlib.closing(rows), seen_answers(plan.told.lines, state.module) as answers:
            total = total_steps(plan.schedule, plan.loader.steps_per_epoch)
            began = time.monotonic() - state.elapsed_s
            saved = -1 if resume is None else state.step
            run = _Run(
                plan, _how(plan, spread), state, ranks, rows, listener, stop, total, began, saved, answers=answers
            )
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


def prepared(plan: Plan) -> tuple[TrainState, How]:
    """The state before the first step, and how steps are taken: to try some out of the loop."""
    state, spread = _state(plan)
    return state, _how(plan, spread)


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


def _state(plan: Plan) -> tuple[TrainState, nn.Module | None]:
    """The state before the first step, and the network as it computes on several ranks."""
    module = plan.module.to(plan.device).train()
    freeze(module, plan.train.freeze)
    keep_in_fp32(module, plan.train.fp32)
    if plan.train.recompute:
        set_recompute(module)
    if plan.train.compile:
        compile_blocks(module)
    spread, twin = across.spread(plan.ranks, module, plan.train.parallel)
    ema = average.start(module) if plan.average is not None else None
    scale = None if plan.train.loss_scale is None else loss_scale.first(plan.train.loss_scale)
    return TrainState(module, optimizers.make(plan.optimizer, module), ema, scale=scale, twin=twin), spread


def _how(plan: Plan, spread: nn.Module | None = None) -> How:
    weights = None if plan.class_weights is None else torch.tensor(plan.class_weights, device=plan.device)
    return How(
        device=torch.device(plan.device),
        precision=plan.precision,
        loss=plan.loss,
        seed=plan.train.seed,
        ranks=plan.ranks,
        spread=spread,
        steps_per_epoch=plan.loader.steps_per_epoch,
        accumulate=plan.train.accumulate,
        clip=plan.train.clip,
        clip_value=plan.train.clip_value,
        loss_scale=plan.train.loss_scale,
        average=plan.average,
        mix=plan.mix,
        class_weights=weights,
        teacher=None if plan.teacher is None else plan.teacher.to(plan.device).eval(),
    )


def _say_start(run: _Run, *, resumed: bool) -> None:
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


def _steps(run: _Run) -> None:
    if not run.state.settled:
        _settle(run)
    elif given_up(run.plan.evaluation.patience, run.state.best_seen):  # it ended, and was killed before it had its end
        run.end_now("patience")
    limit = inf if run.plan.train.time is None else seconds(run.plan.train.time)
    batches = run.plan.loader.iterate(run.state.step, run.total)
    batches = uploaded(batches, run.total - run.state.step, run.how.device)
    try:
        while run.state.step < run.total:
            began = time.monotonic()
            batch = across.counted(run.ranks, batches)
            waited = time.monotonic() - began
            _tell_bad(run, batch)
            _one(run, batch, waited)
            if limit < inf and run.ranks.total(run.elapsed() >= limit):  # the clocks of ranks are not one
                run.end_now("time")
            _settle(run)
            if across.stopped(run.ranks, run.stop):
                raise _stopped(run)
    finally:
        if isinstance(batches, Generator):
            batches.close()


def _tell_bad(run: _Run, batch: TrainBatch) -> None:
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


def _one(run: _Run, batch: TrainBatch, waited: float) -> None:
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


def _guarded_step(run: _Run, batch: TrainBatch, lr: float) -> Step:
    try:
        with run.eyes.step(run.state.step + 1):
            return take_step(run.state, batch, lr, run.how)
    except (MemoryError, RuntimeError) as error:
        if not memory.is_shortage(error):
            raise
        reason = str(error)
    raise memory.shortage(run.state, batch, run.how, reason)  # the error, and the memory it holds, are gone by now


def _settle(run: _Run) -> None:
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


def _evaluate(run: _Run) -> None:
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
        raise _stopped(run) from None
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


def _save(run: _Run, *, best: bool) -> None:
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
    run.listener({**row, "wall_s": time.monotonic() - began})


def _snapshot(run: _Run) -> checkpoint.Snapshot | None:
    return across.snapshot_of(run.ranks, run.state, run.plan.identity)


def _stopped(run: _Run) -> Stopped:
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
