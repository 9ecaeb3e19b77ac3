"""One training step: forward, loss, backward, guard, clip, update, average.

The guard stands before the update: with NaN or Inf in the loss or the gradient nothing of the state changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from vitrail.data.batches import TrainBatch
from vitrail.errors import NumbersBroke
from vitrail.randomness import key
from vitrail.ranks import Ranks
from vitrail.ranks.spread import later, whole
from vitrail.training.average import share, trainable, update
from vitrail.training.configs import Average, Loss, LossScale
from vitrail.training.loss_scale import after, can_fall
from vitrail.training.losses import loss_of
from vitrail.training.state import TrainState

# images (B, C, H, W), labels (B,), step, epoch -> images, and soft targets (B, K) or the labels
Mixer = Callable[[Tensor, Tensor, int, int], tuple[Tensor, Tensor]]

SKIPS_IN_ROW = 10  # a run whose every batch breaks is not saved by skipping
# A gradient of greater norm has squares beyond float32: AdamW's second moment would become Inf and stay so.
LARGEST_NORM = math.sqrt(torch.finfo(torch.float32).max)
_SHOWN = 32  # sample indices listed in an error; the journal has them all


Settled = Literal["fp32", "tf32", "bf16", "fp16"]
_CAST = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class How:
    """How each step is taken."""

    device: torch.device
    precision: Settled
    loss: Loss
    seed: int
    ranks: Ranks = Ranks()
    spread: nn.Module | None = None  # the network as it computes on several ranks
    steps_per_epoch: int = 1
    accumulate: int = 1
    clip: float | None = None  # of the norm
    clip_value: float | None = None
    loss_scale: LossScale | None = None
    average: Average | None = None
    mix: Mixer | None = None
    class_weights: Tensor | None = None  # (K,), on the device
    teacher: nn.Module | None = None  # in evaluation mode, on the device: images -> logits
    broken_layer: Callable[[], str | None] | None = None  # the first of this step whose output is not finite


@dataclass(frozen=True)
class Step:
    """What one step did. norm is the gradient's, before clipping; skipped: nothing was updated.

    overflow: the step was skipped because its loss scale was too great for fp16, which is cured by itself; a step
    that was skipped otherwise has broken numbers.
    """

    loss: float
    norm: float
    skipped: bool
    overflow: bool = False
    layer: str | None = None  # the first whose output is not finite, where that is looked at


def take_step(state: TrainState, batch: TrainBatch, lr: float, how: How) -> Step:
    """Train on one batch, or change nothing but `step`, the counts of skipped steps and the loss scale.

    On a skipped step `updates` stays, and with it the schedule and the EMA.
    """
    assert batch.step == state.step, f"batch {batch.step} at step {state.step}"
    parameters = trainable(state.module)
    factor = 1.0 if state.scale is None else state.scale.value
    loss = forward_backward(state.module, batch, how, factor)
    gradients = [p.grad for p in parameters if p.grad is not None]
    if factor != 1.0:
        torch._foreach_mul_(gradients, 1.0 / factor)
    norm = torch.nn.utils.get_total_norm(gradients)
    loss_now, norm_now = torch.stack([loss, whole(norm).float()]).tolist()  # one wait for the device
    layer = how.broken_layer() if how.broken_layer is not None else None
    skipped = layer is not None or not (math.isfinite(loss_now) and norm_now <= LARGEST_NORM)
    too_great = layer is None and math.isfinite(loss_now) and not math.isfinite(norm_now)
    done = Step(loss_now, norm_now, skipped, too_great and can_fall(how.loss_scale, state.scale), layer)
    if not done.skipped:
        _update(state, parameters, norm, lr, how)
    if state.ema is not None:
        assert how.average is not None
        length = how.steps_per_epoch
        part = share(how.average, state.step, updates=state.updates, skipped=skipped, steps_per_epoch=length)
        update(state.ema, state.module, part)
    if how.loss_scale is not None and state.scale is not None and done.skipped == done.overflow:
        state.scale = after(how.loss_scale, state.scale, overflow=done.overflow)
    state.optimizer.zero_grad(set_to_none=True)
    state.skipped += done.skipped
    if not done.overflow:
        state.skipped_in_row = state.skipped_in_row + 1 if done.skipped else 0
    state.step += 1
    return done


def _update(state: TrainState, parameters: list[nn.Parameter], norm: Tensor, lr: float, how: How) -> None:
    if how.clip is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, how.clip, norm)
    if how.clip_value is not None:
        torch.nn.utils.clip_grad_value_(parameters, how.clip_value)
    for part in state.optimizer.param_groups:
        part["lr"] = lr * part["lr_scale"]
    state.optimizer.step()


def forward_backward(module: nn.Module, batch: TrainBatch, how: How, factor: float = 1.0) -> Tensor:
    """The loss on a batch; its gradient, times `factor`, is left in the parameters.

    The batch is mixed whole, then computed in `accumulate` parts, each of which counts by its pictures: the gradient
    is that of the whole batch, on all ranks together. Random masks are a function of (seed, step, rank) and of the
    parts: each part draws after the one before.
    """
    ranks, net = how.ranks, module if how.spread is None else how.spread
    pictures = len(batch.labels) if batch.whole is None else batch.whole
    images = torch.as_tensor(batch.images).to(how.device)
    target = torch.as_tensor(batch.labels).to(how.device)
    total = torch.zeros((), device=how.device)
    with masks_of(how, batch.step):
        if how.mix is not None:
            images, target = how.mix(images, target, batch.step, batch.epoch)
        images = images.contiguous(memory_format=torch.channels_last)  # convolutions are faster so
        count = min(how.accumulate, len(images)) if ranks.size == 1 else how.accumulate  # as often on every rank
        parts = zip(images.tensor_split(count), target.tensor_split(count), strict=True)
        for number, (part, wanted) in enumerate(parts, 1):
            share = len(part) / pictures
            with later(net, last=number == count):
                loss = _loss(net, *(_one(part, wanted) if not len(part) else (part, wanted)), how) * share
                (loss * (factor * ranks.size)).backward()  # type: ignore[no-untyped-call]  # a mean over the ranks
            total = total + loss.detach()
    return ranks.summed(total)


def _one(images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """A picture that counts nothing, for a rank that has none: the others wait for its gradient."""
    return images.new_zeros(1, *images.shape[1:]), target.new_zeros(1, *target.shape[1:])


def _loss(module: nn.Module, images: Tensor, target: Tensor, how: How) -> Tensor:
    with casting(how.device, how.precision):
        logits = module(images)
        taught = None
        if how.teacher is not None:
            with torch.no_grad():
                taught = how.teacher(images)
    return loss_of(how.loss, logits, target, taught, how.class_weights)


def casting(device: torch.device, precision: Settled) -> torch.autocast:
    """Products in the precision's numbers, weights and what they add up to in float32."""
    return torch.autocast(device.type, _CAST[precision], enabled=_CAST[precision] is not None)


