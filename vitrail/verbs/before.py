"""What is done before a run's first step: its pictures looked through, what is left to the machine settled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.data.sources import Source
from vitrail.disk import free_space
from vitrail.errors import SystemFault, UsageError
from vitrail.ranks import Ranks, World
from vitrail.ranks.alone import ALONE
from vitrail.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from torch import nn

Listener = Callable[[Mapping[str, object]], None]
SCANNED_WHOLE = 10_000  # pictures: more are not decoded once before training


def silent(_: Mapping[str, object]) -> None:
    """The listener of whoever does not listen."""


def look_through(source: Source, recipe: Recipe, listener: Listener) -> None:
    """Every picture decoded once, so that bad ones are known before the first step."""
    from vitrail.data.loader import bad_allowed
    from vitrail.data.reading import unreadable
    from vitrail.data.scan import find_bad

    if source.memory is not None:
        return
    if len(source.labels) > SCANNED_WHOLE:
        listener({"event": "note", "text": f"more than {SCANNED_WHOLE:,} pictures: not looked through beforehand"})
        return
    bad = find_bad(source, workers=recipe.data.workers)
    counted = bad
    if recipe.data.on_bad != "error":  # those held out count as wrong in evaluation, not against the limit
        trained = set(source.training.tolist())
        counted = [one for one in bad if one.index in trained]
    if len(counted) > bad_allowed(source, recipe.data):
        raise unreadable(counted, len(source.labels), source.place)
    for one in bad:
        listener({"event": "note", "text": f"cannot be read: {one}"})


def refuse_early(recipe: Recipe) -> None:
    """What the recipe asks of a network and this machine cannot have is told before anything is read or written."""
    from vitrail.models import build
    from vitrail.training.adapter import put_on
    from vitrail.training.compiling import try_out
    from vitrail.training.groups import freeze
    from vitrail.training.layers_in_fp32 import keep_in_fp32
    from vitrail.training.watch import chosen

    module = build(recipe.config, device="meta")
    if recipe.adapter is not None:
        put_on(module, recipe.config, recipe.adapter, seed=recipe.train.seed)
    freeze(module, recipe.train.freeze)  # patterns that match nothing
    keep_in_fp32(module, recipe.train.fp32)
    if recipe.watch.dump is not None:
        chosen(module, recipe.watch.dump)
    if recipe.train.compile:
        try_out(settled_device(recipe))


def probed(recipe: Recipe, ranks: Ranks) -> Recipe:
    """`auto` and None settled by looking at the machine, which the ranks on it share: device, precision, attention,
    threads.
    """
    import torch

    from vitrail.machine import cores

    threads = recipe.train.threads or max(1, cores() // ranks.world.locals)
    torch.set_num_threads(threads)
    origins = dict(recipe.origins)
    device = settled_device(recipe, ranks.world)
    if recipe.train.device == "auto":
        origins["train.device"] = "machine"
    if recipe.train.threads is None:
        origins["train.threads"] = "machine"
    word = device.type if recipe.train.device == "auto" else recipe.train.device
    train = replace(recipe.train, threads=threads, device=word)
    recipe = replace(recipe, train=train, origins=origins)
    if recipe.precision != "auto" and train.attention != "auto":
        return recipe
    from vitrail.training.probe import fastest_way

    batch = max(1, recipe.data.batch // ranks.size)
    precision, attention = fastest_way(recipe.config, recipe.precision, train.attention, batch, device=device)
    for key in ("precision", "train.attention"):
        if key not in origins or origins[key] == "default":
            origins[key] = "probe"
    return replace(recipe, precision=precision, train=replace(train, attention=attention), origins=origins)


def settled_device(recipe: Recipe, world: World = ALONE) -> torch.device:
    """The device that a recipe trains on here, float32 as its precision wants it; UsageError V007 where it is absent,
    or is one and the ranks of this machine are several, RecipeError V104 where the precision is none of its.
    """
    from vitrail.machine import device, set_float32_products

    kind, colon, _ = recipe.train.device.partition(":")
    if colon and world.locals > 1:
        raise UsageError(
            "V007",
            f"train.device is `{recipe.train.device}`, and {world.locals} ranks on this machine want one each",
            hint=f"give `{kind}`: each rank takes its own; CUDA_VISIBLE_DEVICES says which there are",
        )
    found = device(recipe.train.device, world.local)
    set_float32_products(recipe.precision, str(found))
    return found


def refuse_full_disk(folder: Path, module: nn.Module) -> None:
    """SystemFault V701 where the run's folder has no room for the checkpoints of a network."""
    size = sum(value.numel() * value.element_size() for value in module.state_dict().values())
    wanted, free = 4 * 3 * size, free_space(folder)  # weights, average, two moments; new, old and best
    if free < wanted:
        raise SystemFault(
            "V701",
            f"`{folder}` has {free / 1e6:.0f} MB free, a run needs about {wanted / 1e6:.0f} MB",
            hint="free some space and add --resume, or give a folder on another disk with --out",
        )
