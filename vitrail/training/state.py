"""All that a run carries from step to step, and its exact conversion to and from what a checkpoint holds.

weights, ema     every tensor of the network under its own name; `ema` has the averaged ones in their places
optimizer        what the optimizer keeps, as `PARAMETER|WHAT`, for each parameter that it has updated
state            plain values: counts, the last and the best evaluation, the optimizer's settings

There is no generator state: every random number is a function of (seed, step).
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitrail.errors import NumbersBroke, RunError
from vitrail.formats.stored import Stored, Tensors
from vitrail.ranks.spread import in_parts, whole
from vitrail.training.average import averaged, trainable
from vitrail.training.checkpoint import Snapshot
from vitrail.training.due import Best
from vitrail.training.loss_scale import Scale
from vitrail.training.optimizers import HYPER, kept_by

_SHOWN = 8  # problems listed in an error


@dataclass
class TrainState:
    """The one mutable thing of a run. step counts the steps done, skipped ones included."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    ema: list[Tensor] | None = None  # one for each trainable parameter, in their order
    step: int = 0
    settled: bool = True  # whether the evaluation that is due at this step is done
    metrics: dict[str, float] = field(default_factory=dict)  # of the last evaluation
    best: float | None = None  # greatest top1 of a step that was saved
    best_step: int | None = None
    skipped: int = 0
    skipped_in_row: int = 0
    elapsed_s: float = 0.0  # of training so far, resumed parts together
    scale: Scale | None = None  # of fp16's loss
    best_seen: Best | None = None  # by evaluations, where they may end the run
    twin: nn.Module | None = None  # a whole copy to put weights into, where the module's tensors lie in parts (FSDP)

    @property
    def updates(self) -> int:
        """Updates of the weights so far: where the schedule stands."""
        return self.step - self.skipped


# state.json: key -> what its value must be
_PLAIN: dict[str, tuple[type, ...]] = {
    "step": (int,),
    "settled": (bool,),
    "metrics": (dict,),
    "best": (float, type(None)),
    "best_step": (int, type(None)),
    "skipped": (int,),
    "skipped_in_row": (int,),
    "elapsed_s": (float,),
}


def final_module(state: TrainState) -> nn.Module:
    """A copy of the network in evaluation mode with the weights to ship: the averaged ones where they are kept."""
    with shown(state) as module:
        return copy.deepcopy(module).eval()


@contextlib.contextmanager
def shown(state: TrainState) -> Iterator[nn.Module]:
    """The network with the weights to evaluate and ship; inside, the state's own module may hold them."""
    if state.twin is None:
        with averaged(state.module, state.ema) as module:
            yield module
        return
    targets = state.twin.state_dict()
    with torch.no_grad():
        for name, tensor in _averaged_tensors(state).items():
            targets[name].copy_(whole(tensor))
    yield state.twin


def _averaged_tensors(state: TrainState) -> dict[str, Tensor]:
    """Every tensor of the network by name, the averaged ones in their places."""
    tensors: dict[str, Tensor] = state.module.state_dict()
    return tensors if state.ema is None else tensors | dict(zip(_trainable_names(state.module), state.ema, strict=True))


def snapshot(
    state: TrainState, identity: Mapping[str, object], taken: Callable[[Tensor], Tensor | None] = whole
) -> Snapshot:
    """A copy of the state for a checkpoint, or of what is `taken` of each tensor.

    NumbersBroke V811 when NaN or Inf is in it: that is never saved.
    """
    files = {"weights": _stored(state.module.state_dict(), taken), "optimizer": _stored(_kept(state), taken)}
    if state.ema is not None:
        files["ema"] = _stored(_averaged_tensors(state), taken)
    broken = _not_finite(files)
    if taken is not whole:
        broken = [f"{line} of the rows of this rank" for line in broken]
    if broken:
        raise NumbersBroke(
            "V811",
            f"the state after step {state.step} holds NaN or Inf and was not saved",
            evidence=broken[:_SHOWN],
            hint="resume from the checkpoint before, with a lower learning rate or with train.clip",
        )
    plain = {name: getattr(state, name) for name in _PLAIN}
    if state.scale is not None:
        plain["scale"] = asdict(state.scale)
    if state.best_seen is not None:
        plain["best_seen"] = asdict(state.best_seen)
    return Snapshot(state.step, files, {**plain, "optimizer": _settings(state.optimizer), "identity": dict(identity)})