@contextmanager
def masks_of(how: How, step: int) -> Iterator[None]:
    """Torch's random numbers are those of one step and rank inside, and as they were afterwards."""
    with generators_kept(how.device):
        torch.manual_seed(key(how.seed, "drop", step, how.ranks.rank) >> 1)
        yield


@contextmanager
def generators_kept(device: torch.device) -> Iterator[None]:
    """Torch's generators, the processor's and the device's own, come out as they went in."""
    of_device = device.type not in ("cpu", "meta")
    with torch.random.fork_rng(devices=[device] if of_device else [], device_type=device.type if of_device else None):
        yield


def broken(done: Step, batch: TrainBatch, *, in_row: int, kept: Path | None = None) -> NumbersBroke:
    """The error for a step whose numbers broke: where, what, and on which pictures. kept: its capture."""
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
            "nothing was updated with it, and no checkpoint was touched",
            *([] if kept is None else [f"`vitrail replay {kept}` says where it broke first"]),
        ],
        hint="start again with a lower schedule.lr, a longer warm-up, train.clip or train.on_nan=skip",
    )


def _what(done: Step) -> str:
    if done.layer is not None:
        return f"the output of `{done.layer}` is not finite"
    if not math.isfinite(done.loss):
        return f"the loss is {done.loss:g}"
    return f"the gradient's norm is {done.norm:g}"
