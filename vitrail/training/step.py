"""One training step: forward, loss, backward, guard, clip, update, average.

The guard stands before the update: with NaN or Inf in the loss or the gradient nothing of the state changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vitrail.data.batches import TrainBatch
from vitrail.errors import NumbersBroke
from vitrail.randomness import key
from vitrail.training.average import decay_at, trainable, update
from vitrail.training.configs import CrossEntropy
from vitrail.training.losses import cross_entropy
from vitrail.training.state import TrainState

# images (B, C, H, W), labels (B,), step, epoch -> images, and soft targets (B, K) or the labels
Mixer = Callable[[Tensor, Tensor, int, int], tuple[Tensor, Tensor]]

SKIPS_IN_ROW = 10  # a run whose every batch breaks is not saved by skipping
# A gradient of greater norm has squares beyond float32: AdamW's second moment would become Inf and stay so.
LARGEST_NORM = math.sqrt(torch.finfo(torch.float32).max)
_SHOWN = 32  # sample indices listed in an error; the journal has them all


@dataclass(frozen=True, kw_only=True)
class How:
    """How each step is taken."""

    device: torch.device
    precision: Literal["fp32", "bf16"]
    loss: CrossEntropy
    seed: int
    rank: int = 0
    clip: float | None = None
    decay: float | None = None  # of the average
    mix: Mixer | None = None


@dataclass(frozen=True)
class Step:
    """What one step did. norm is the gradient's, before clipping; skipped: the numbers broke, nothing was updated."""

    loss: float
    norm: float
    skipped: bool


def take_step(state: TrainState, batch: TrainBatch, lr: float, how: How) -> Step:
    """Train on one batch, or change nothing but `step` and the counts of skipped steps when the numbers break."""
    assert batch.step == state.step, f"batch {batch.step} at step {state.step}"
    parameters = trainable(state.module)
    loss = forward_backward(state.module, batch, how)
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    loss_now, norm_now = torch.stack([loss.detach(), norm.float()]).tolist()  # one wait for the device
    done = Step(loss_now, norm_now, skipped=not (math.isfinite(loss_now) and norm_now <= LARGEST_NORM))
    if not done.skipped:
        if how.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, how.clip, norm)
        for part in state.optimizer.param_groups:
            part["lr"] = lr
        state.optimizer.step()
        if state.ema is not None:
            assert how.decay is not None
            update(state.ema, state.module, decay_at(how.decay, state.step))
    state.optimizer.zero_grad(set_to_none=True)
    state.skipped += done.skipped
    state.skipped_in_row = state.skipped_in_row + 1 if done.skipped else 0
    state.step += 1
    return done


def forward_backward(module: nn.Module, batch: TrainBatch, how: How) -> Tensor:
    """The loss on a batch, its gradient left in the parameters; random masks are a function of (seed, step, rank)."""
    images = torch.as_tensor(batch.images).to(how.device)
    target = torch.as_tensor(batch.labels).to(how.device)
    with masks_of(how, batch.step):
        if how.mix is not None:
            images, target = how.mix(images, target, batch.step, batch.epoch)
        images = images.contiguous(memory_format=torch.channels_last)  # convolutions are faster so
        with torch.autocast(how.device.type, torch.bfloat16, enabled=how.precision == "bf16"):
            logits = module(images)
        loss = cross_entropy(logits, target, how.loss.smoothing)
        loss.backward()  # type: ignore[no-untyped-call]
    return loss


@contextmanager
def masks_of(how: How, step: int) -> Iterator[None]:
    """Torch's random numbers are those of one step and rank inside, and as they were afterwards."""
    with generators_kept(how.device):
        torch.manual_seed(key(how.seed, "drop", step, how.rank) >> 1)
        yield


@contextmanager
def generators_kept(device: torch.device) -> Iterator[None]:
    """Torch's generators come out as they went in."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def broken(done: Step, batch: TrainBatch, *, in_row: int) -> NumbersBroke:
    """The error for a step whose numbers broke: where, what, and on which pictures."""
    indices = [int(index) for index in batch.indices]
    shown = ", ".join(map(str, indices[:_SHOWN]))
    more = f" and {len(indices) - _SHOWN} more (all are in journal.jsonl)" if len(indices) > _SHOWN else ""
    row = f", after {in_row - 1} steps skipped in a row" if in_row > 1 else ""
    return NumbersBroke(
        "V811",
        f"{_what(done)} at step {batch.step + 1} (epoch {batch.epoch + 1}){row}",
        evidence=[
            f"loss {done.loss:g}",
            f"gradient norm {done.norm:g}",
            f"pictures by index: {shown}{more}",
            "nothing was updated with it; the last checkpoint is as it was",
        ],
        hint="start again with a lower schedule.lr, a longer warm-up, train.clip or train.on_nan=skip",
    )


def _what(done: Step) -> str:
    if not math.isfinite(done.loss):
        return f"the loss is {done.loss:g}"
    return f"the gradient's norm is {done.norm:g}"
