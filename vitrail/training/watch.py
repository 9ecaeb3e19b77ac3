"""What is watched during the steps: hooks that look and copy. The training's numbers are the same without.

dumps/step-00000010-activations.safetensors    tensors of one step, see `Dump`
profile/steps-11-15/trace.json operations.txt  a window of steps, for chrome://tracing or Perfetto, and as a table
captures/...                                   broken steps, see `capture.py`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitrail import disk
from vitrail.errors import RecipeError, SystemFault
from vitrail.formats import safetensors
from vitrail.formats.stored import Stored
from vitrail.ranks import Ranks
from vitrail.training import capture
from vitrail.training.capture import Capture
from vitrail.training.patterns import matching
from vitrail.training.profiling import Profiler
from vitrail.training.stall import Stall
from vitrail.training.watch_configs import Dump, Watch

DUMPS = "dumps"
ALONE = Ranks()
Tell = Callable[..., None]  # an event and its values, to the journal and to whoever listens
Copies = dict[str, list[Tensor]]


class Watcher:
    """Looks on at the steps of one run. Of several ranks the first one dumps and profiles its part of the work."""

    def __init__(self, watch: Watch, module: nn.Module, folder: Path, tell: Tell, ranks: Ranks = ALONE) -> None:
        if ranks.rank:
            watch = replace(watch, dump=None, profile=None, stall=0.0)
        self._alone = ranks.size == 1
        self._watch, self._module, self._folder, self._tell = watch, module, folder, tell
        self._dumped = chosen(module, watch.dump) if watch.dump is not None else []
        self._profiler = Profiler(watch.profile, folder, tell) if watch.profile is not None else None
        self._stall = Stall(watch.stall)
        self._looked: list[tuple[str, Tensor]] = []
        self._copies: Copies = {}
        self._latest = 0

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Around the step of this number, counted from 1: what is watched in it is looked at, and hooks go again."""
        self._looked, self._copies, self._latest = [], {}, number
        dump = self._watch.dump
        with ExitStack() as stack:
            if self._alone:  # of several ranks one waits for the others, who watch each other
                stack.enter_context(self._stall.watching(f"step {number}"))
            if self._profiler is not None:
                stack.enter_context(self._profiler.step(number))
            if self._watch.activations:
                _hook_outputs(stack, dict(self._module.named_modules()), self._look)
            if dump is not None and number % dump.every == 0 and dump.what == "activations":
                modules = dict(self._module.named_modules())
                _hook_outputs(stack, {name: modules[name] for name in self._dumped}, self._copy)
            if dump is not None and number % dump.every == 0 and dump.what == "gradients":
                for name in self._dumped:
                    stack.callback(self._hook_gradient(name).remove)
            yield

    def broken_layer(self) -> str | None:
        """The first layer of the step whose output held NaN or Inf; None where it is not looked at, or none did."""
        if not self._looked:
            return None
        good = torch.stack([flag for _, flag in self._looked]).tolist()
        return next(
            (name or "the network" for (name, _), fine in zip(self._looked, good, strict=True) if not fine), None
        )

    def write(self, number: int, factor: float) -> None:
        """Write what was dumped of the step just done. factor: of its loss scale. SystemFault V701 for a full disk."""
        dump = self._watch.dump
        if dump is None or number % dump.every != 0:
            return
        if dump.what == "weights":
            state = self._module.state_dict()
            self._copies = {name: [state[name].detach().to("cpu", copy=True)] for name in self._dumped}
        tensors = {name: _joined(parts) for name, parts in self._copies.items()}
        if dump.what == "gradients" and factor != 1.0:
            tensors = {name: tensor * (1.0 / factor) for name, tensor in tensors.items()}
        self._copies = {}
        disk.make_folder(self._folder / DUMPS)
        path = self._folder / DUMPS / f"step-{number:08d}-{dump.what}.safetensors"
        metadata = {"format": "vitrail dump", "version": "1.0", "step": str(number), "what": dump.what}
        safetensors.write(path, {name: stored(tensor) for name, tensor in tensors.items()}, metadata)
        statistics = {name: statistics_of(tensor) for name, tensor in tensors.items()}
        self._tell("dump", what=dump.what, file=f"{DUMPS}/{path.name}", tensors=statistics)

    def keep(self, make: Callable[[], Capture], *, step: int, rank: int, overflow: bool) -> Path | None:
        """Keep a broken step for `replay`, unless enough are kept. A disk that refuses is told: the step is worse."""
        others = [path for path in capture.kept(self._folder, rank) if path.name != capture.name_of(step, rank)]
        if (overflow and not self._watch.overflows) or len(others) >= self._watch.captures:
            return None
        try:
            path = capture.write(self._folder, make())
        except SystemFault as error:
            self._tell("warning", code=error.code, text=f"the broken step was not kept: {error.what}")
            return None
        self._tell("capture", file=f"{capture.FOLDER}/{path.name}")
        return path

    def saving(self, step: int) -> AbstractContextManager[None]:
        """Around a save, which must not stand still."""
        return self._stall.watching(f"the save after step {step}")

    def close(self) -> None:
        """End a window that is open, and say of a window or a dump that no step came to."""
        self._stall.close()
        dump = self._watch.dump
        if dump is not None and 0 < self._latest < dump.every:
            text = f"watch.dump.every is {dump.every}, the run ended with step {self._latest}: nothing was dumped"
            self._tell("warning", text=text)
        if self._profiler is not None:
            self._profiler.close()

    def _look(self, name: str, tensor: Tensor) -> None:
        if not _on_the_way_back():
            self._looked.append((name, torch.isfinite(tensor.detach()).all()))

    def _copy(self, name: str, tensor: Tensor) -> None:
        if not _on_the_way_back():
            self._copies.setdefault(name, []).append(tensor.detach().to("cpu", copy=True))

    def _hook_gradient(self, name: str) -> Any:
        def take(parameter: Tensor) -> None:
            assert parameter.grad is not None
            self._copies[name] = [parameter.grad.detach().to("cpu", copy=True)]  # the last part's holds all of them

        parameter = self._module.get_parameter(name)
        return parameter.register_post_accumulate_grad_hook(take)  # type: ignore[no-untyped-call]


def _hook_outputs(stack: ExitStack, modules: dict[str, nn.Module], see: Callable[[str, Tensor], None]) -> None:
    for name, module in modules.items():

        def look(_: nn.Module, __: object, output: object, name: str = name) -> None:
            for tensor in tensors_in(output):
                see(name, tensor)

        stack.callback(module.register_forward_hook(look).remove)


def _on_the_way_back() -> bool:
    """Whether a backward is going on: a block that `train.recompute` computes again was seen on the way there."""
    return bool(torch._C._current_graph_task_id() != -1)


def tensors_in(value: object) -> list[Tensor]:
    """The floating-point tensors in what a module takes or gives."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, (tuple, list)):
        return [tensor for inner in value for tensor in tensors_in(inner)]
    return []


def chosen(module: nn.Module, dump: Dump) -> list[str]:
    """The names that the patterns choose, of layers or of parameters. RecipeError V104 when one matches nothing."""
    names, kind = {
        "activations": ([name for name, _ in module.named_modules() if name], "layer"),
        "gradients": ([name for name, parameter in module.named_parameters() if parameter.requires_grad], "parameter"),
        "weights": (list(module.state_dict()), "tensor"),
    }[dump.what]
    taken = matching(dump.layers, names, key="watch.dump.layers", kind=kind)
    if not taken:
        raise RecipeError("V104", "watch.dump.layers leaves nothing to dump", hint="begin with `*`")
    return [name for name in names if name in taken]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """The parts of a batch as one, where they are of one kind; else the last one."""
    alike = len({(part.dtype, part.shape[1:]) for part in parts}) == 1 and parts[0].ndim > 0
    return torch.cat(list(parts)) if alike and len(parts) > 1 else parts[-1]


def stored(tensor: Tensor) -> Stored:
    """A tensor of the processor as files hold it."""
    if tensor.dtype == torch.bfloat16:
        return Stored.of(tensor.float().contiguous().numpy(), "BF16")
    return Stored.of(tensor.contiguous().numpy())


def statistics_of(tensor: Tensor) -> dict[str, object]:
    """Shape, type, and the range and mean of what is finite; how much is NaN and how much Inf.

    >>> statistics_of(torch.tensor([1.0, 3.0, float("nan")]))["mean"], statistics_of(torch.ones(2, 3))["shape"]
    (2.0, [2, 3])
    """
    values = tensor.detach().to("cpu", torch.float64).numpy()
    fine = values[np.isfinite(values)]
    empty = not fine.size
    return {
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "min": None if empty else float(fine.min()),
        "max": None if empty else float(fine.max()),
        "mean": None if empty else float(fine.mean()),
        "std": None if empty else float(fine.std()),
        "nan": int(np.isnan(values).sum()),
        "inf": int(np.isinf(values).sum()),
    }
