"""What is done before a run's first step: its pictures looked through, what is left to the machine settled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from vitrail.data.sources import Source
from vitrail.ranks import Ranks
from vitrail.recipe import Recipe

Listener = Callable[[Mapping[str, object]], None]
SCANNED_WHOLE = 10_000  # pictures: more are not decoded once before training


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
        listener({"event": "note", "text": f"cannot be read: {one.name}: {one.error.what} ({one.error.code})"})


def probed(recipe: Recipe, ranks: Ranks) -> Recipe:
    """`auto` and None settled by looking at the machine, which the ranks on it share: precision, attention, threads."""
    import torch

    from vitrail.machine import cores

    threads = recipe.train.threads or max(1, cores() // ranks.world.locals)
    torch.set_num_threads(threads)
    origins = dict(recipe.origins)
    if recipe.train.threads is None:
        origins["train.threads"] = "machine"
    train = replace(recipe.train, threads=threads)
    recipe = replace(recipe, train=train, origins=origins)
    if recipe.precision != "auto" and train.attention != "auto":
        return recipe
    from vitrail.training.probe import fastest_way

    batch = max(1, recipe.data.batch // ranks.size)
    precision, attention = fastest_way(recipe.config, recipe.precision, train.attention, batch)
    for key in ("precision", "train.attention"):
        if key not in origins or origins[key] == "default":
            origins[key] = "probe"
    return replace(recipe, precision=precision, train=replace(train, attention=attention), origins=origins)