def restore(state: TrainState, saved: Snapshot) -> None:
    """Put a saved state in place, bit for bit; the module, optimizer and average are made already, of the same recipe.

    RunError V604, with `state` untouched, when names, shapes or types differ or a number is NaN or Inf; V602 when it
    was saved by another optimizer.
    """
    problems = _problems(state, saved)
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise RunError(
            "V604",
            f"the checkpoint of step {saved.step} does not fit the run",
            evidence=[*problems[:_SHOWN], *more],
            hint="resume with the recipe of the run, or from another checkpoint",
        )
    mine, theirs = _settings(state.optimizer), saved.state.get("optimizer")
    if mine != theirs:
        raise RunError(
            "V602",
            f"the checkpoint of step {saved.step} was saved by another optimizer",
            evidence=[f"saved {json.dumps(theirs)}", f"now   {json.dumps(mine)}"],
            hint="resume with the recipe of the run",
        )
    _fill(state.module.state_dict(), saved.files["weights"])
    if state.ema is not None:
        names = _trainable_names(state.module)
        _fill(dict(zip(names, state.ema, strict=True)), {name: saved.files["ema"][name] for name in names})
    _fill_optimizer(state, saved.files["optimizer"])
    for name in _PLAIN:
        setattr(state, name, saved.state[name])
    if state.scale is not None:
        state.scale = _scale(saved)
    state.best_seen = _best_seen(saved)


