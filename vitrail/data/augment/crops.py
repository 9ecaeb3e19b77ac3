"""Where a random-resized crop lies (Szegedy et al. 2014, arXiv 1409.4842, as torchvision and timm draw it)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vitrail.data.augment.draws import Draws
from vitrail.data.configs import RandomResizedCrop
from vitrail.pictures.policy import Interpolation

TRIES = 10
Box = tuple[int, int, int, int]  # top, left, height, width
Drawn = list[list[float]]  # for each try four numbers of [0, 1)


def random_box(size: tuple[int, int], crop: RandomResizedCrop, *, seed: int, epoch: int, index: int) -> Box:
    """The box of one picture of `size` (height, width), as in `random_boxes`."""
    top, left, height, width = random_boxes(size, crop, Draws(seed, epoch, np.array([index])))[0].tolist()
    return top, left, height, width


def random_boxes(size: tuple[int, int], crop: RandomResizedCrop, draws: Draws) -> NDArray[np.int64]:
    """Boxes (B, 4), each (top, left, height, width), inside pictures of `size` (height, width)."""
    return np.array([box_of(size, crop, drawn) for drawn in box_draws(draws)], np.int64).reshape(-1, 4)


def box_draws(draws: Draws) -> list[Drawn]:
    """What the boxes of these pictures are made of, before their sizes are known."""
    drawn: list[Drawn] = draws.uniforms("crop", 4 * TRIES).reshape(-1, TRIES, 4).tolist()
    return drawn


def box_of(size: tuple[int, int], crop: RandomResizedCrop, drawn: Drawn) -> Box:
    """The box in a picture of `size` (height, width), by its own draws.

    Area uniform in `scale` of the picture, aspect log-uniform in `ratio`; after ten tries that do not fit, the
    largest centred box within `ratio`.
    """
    rows, columns = size
    low, high = math.log(crop.ratio[0]), math.log(crop.ratio[1])
    for area_draw, aspect_draw, top_draw, left_draw in drawn:
        area = rows * columns * (crop.scale[0] + (crop.scale[1] - crop.scale[0]) * area_draw)
        aspect = math.exp(low + (high - low) * aspect_draw)
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= columns and 0 < height <= rows:
            return int(top_draw * (rows - height + 1)), int(left_draw * (columns - width + 1)), height, width
    return _largest(rows, columns, crop)


def _largest(rows: int, columns: int, crop: RandomResizedCrop) -> Box:
    height, width = rows, columns
    if columns / rows < crop.ratio[0]:
        height = min(rows, max(1, round(columns / crop.ratio[0])))
    elif columns / rows > crop.ratio[1]:
        width = min(columns, max(1, round(rows * crop.ratio[1])))
    return (rows - height) // 2, (columns - width) // 2, height, width


def interpolations(crop: RandomResizedCrop, draws: Draws) -> list[Interpolation]:
    """How each picture's crop is resized."""
    if crop.interpolation != "random":
        return [crop.interpolation] * len(draws.indices)
    return ["bilinear" if draw < 0.5 else "bicubic" for draw in draws.uniforms("interpolation", 1)[:, 0]]
