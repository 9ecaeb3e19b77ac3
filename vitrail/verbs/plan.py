"""`plan`: what a run would take of time, memory and disk; a rate and a batch to begin with. Nothing is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitrail.data.loader import worth_compiling
from vitrail.data.sources import BUILT_IN, Source, from_arrays, open_source
from vitrail.engines.table import need
from vitrail.errors import UsageError
from vitrail.machine import cores, free_memory, has_fast_bf16
from vitrail.ranks import Ranks
from vitrail.recipe import Recipe, load_recipe
from vitrail.recipe.devices import for_devices
from vitrail.recipe.settle import settle
from vitrail.remote import is_address
from vitrail.training.due import times
from vitrail.verbs.before import probed, silent
from vitrail.verbs.begin import Beginning, Call
from vitrail.verbs.drift import Bits
from vitrail.verbs.feeding import advice
from vitrail.verbs.planned import plan_of

if TYPE_CHECKING:
    import torch

    from vitrail.training.lr_range import LrRange
    from vitrail.training.plan import Loader
    from vitrail.training.plan import Plan as RunPlan
    from vitrail.training.rehearsal import Bytes, Rehearsal

READ_S = 2.0  # seconds that reading real batches may take
RANGE_STEPS = 100  # of the learning rate range test
SPARE = 0.9  # of the free memory that a batch may fill
LARGEST = 1 << 16  # pictures


@dataclass(frozen=True)
class PlanResult:
    """What a run of a recipe would take on this machine.

    steps, steps_per_epoch, data_s and eta_s are None where there are no pictures to count or read; data_s: of making
    one batch ready with the recipe's threads. free: bytes that the device has free. lr_range and largest_batch where
    they were asked for.
    """

    recipe: Recipe
    device: str
    steps: int | None
    steps_per_epoch: int | None
    parameters: int
    trained: int
    step_s: float
    data_s: float | None
    eta_s: float | None
    bytes: Bytes
    free: int
    checkpoint_bytes: int
    checkpoints: int
    measured: int
    bound_by: str
    advice: tuple[str, ...]
    notes: tuple[str, ...] = ()
    lr_range: LrRange | None = None
    largest_batch: int | None = None

    @property
    def epochs(self) -> float | None:
        """Passes over the training pictures."""
        if self.recipe.schedule.epochs is not None:
            return self.recipe.schedule.epochs
        return self.steps / self.steps_per_epoch if self.steps and self.steps_per_epoch else None

    def to_json(self) -> dict[str, object]:
        """The result in plain values."""
        values: dict[str, object] = {
            "recipe": self.recipe.name,
            "device": self.device,
            "precision": self.recipe.precision,
            "attention": self.recipe.train.attention,
            "batch": self.recipe.data.batch,
            "accumulate": self.recipe.train.accumulate,
            "epochs": self.epochs,
        }
        skipped = ("recipe", "bytes", "lr_range", "advice", "notes", "device")
        values |= {key: value for key, value in vars(self).items() if key not in skipped}
        values["memory"] = {**asdict(self.bytes), "total": self.bytes.total}
        values["advice"], values["notes"] = list(self.advice), list(self.notes)
        values["lr_range"] = None if self.lr_range is None else asdict(self.lr_range)
        return values


def plan(
    recipe: Recipe | str | Path,
    overrides: Sequence[str] = (),
    *,
    lr_range: bool = False,
    largest_batch: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PlanResult:
    """Measure what a run of the recipe would take, by a few steps on generated pictures and a few batches of its own.

    lr_range: also find a learning rate, on real batches. largest_batch: also find what memory bears. progress: of the
    range test. Nothing is written but what the probe keeps in the user's cache.
    """
    need("torch", "train")
    wanted = for_devices(recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides), 1)
    source, absent = _source(wanted)
    if absent and lr_range:
        raise UsageError("V004", f"a learning rate is found on real pictures: {absent}", hint="give --data")
    settled = probed(settle(wanted, source), Ranks())
    fixed = wanted.precision != "auto"
    result = _measured(settled, _run_plan(settled, source), source, absent, fixed=fixed)
    if largest_batch:
        result = replace(result, largest_batch=_largest(_run_plan(settled, source), settled, result))
    if lr_range:
        from vitrail.training.lr_range import lr_range as test

        found = test(_run_plan(settled, source, started=True), RANGE_STEPS, progress or _silent)
        result = replace(result, lr_range=found)
    return result


def _silent(done: int, of: int) -> None:
    """The listener of whoever does not listen."""


def _run_plan(recipe: Recipe, source: Source, *, started: bool = False) -> RunPlan:
    """All that the loop needs for a resolved recipe, of no run folder; started: with the weights it starts from."""
    call = Call(recipe, source, Path(), Ranks(), silent, Bits())
    start = Beginning(call).weights(recipe, None) if started else None
    return plan_of(call, recipe, start.classifier if start else None)


def _source(recipe: Recipe) -> tuple[Source, str]:
    """The recipe's pictures, or a stand-in for them and why they are absent."""
    root = recipe.data.root
    if root is None and recipe.data.source not in BUILT_IN:
        absent = "the recipe names no data.root"
    elif root is not None and not (Path(root).exists() or root in BUILT_IN or is_address(root) or ":" in root):
        absent = f"nothing lies at data.root `{root}`"
    else:
        return open_source(recipe.data, seed=recipe.train.seed), ""
    count = max(recipe.data.batch, recipe.config.classes, 2)
    points = np.zeros((count, 1, 1, 3), np.uint8)
    labels = np.arange(count) % max(2, recipe.config.classes)
    names = [f"class_{label}" for label in range(int(labels.max()) + 1)]
    return from_arrays(points, labels, names, val=(points, labels)), absent


