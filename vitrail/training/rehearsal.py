"""What a run will need, found before it begins: a few of its steps on generated pictures, timed and weighed."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vitrail.data.batches import TrainBatch
from vitrail.errors import is_shortage
from vitrail.machine import synchronize
from vitrail.models.configs import ModelConfig
from vitrail.models.count import macs
from vitrail.training import memory
from vitrail.training.average import trainable
from vitrail.training.optimizers import kept_by
from vitrail.training.plan import Plan, prepared
from vitrail.training.probe import WORK
from vitrail.training.state import TrainState
from vitrail.training.step import How, take_step

TIMED = 3  # steps, after one that warms up and one that is weighed


@dataclass(frozen=True)
class Bytes:
    """What a run keeps in the memory of its device. activations: all that a step needs besides, at its peak."""

    weights: int
    teacher: int
    gradients: int
    optimizer: int
    average: int
    activations: int

    @property
    def total(self) -> int:
        """All of it at once."""
        return self.weights + self.teacher + self.gradients + self.optimizer + self.average + self.activations


@dataclass(frozen=True)
class Rehearsal:
    """The measured need of a run.

    step_s: of one update with the whole batch. look_s: of evaluating one picture. measured: the most pictures that
    went through the network at once; where these are fewer than a part of the batch, time and activations are the
    line through two numbers of pictures.
    """

    bytes: Bytes
    step_s: float
    look_s: float
    measured: int


@dataclass(frozen=True)
class _Sample:
    pictures: int
    step_s: float
    peak: int  # bytes beyond what was there before the step


def rehearse(plan: Plan, config: ModelConfig, batch: int) -> Rehearsal:
    """Take some steps of the plan with generated pictures; the plan's network is left where its device is.

    On the processor as many pictures as take seconds, elsewhere the whole batch. SystemFault V703 names the batch that
    fits where memory gives out.
    """
    state, how = prepared(replace(plan, train=replace(plan.train, loss_scale=None)))
    part = -(-batch // plan.train.accumulate)  # pictures at once
    most = min(part, max(1, int(WORK / macs(config)))) if how.device.type == "cpu" else part
    if most == part:
        samples = [_sample(state, how, config, batch)]
        step_s, peak = samples[0].step_s, samples[0].peak
    else:
        alone = replace(how, accumulate=1)
        samples = [_sample(state, alone, config, size) for size in dict.fromkeys((max(1, most // 2), most))]
        step_s = _line([(s.pictures, s.step_s) for s in samples], batch)
        peak = int(_line([(s.pictures, s.peak) for s in samples], part))
    gradients = _size(trainable(state.module))
    kept = Bytes(
        weights=_size(state.module.state_dict().values()),
        teacher=0 if how.teacher is None else _size(how.teacher.state_dict().values()),
        gradients=gradients,
        optimizer=sum(_size([p]) * sum(w != "step" for w in words) for p, words in kept_by(state.optimizer).items()),
        average=_size(state.ema or []),
        activations=max(0, peak - gradients),
    )
    return Rehearsal(kept, step_s, _look(state, how, config, min(most, batch)), most)


def _sample(state: TrainState, how: How, config: ModelConfig, pictures: int) -> _Sample:
    _guarded(state, how, config, pictures)
    peak = _weighed(state, how, config, pictures)
    times = []
    for _ in range(TIMED):
        synchronize(how.device)
        began = time.perf_counter()
        _guarded(state, how, config, pictures)
        synchronize(how.device)
        times.append(time.perf_counter() - began)
    return _Sample(pictures, statistics.median(times), peak)


def _guarded(state: TrainState, how: How, config: ModelConfig, pictures: int) -> None:
    batch = generated(config, pictures, state.step)
    try:
        take_step(state, batch, 0.0, how)
        return
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        reason = str(error)
    raise memory.shortage(state, batch, how, reason)


def _weighed(state: TrainState, how: How, config: ModelConfig, pictures: int) -> int:
    """The most bytes beyond those of before that a step holds at once."""
    if how.device.type in ("cuda", "xpu"):  # whose allocators count
        torch.accelerator.reset_peak_memory_stats(how.device)
        before = torch.accelerator.memory_allocated(how.device)
        _guarded(state, how, config, pictures)
        return int(torch.accelerator.max_memory_allocated(how.device)) - before
    weighed = Weighed()
    with weighed:
        _guarded(state, how, config, pictures)
    return weighed.peak


def _look(state: TrainState, how: How, config: ModelConfig, pictures: int) -> float:
    """Seconds of evaluating one picture."""
    images = torch.as_tensor(generated(config, pictures, 0).images).to(how.device)
    module = state.module.eval()
    with torch.inference_mode():
        module(images)
        synchronize(how.device)
        began = time.perf_counter()
        module(images)
        synchronize(how.device)
    state.module.train()
    return (time.perf_counter() - began) / pictures


def generated(config: ModelConfig, pictures: int, step: int) -> TrainBatch:
    """Pictures of one ramp of values and labels in turn: what is in them changes no step's time."""
    shape = (pictures, config.channels, *config.image_size)
    images = np.resize(np.linspace(-2.0, 2.0, 4093, dtype=np.float32), shape)
    return TrainBatch(step, 0, np.arange(pictures), images, np.arange(pictures) % max(2, config.classes))


def _line(points: Sequence[tuple[int, float]], at: int) -> float:
    """The value at `at` of the line through two points, never falling; or through one and the origin.

    >>> _line([(2, 5.0), (4, 9.0)], 10), _line([(4, 8.0)], 10)
    (21.0, 20.0)
    """
    (x, y), (other, there) = points[-1], points[0]
    slope = max(0.0, (y - there) / (x - other)) if x != other else y / x
    return y + slope * (at - x)


def _size(tensors: Any) -> int:
    return sum(value.numel() * value.element_size() for value in tensors)


class Weighed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes that operations allocate and give back; `peak` is the most at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._held: dict[int, Any] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        known = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for value in tree_leaves(out):
            if isinstance(value, Tensor) and value.untyped_storage()._cdata not in known:
                self._hold(value.untyped_storage())
        return out

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._held:
            return
        size = storage.nbytes()
        self._now += size
        self.peak = max(self.peak, self._now)
        self._held[key] = weakref.ref(storage, lambda _: self._give_back(key, size))

    def _give_back(self, key: int, size: int) -> None:
        self._now -= size
        del self._held[key]
