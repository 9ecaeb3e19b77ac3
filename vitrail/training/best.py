"""Which evaluation is the best one of a run."""

from __future__ import annotations

from typing import Literal

from vitrail.training.state import TrainState


def judged(state: TrainState, rule: Literal["first", "last"]) -> bool:
    """Whether the evaluation of this step is the best so far; the state's mark is moved with it.

    first: the earliest of equally good ones. last: the latest of them, and never a run's first, which only sets the
    mark (mindspore/models research/cv/vit_base).
    """
    top1, before = state.metrics["top1"], state.best
    if before is not None and (top1 < before or (rule == "first" and top1 == before)):
        return False
    state.best = top1
    if rule == "last" and before is None:
        return False
    state.best_step = state.step
    return True
