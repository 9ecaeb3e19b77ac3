"""A kept step repeated by the code that took it, with every layer looked at: where does the first NaN or Inf arise?

The forward is looked at layer by layer in the order in which layers end, so that the first one whose output is not
finite is the innermost; then the loss; then the backward, in its own order, the gradients of layers' outputs and of
parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from vitrail.data.batches import TrainBatch
from vitrail.training.average import trainable
from vitrail.training.capture import Capture
from vitrail.training.state import TrainState
from vitrail.training.step import LARGEST_NORM, How, Step, take_step
from vitrail.training.watch import statistics_of, tensors_in

Phase = Literal["pictures", "weights", "forward", "loss", "backward"]
Statistics = Mapping[str, object]


@dataclass(frozen=True)
class Finding:
    """Where numbers broke first. name: the layer, tensor or parameter; holds: its statistics; inputs: of what went in.

    what: the place in words; pictures: indices of those whose rows broke there, empty where they cannot be told apart.
    """

    phase: Phase
    name: str
    what: str
    holds: Statistics
    inputs: Mapping[str, Statistics]
    pictures: tuple[int, ...]


@dataclass(frozen=True)
class Replay:
    """A repeated step. finding: None for no break.

    same: its loss and norm have the bits of the step that was kept; None where those were of several ranks together.
    """

    done: Step
    same: bool | None
    finding: Finding | None


@dataclass
class _Seen:
    """What the hooks saw, in order, up to the first break of each phase."""

    forward: Finding | None = None
    backward: Finding | None = None
    before: str = ""  # the last layer that ended well, or the last gradient that was finite
    held: Statistics = field(default_factory=dict)
    start: int = 0  # the part of the batch that is computed: its first row, and how many
    count: int = 0
    greatest: str = ""  # the parameter with the greatest element of a gradient, and that
    height: float = 0.0
    logits: list[int] = field(default_factory=list)  # the rows whose logits are not finite

    def rows(self, broken: Tensor) -> tuple[int, ...]:
        """The rows of the batch that broke; none where there is no row for each picture, as in a dropped path."""
        if broken.ndim < 1 or len(broken) != self.count:
            return ()
        found = (~torch.isfinite(broken.detach()).flatten(1).all(1)).nonzero().flatten().tolist()
        return tuple(self.start + row for row in found)


def replay(module: nn.Module, capture: Capture, how: How) -> Replay:
    """Repeat a step. module: with the kept weights, in training mode; how: as in the run, and of any device."""
    batch = capture.batch
    still = torch.optim.SGD([{"params": trainable(module), "lr_scale": 1.0}], lr=0.0)
    facts, scale = capture.facts, capture.facts.scale
    if scale is not None:  # of several ranks each multiplies its part of the loss by their number, before the mean
        scale = replace(scale, value=scale.value * facts.ranks)
    state = TrainState(module, still, step=batch.step, scale=scale)
    seen = _Seen()
    with ExitStack() as stack:
        stack.callback(module.register_forward_pre_hook(_part(seen)).remove)
        for name, layer in module.named_modules():
            stack.callback(layer.register_forward_hook(_layer(seen, name)).remove)
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                hook = parameter.register_post_accumulate_grad_hook(_gradient(seen, name))  # type: ignore[no-untyped-call]
                stack.callback(hook.remove)
        done = take_step(state, batch, 0.0, replace(how, average=None, broken_layer=None))
    same = _equal(done.loss, facts.loss) and _equal(done.norm, facts.norm) if facts.ranks == 1 else None
    found = _first(seen, capture, done)
    return Replay(done, same, None if found is None else _with_pictures(found, batch, mixed=how.mix is not None))


def _equal(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _with_pictures(found: Finding, batch: TrainBatch, *, mixed: bool) -> Finding:
    """The finding with its rows as indices of pictures: of a mixed batch both, for row i holds B - 1 - i as well."""
    rows = set(found.pictures)
    if mixed and found.phase != "pictures":
        rows |= {len(batch.indices) - 1 - row for row in rows}
    return replace(found, pictures=tuple(int(batch.indices[row]) for row in sorted(rows)))


def _first(seen: _Seen, capture: Capture, done: Step) -> Finding | None:
    """The first of everything, in the order in which one follows from the other."""
    found = _in_pictures(capture.batch) or _in_weights(capture)
    if found is not None:
        return found
    if seen.forward is not None:
        return replace(seen.forward, pictures=seen.forward.pictures or tuple(seen.logits))
    if not math.isfinite(done.loss):
        what = "in the loss, from finite logits: its targets, weights of classes or teacher"
        return Finding("loss", "loss", what, {"loss": repr(done.loss)}, {}, ())
    if seen.backward is not None:
        return seen.backward
    if not done.norm <= LARGEST_NORM:
        what = f"in the norm of the gradient: its elements are finite, the greatest in `{seen.greatest}`"
        holds = {"norm": repr(done.norm), "greatest": repr(seen.height)}
        return Finding("backward", seen.greatest, what, holds, {}, ())
    return None


def _in_pictures(batch: TrainBatch) -> Finding | None:
    whole = np.isfinite(batch.images).all(axis=(1, 2, 3))
    if whole.all():
        return None
    numbers = statistics_of(torch.as_tensor(batch.images[~whole]))
    rows = tuple(int(row) for row in np.flatnonzero(~whole))
    return Finding("pictures", "images", "in the pictures, as they were loaded", numbers, {}, rows)


def _in_weights(capture: Capture) -> Finding | None:
    for name, kept in capture.weights.items():
        values = kept.array()
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
            what = f"in the weights before the step: `{name}` is {float(values[place])} at {place}"
            return Finding("weights", name, what, statistics_of(torch.tensor(values)), {}, ())
    return None


def _part(seen: _Seen) -> Callable[..., None]:
    def look(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.start, seen.count = seen.start + seen.count, len(given[0])

    return look


def _layer(seen: _Seen, name: str) -> Callable[..., None]:
    def look(layer: nn.Module, given: object, output: object) -> None:
        outputs, inputs = tensors_in(output), tensors_in(given)
        for tensor in outputs:
            if tensor.requires_grad:
                tensor.register_hook(_output_gradient(seen, name))  # type: ignore[no-untyped-call]
        broken = next((tensor for tensor in outputs if not _fine(tensor)), None)
        if broken is not None and name == "":
            seen.logits += seen.rows(broken)
        if broken is None and seen.forward is None:
            seen.before = name
        if broken is None or seen.forward is not None:
            return
        went_in = {f"input {i}" if i else "input": statistics_of(tensor) for i, tensor in enumerate(inputs)}
        went_in |= {key: statistics_of(value) for key, value in layer.named_parameters(recurse=False)}
        what = _place(layer, name, seen.before, fine=all(map(_fine, inputs)))
        seen.forward = Finding("forward", name or "logits", what, statistics_of(broken), went_in, seen.rows(broken))

    return look


def _fine(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor.detach()).all())


def _place(layer: nn.Module, name: str, before: str, *, fine: bool) -> str:
    shown = f"`{name}`" if name else "the network"
    after = f", after `{before}`" if before else ""
    if not fine:
        return f"before {shown}{after}: it was given numbers that are not finite already"
    if next(layer.children(), None) is not None:
        return f"within {shown}{after}, between its layers: each of those gave finite numbers"
    return f"in {shown} ({type(layer).__name__}), from finite input"


def _output_gradient(seen: _Seen, name: str) -> Callable[[Tensor], None]:
    words = f"the gradient of the output of `{name}`" if name else "the gradient of the logits"

    def look(gradient: Tensor) -> None:
        _follow(seen, name or "logits", gradient, words, of_layer=True)

    return look


def _gradient(seen: _Seen, name: str) -> Callable[[Tensor], None]:
    def look(parameter: Tensor) -> None:
        assert parameter.grad is not None
        if (height := float(parameter.grad.abs().max())) > seen.height:
            seen.greatest, seen.height = name, height
        _follow(seen, name, parameter.grad, f"the gradient of the parameter `{name}`", of_layer=False)

    return look


def _follow(seen: _Seen, name: str, gradient: Tensor, words: str, *, of_layer: bool) -> None:
    if seen.backward is not None:
        return
    if _fine(gradient):
        seen.before, seen.held = words, statistics_of(gradient)
        return
    inputs = {f"{seen.before}, just before": seen.held} if seen.held else {}
    rows = seen.rows(gradient) if of_layer else ()
    seen.backward = Finding("backward", name, f"in the backward, at {words}", statistics_of(gradient), inputs, rows)
