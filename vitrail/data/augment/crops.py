"""Where a random-resized crop lies (Szegedy et al. 2014, arXiv 1409.4842, as torchvision and timm draw it)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vitrail.data.configs import RandomResizedCrop
from vitrail.randomness import uniforms

TRIES = 10


def random_box(
    size: tuple[int, int], crop: RandomResizedCrop, *, seed: int, epoch: int, index: int
) -> tuple[int, int, int, int]:
    """(top, left, height, width) inside a picture of `size` (height, width).

    Area uniform in `scale` of the picture, aspect log-uniform in `ratio`; after ten tries that do not fit, the
    largest centred box within `ratio`.
    """
    return box_of(size, crop, box_draws(seed=seed, epoch=epoch, indices=np.array([index]))[0])


def box_draws(*, seed: int, epoch: int, indices: NDArray[np.int64]) -> list[list[list[float]]]:
    """What the boxes of some pictures are made of, before their sizes are known."""
    drawn: list[list[list[float]]] = uniforms(seed, "crop", epoch, indices, 4 * TRIES).reshape(-1, TRIES, 4).tolist()
    return drawn


def box_of(size: tuple[int, int], crop: RandomResizedCrop, drawn: list[list[float]]) -> tuple[int, int, int, int]:
    """The box of a picture of `size` out of its own draws."""
    rows, columns = size
    low, high = math.log(crop.ratio[0]), math.log(crop.ratio[1])
    for area_draw, aspect_draw, top_draw, left_draw in drawn:
        area = rows * columns * (crop.scale[0] + (crop.scale[1] - crop.scale[0]) * area_draw)
        aspect = math.exp(low + (high - low) * aspect_draw)
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= columns and 0 < height <= rows:
            return int(top_draw * (rows - height + 1)), int(left_draw * (columns - width + 1)), height, width
    height, width = rows, columns
    if columns / rows < crop.ratio[0]:
        height = min(rows, max(1, round(columns / crop.ratio[0])))
    elif columns / rows > crop.ratio[1]:
        width = min(columns, max(1, round(rows * crop.ratio[1])))
    return (rows - height) // 2, (columns - width) // 2, height, width
