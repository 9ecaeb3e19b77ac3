"""A sheet of augmented pictures: what a recipe makes of the first pictures it trains on, drawn as in a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrail.data.augment.draws import Draws
from vitrail.data.augment.erase import erase
from vitrail.data.augment.pictures import augmented
from vitrail.data.sources import Source, open_source
from vitrail.disk import make_folder, write_file
from vitrail.pictures.decode import from_array
from vitrail.pictures.policy import Policy
from vitrail.recipe import Recipe, load_recipe

ROWS, COLUMNS = 8, 8
SIDE, GAP = 128, 4  # pixels of one picture on the sheet, and between two
NAME = "augmented.png"


def write_sheet(subject: str, folder: Path, *, data: str | None = None) -> Path:
    """`augmented.png` in the folder: a row for each of eight training pictures, class by class in turn; first the
    picture as evaluation sees it, then as training sees it in the first seven epochs. Mixing is not shown.

    subject: a recipe. data: its pictures, where the recipe names none.
    """
    from vitrail.reports.tiles import png

    recipe = load_recipe(subject)
    if data is not None:
        recipe = replace(recipe, data=replace(recipe.data, source="auto", root=data))
    source = open_source(recipe.data, seed=recipe.train.seed)
    rows = [_row(recipe, source, index) for index in in_turn(source)[:ROWS]]
    make_folder(folder)
    write_file(folder / NAME, png(_joined(rows)))
    return folder / NAME


def in_turn(source: Source) -> list[int]:
    """The pictures to train on, the first of each class, then the second of each."""
    labels = source.labels[source.training]
    turn = np.zeros(len(labels), np.int64)
    for label in range(len(source.classes)):
        mine = np.flatnonzero(labels == label)
        turn[mine] = np.arange(len(mine))
    ordered: list[int] = source.training[np.lexsort((labels, turn))].tolist()
    return ordered


def _row(recipe: Recipe, source: Source, index: int) -> list[NDArray[np.uint8]]:
    policy, stored = recipe.policy, source.read(index)
    picture = from_array(stored, channels=policy.channels)
    drawn = [policy.pixels(picture)]
    for epoch in range(COLUMNS - 1):
        draws = Draws(recipe.train.seed, epoch, np.array([index]))
        pixels = augmented(picture, recipe.augment, policy, draws)
        if recipe.augment.erase is not None:
            images = erase(policy.normalise(pixels[None]), recipe.augment.erase, draws)
            pixels = _pixels(images, policy)[0]
        drawn.append(pixels)
    return drawn


def _pixels(images: NDArray[np.float32], policy: Policy) -> NDArray[np.uint8]:
    """Normalised images (B, C, H, W) as they look, pixels (B, H, W, C)."""
    mean, std = (np.array(values)[:, None, None] for values in (policy.mean, policy.std))
    planes: NDArray[np.uint8] = np.clip(np.rint((images * std + mean) * 255), 0, 255).astype(np.uint8)
    return planes.transpose(0, 2, 3, 1)


def _joined(rows: list[list[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    from vitrail.reports.tiles import fit

    step = SIDE + GAP
    sheet = np.full((len(rows) * step + GAP, COLUMNS * step + GAP, 3), 255, np.uint8)
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            tile = fit(np.ascontiguousarray(picture), SIDE)
            top, left = (
                GAP + row * step + (SIDE - tile.shape[0]) // 2,
                GAP + column * step + (SIDE - tile.shape[1]) // 2,
            )
            sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet
