"""When memory runs out in a step: the batch that does fit, found on the same pictures."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace

import torch

from vitrail.data.batches import TrainBatch
from vitrail.errors import SystemFault, is_shortage
from vitrail.training.average import trainable
from vitrail.training.state import TrainState
from vitrail.training.step import How, forward_backward


def shortage(state: TrainState, batch: TrainBatch, how: How, reason: str) -> SystemFault:
    """The refusal that names the greatest half, quarter ... of the batch that trains here.

    Call it outside of the `except` that caught the error: the error holds the memory that is missing. Of several ranks
    none looks for what fits: a step is taken by all of them.
    """
    size = len(batch.labels)
    if how.ranks.size > 1:
        return _refused(
            f"memory does not suffice for a step of {size} pictures on rank {how.ranks.rank}",
            reason,
            hint=f"start again with train.accumulate={2 * how.accumulate}, which computes the same batch in more parts,"
            " with train.recompute=true or train.parallel=fsdp; or free memory and resume",
        )
    fits = largest_fitting(size, lambda pictures: _fits(state, batch, how, pictures))
    parts = -(-size * how.accumulate // fits) if fits else 0
    state.optimizer.zero_grad(set_to_none=True)
    return _refused(
        f"memory does not suffice for a step of {size} pictures",
        reason,
        f"data.batch={fits} fits" if fits else "not even one picture fits",
        hint=f"start again with train.accumulate={parts}, which computes the same batch in parts, or with "
        f"data.batch={fits} and a learning rate for that batch; or free memory and resume"
        if fits
        else "free memory, or choose a smaller variant",
    )


def not_ready(step: int, reason: str) -> SystemFault:
    """The refusal where a batch could not even be made ready, or brought to the device; step counts from 1."""
    hint = "free memory and go on with --resume; a smaller data.batch and fewer data.workers hold less at a time"
    return _refused(f"memory does not suffice to make the batch of step {step} ready", reason, hint=hint)


def _refused(what: str, reason: str, *more: str, hint: str) -> SystemFault:
    said = reason.splitlines()[0][:200] if reason else "no more was said"
    return SystemFault("V703", what, evidence=[said, *more], hint=hint)


def largest_fitting(size: int, fits: Callable[[int], bool]) -> int:
    """The first of size/2, size/4 ... 1 that fits, or 0.

    >>> largest_fitting(100, lambda pictures: pictures <= 30)
    25
    """
    while size > 1:
        size //= 2
        if fits(size):
            return size
    return 0


def most_fitting(limit: int, fits: Callable[[int], bool]) -> int:
    """The greatest number up to `limit` that fits, to an eighth of it; 0 where not even 1 does.

    Doubles until one does not fit, then halves the rest: what fits is taken to fit for every smaller number.

    >>> most_fitting(10_000, lambda pictures: pictures <= 1000)
    960
    """
    good, bad = 0, limit + 1
    size = 1
    while good < limit:
        if fits(size):
            good = size
        else:
            bad = size
        if bad - good <= max(1, good // 8):
            break
        size = min(limit, 2 * good) if bad > limit else (good + bad) // 2
    return good


def fits_in_a_step(state: TrainState, batch: TrainBatch, how: How) -> bool:
    """Whether a step of this batch finds memory enough; nothing is updated."""
    try:
        return _fits(state, batch, how, len(batch.labels))
    finally:
        state.optimizer.zero_grad(set_to_none=True)


def _fits(state: TrainState, batch: TrainBatch, how: How, pictures: int) -> bool:
    part = replace(
        batch,
        indices=batch.indices[:pictures],
        images=batch.images[:pictures],
        labels=batch.labels[:pictures],
    )
    state.optimizer.zero_grad(set_to_none=True)
    gc.collect()
    if how.device.type != "cpu":
        torch.accelerator.empty_cache()
    room = []
    try:
        if not state.optimizer.state:  # the first update makes what the optimizer keeps: at most two of each parameter
            room = [torch.empty_like(p) for p in trainable(state.module) for _ in range(2)]
        forward_backward(state.module, part, how)
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        return False
    finally:
        room.clear()
    return True
