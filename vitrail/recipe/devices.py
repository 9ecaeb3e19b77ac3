"""What a recipe says per device, times the devices of a run: a batch, and a learning rate by `schedule.lr_rule`.

A settled recipe says both for all devices together, so it goes on, and runs again, on any number of them.
"""

from __future__ import annotations

from dataclasses import replace

from vitrail.recipe.schema import Recipe


def for_devices(recipe: Recipe, devices: int) -> Recipe:
    """The recipe for so many devices: `data.batch` and a fixed `schedule.lr`."""
    data, schedule, origins = recipe.data, recipe.schedule, dict(recipe.origins)
    times = f"x {devices} device{'s' if devices > 1 else ''}"
    if data.batch_per_device is not None:
        origins["data.batch"] = f"{data.batch_per_device} {times}"
        data = replace(data, batch=data.batch_per_device * devices, batch_per_device=None)
    if schedule.lr_rule == "per_device":
        origins["schedule.lr"] = f"{schedule.lr:g} {times}"
        origins["schedule.lr_rule"] = "settled"
        schedule = replace(schedule, lr=schedule.lr * devices, lr_rule="fixed")
    return replace(recipe, data=data, schedule=schedule, origins=origins)


def devices_before(wanted: Recipe, before: Recipe, now: int) -> int:
    """On how many devices `wanted` was settled to `before`; `now`, where it cannot have been, or says nothing of them.

    Then a run goes on with the batches and rates that it was started with, however many devices there are now.
    """
    each = wanted.data.batch_per_device
    if each is not None:
        found, rest = divmod(before.data.batch, each)
    elif wanted.schedule.lr_rule == "per_device":
        found = max(1, round(before.schedule.lr / wanted.schedule.lr))
        rest = int(wanted.schedule.lr * found != before.schedule.lr)
    else:
        return now
    return found if found and not rest else now


def as_told(recipe: Recipe, steps_per_epoch: int, devices: int) -> str:
    """Batch, steps and rate of a settled recipe, as the start of a run prints them."""
    each, rest = divmod(recipe.data.batch, devices)
    part = f"{each}{f' or {each + 1}' if rest else ''} on each of {devices} devices" if devices > 1 else "on one device"
    said = recipe.origins.get("schedule.lr", "")
    rule = f"per_device: {said}" if " x " in said else "fixed"
    steps = "1 step" if steps_per_epoch == 1 else f"{steps_per_epoch} steps"
    return f"batch {recipe.data.batch}, {part}; {steps} an epoch; rate {recipe.schedule.lr:g} ({rule})"
