"""Where a random-resized crop lies (Szegedy et al. 2014, arXiv 1409.4842, as torchvision and timm draw it)."""

from __future__ import annotations

import math

import numpy as np

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
    rows, columns = size
    draws = uniforms(seed, "crop", epoch, np.array([index]), 4 * TRIES)[0].reshape(TRIES, 4)
    low, high = math.log(crop.ratio[0]), math.log(crop.ratio[1])
    for area_draw, aspect_draw, top_draw, left_draw in draws.tolist():
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