def _measured(recipe: Recipe, plan: RunPlan, source: Source, absent: str, *, fixed: bool) -> PlanResult:
    import torch

    from vitrail.training.rehearsal import rehearse
    from vitrail.training.schedule import total_steps

    found = rehearse(plan, recipe.config, recipe.data.batch)
    device = torch.device(plan.device)
    per_epoch = None if absent else plan.loader.steps_per_epoch
    steps = recipe.schedule.steps if per_epoch is None else total_steps(recipe.schedule, per_epoch)
    data_s = None
    if not absent and steps is not None:
        worth_compiling(source, steps * recipe.data.batch, recipe.augment)  # as the run would
        data_s = reading_time(plan.loader, steps)
    size = found.bytes
    saved = 2 * size.weights + size.optimizer if recipe.average is not None else size.weights + size.optimizer
    shares = 0.0 if data_s is None else data_s
    pace = found.step_s + shares if device.type == "cpu" else max(found.step_s, shares)
    eta = None
    if steps is not None and per_epoch is not None:
        eta = steps * pace + _evaluations(recipe, steps, per_epoch) * len(source.held_out) * found.look_s
    bound_by = "data" if shares > found.step_s else "compute"
    module = plan.module
    return PlanResult(
        recipe=recipe,
        device=plan.device,
        steps=steps,
        steps_per_epoch=per_epoch,
        parameters=sum(p.numel() for p in module.parameters()),
        trained=sum(p.numel() for p in module.parameters() if p.requires_grad),
        step_s=found.step_s,
        data_s=data_s,
        eta_s=eta,
        bytes=size,
        free=free_memory(device),
        checkpoint_bytes=saved,
        checkpoints=_checkpoints(recipe, steps, per_epoch),
        measured=found.measured,
        bound_by=bound_by,
        advice=tuple(_advice(recipe, found, device, bound_by, fixed=fixed)),
        notes=tuple(_notes(recipe, source, absent, found)),
    )


def reading_time(loader: Loader, steps: int) -> float:
    """Seconds in which the loader's threads make one batch ready, from a few of them after the first."""
    first = min(2, steps)
    began = time.perf_counter()
    for _ in loader.iterate(0, first):
        pass
    each = (time.perf_counter() - began) / first
    count = min(steps, max(first, int(READ_S / max(each, 1e-6))), 256)
    began = time.perf_counter()
    for _ in islice(loader.iterate(first, first + count), count):
        pass
    return (time.perf_counter() - began) / count


def _evaluations(recipe: Recipe, steps: int, per_epoch: int) -> int:
    """How often the held-out pictures are evaluated, the end included."""
    when = recipe.evaluation
    return times(steps, when.every, when.unit, per_epoch, first=when.from_)


def _checkpoints(recipe: Recipe, steps: int | None, per_epoch: int | None) -> int:
    """The most generations on the disk at once: those kept, the best, and the one that is being written."""
    keep = recipe.checkpoint
    if keep.every == 0:
        return 1
    most = keep.keep + 2
    return most if steps is None or per_epoch is None else min(most, times(steps, keep.every, keep.unit, per_epoch))


def _advice(recipe: Recipe, found: Rehearsal, device: torch.device, bound_by: str, *, fixed: bool) -> list[str]:
    """What would make the run shorter, or let it run at all. fixed: nobody tried another precision."""
    free, size = free_memory(device), found.bytes
    lines = []
    if 0 < free < size.total:
        room = free * SPARE - (size.total - size.activations)
        parts = recipe.train.accumulate * -(-size.activations // int(room)) if room > 0 else recipe.data.batch
        lines.append(
            f"memory does not suffice: train.accumulate={min(parts, recipe.data.batch)}, or a smaller data.batch"
        )
    if bound_by == "data":
        return lines + advice(recipe)
    if fixed and recipe.precision in ("fp32", "tf32") and has_fast_bf16(device):
        lines.append("precision=auto would try bf16 too")
    if recipe.train.threads is not None and device.type == "cpu" and recipe.train.threads < cores():
        lines.append(f"train.threads={cores()} would use all cores")
    if device.type != "cpu" and size.total < free // 4:
        lines.append("much memory is free: a larger data.batch may use the device better (--largest-batch)")
    return lines or ["nothing waits: a smaller model or picture, fewer epochs, or a faster device"]


def _notes(recipe: Recipe, source: Source, absent: str, found: Rehearsal) -> list[str]:
    notes = [f"{absent}: epochs are not turned into steps, and reading is not timed"] if absent else [*source.notes]
    part = -(-recipe.data.batch // recipe.train.accumulate)
    if found.measured < part:
        notes.append(f"measured with up to {found.measured} pictures at once, and drawn out to {part} by a line")
    if recipe.weights is not None:
        notes.append("measured with fresh weights: those to start from change no time")
    return notes


def _largest(plan: RunPlan, recipe: Recipe, found: PlanResult) -> int:
    """The greatest batch, computed at once, that memory bears; at most the pictures there are."""
    import torch

    limit = LARGEST
    if found.steps_per_epoch is not None:
        limit = min(limit, found.steps_per_epoch * recipe.data.batch)
    if torch.device(plan.device).type == "cpu":
        per_picture = found.bytes.activations / max(1, -(-recipe.data.batch // recipe.train.accumulate))
        room = found.free * SPARE - (found.bytes.total - found.bytes.activations)
        return max(0, min(limit, int(room / max(per_picture, 1.0))))
    from vitrail.training.memory import fits_in_a_step, most_fitting
    from vitrail.training.plan import prepared
    from vitrail.training.rehearsal import generated

    state, how = prepared(plan)
    alone = replace(how, accumulate=1)
    return most_fitting(limit, lambda size: fits_in_a_step(state, generated(recipe.config, size, 0), alone))
