"""How a run reads its pictures, how long it waited for them, and what would shorten that."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from vitrail.data.configs import RandomResizedCrop
from vitrail.data.sources import Source
from vitrail.machine import cores
from vitrail.recipe import Recipe

EXTRA = ("simplejpeg", "numba")  # the packages of vitrail[fast]
MUCH = 0.10  # of the time of all steps


def reading(recipe: Recipe, source: Source) -> str | None:
    """How a run's crops are read, and by what; None where no crop is read from a file."""
    if source.memory is not None or not isinstance(recipe.augment.crop, RandomResizedCrop):
        return None
    there = [package for package in EXTRA if importlib.util.find_spec(package)]
    absent = "" if len(there) == len(EXTRA) else '; pip install "vitrail[fast]" reads them sooner, to the same pixels'
    return f"crops of JPEGs: decode {recipe.data.decode}, by {' and '.join([*there, 'Pillow'])}{absent}"


def waiting(folder: Path, recipe: Recipe) -> str:
    """The share of a run's steps that went into waiting for data; above 10 % with advice."""
    from vitrail.training.journal import JOURNAL, read, waited

    share = waited(read(folder / JOURNAL))
    said = f"{100 * share:.1f} % of the time of the steps went into waiting for data"
    return said if share <= MUCH else f"{said}; {'; '.join(advice(recipe))}"


def advice(recipe: Recipe) -> list[str]:
    """What would make this recipe's pictures come sooner on this machine, the cheapest first."""
    found = []
    if recipe.data.workers < cores():
        found.append(f"data.workers={cores()} would use all cores")
    if recipe.data.decode == "exact" and isinstance(recipe.augment.crop, RandomResizedCrop):
        found.append("data.decode=fast reads less of each JPEG")
    if not all(importlib.util.find_spec(package) for package in EXTRA):
        found.append('pip install "vitrail[fast]" decodes and resizes faster, to the same pixels')
    if recipe.data.source not in ("cifar", "digits"):
        found.append("`vitrail data pack` makes pictures that are quick to read")
    return found or ["the cores are too few for this recipe's augmentation"]