def _trainable_names(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def _kept(state: TrainState) -> dict[str, Tensor]:
    words = kept_by(state.optimizer)
    named = zip(_trainable_names(state.module), trainable(state.module), strict=True)
    held = [(name, words[p], state.optimizer.state[p]) for name, p in named if p in state.optimizer.state]
    return {f"{name}|{word}": kept[word] for name, mine, kept in held for word in mine if kept.get(word) is not None}


def _settings(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Name and settings of the optimizer as JSON gives them back."""
    parts = [{key: part[key] for key in HYPER if key in part} for part in optimizer.param_groups]
    settings: dict[str, Any] = json.loads(json.dumps({"name": type(optimizer).__name__, "groups": parts}))
    return settings


def _stored(tensors: Mapping[str, Tensor], taken: Callable[[Tensor], Tensor | None]) -> Tensors:
    found = ((name, taken(tensor.detach())) for name, tensor in tensors.items())
    return {name: Stored.of(_copy(tensor)) for name, tensor in found if tensor is not None}


def _copy(tensor: Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    assert tensor.dtype != torch.bfloat16, "master weights are float32; bf16 is autocast's alone"
    array: np.ndarray[Any, np.dtype[Any]] = tensor.to("cpu", copy=True).contiguous().numpy()
    return array


def _not_finite(files: Mapping[str, Tensors]) -> list[str]:
    found = []
    for file, tensors in files.items():
        for name, tensor in tensors.items():
            array = tensor.array()
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
                found.append(f"{file}: `{name}` is {float(array[place])} at {place}")
    return found


def _problems(state: TrainState, saved: Snapshot) -> list[str]:
    wanted = {"weights", "optimizer"} | ({"ema"} if state.ema is not None else set())
    if set(saved.files) != wanted:
        return [f"it holds {', '.join(sorted(saved.files))}; the run needs {', '.join(sorted(wanted))}"]
    problems = [f"state: {line}" for line in _plain_problems(saved)]
    if state.scale is not None and _scale(saved) is None:
        problems.append(f"state: `scale` is {saved.state.get('scale')!r}")
    if "best_seen" in saved.state and _best_seen(saved) is None:
        problems.append(f"state: `best_seen` is {saved.state['best_seen']!r}")
    shapes = {name: _shape(tensor) for name, tensor in state.module.state_dict().items()}
    for file in sorted(wanted - {"optimizer"}):
        problems += _differences(file, shapes, saved.files[file])
    problems += _differences("optimizer", _kept_shapes(state, saved.files["optimizer"]), saved.files["optimizer"])
    return problems + _not_finite(saved.files)


def _plain_problems(saved: Snapshot) -> list[str]:
    found = [
        f"`{name}` is {saved.state.get(name)!r}"
        for name, kinds in _PLAIN.items()
        if name not in saved.state or type(saved.state[name]) not in kinds
    ]
    if saved.state.get("step") != saved.step:
        found.append(f"`step` is {saved.state.get('step')!r}, the checkpoint's is {saved.step}")
    return found


def _scale(saved: Snapshot) -> Scale | None:
    """The loss scale in a saved state; None for what is none."""
    match saved.state.get("scale"):
        case {"value": float(value), "since": int(since)} if value >= 1.0 and since >= 1:
            return Scale(value, since)
    return None


def _best_seen(saved: Snapshot) -> Best | None:
    """What early stopping knew in a saved state; None for what is none."""
    match saved.state.get("best_seen"):
        case {"top1": float(top1), "since": int(since)} if since >= 0:
            return Best(top1, since)
    return None


def _shape(tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    empty = np.empty(0, torch.empty(0, dtype=tensor.dtype).numpy().dtype)
    return Stored.of(empty).dtype, tuple(tensor.shape)


def _kept_shapes(state: TrainState, tensors: Tensors) -> dict[str, tuple[str, tuple[int, ...]]]:
    """What the optimizer must keep, for each parameter of which it keeps anything."""
    words = kept_by(state.optimizer)
    touched = {name.rpartition("|")[0] for name in tensors}
    return {
        f"{name}|{word}": ("F32", ()) if word == "step" else _shape(p)
        for name, p in state.module.named_parameters()
        if p.requires_grad and name in touched
        for word in words[p]
    }


def _differences(file: str, wanted: Mapping[str, tuple[str, tuple[int, ...]]], tensors: Tensors) -> list[str]:
    found = [f"{file}: `{name}` is missing" for name in wanted if name not in tensors]
    found += [f"{file}: `{name}` is not of this run" for name in tensors if name not in wanted]
    for name in wanted.keys() & tensors.keys():
        have = (tensors[name].dtype, tensors[name].shape)
        if have != wanted[name]:
            found.append(f"{file}: `{name}` is {have[0]} {have[1]}, the run has {wanted[name][0]} {wanted[name][1]}")
    return sorted(found)


@torch.no_grad()
def _fill(targets: Mapping[str, Tensor], tensors: Tensors) -> None:
    for name, target in targets.items():
        target.copy_(in_parts(torch.tensor(tensors[name].array()), target))


def _fill_optimizer(state: TrainState, tensors: Tensors) -> None:
    optimizer = state.optimizer
    optimizer.state.clear()
    words = kept_by(optimizer)
    fused = any(bool(group.get("fused")) for group in optimizer.param_groups)
    for name, parameter in state.module.named_parameters():
        kept = {word: tensors.get(f"{name}|{word}") for word in words.get(parameter, ())}
        found = {word: tensor for word, tensor in kept.items() if tensor is not None}
        if found:  # a kept tensor lies as its parameter lies; only a fused kernel wants its count on the device
            optimizer.state[parameter] = {
                word: torch.tensor(tensor.array(), device=parameter.device if fused else "cpu")
                if word == "step"
                else torch.empty_like(parameter, requires_grad=False).copy_(
                    in_parts(torch.tensor(tensor.array()), parameter)
                )
                for word, tensor in found.items()
            }
