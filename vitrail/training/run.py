"""A run between its first step and its last: its state, what it says, and when it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from vitrail.ranks import Ranks
from vitrail.training import across, journal
from vitrail.training.answers import Answers
from vitrail.training.configs import Checkpoint, Evaluation
from vitrail.training.due import EndedBy, due
from vitrail.training.plan import Plan
from vitrail.training.signals import Stop
from vitrail.training.state import TrainState
from vitrail.training.step import How
from vitrail.training.watch import Watcher

Listener = Callable[[journal.Row], None]


@dataclass
class Run:
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
