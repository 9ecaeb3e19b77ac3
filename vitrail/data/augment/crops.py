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


def shapes(crop: RandomResizedCrop, draws: Draws) -> NDArray[np.float64]:
    """What each picture's box is drawn as before its size is known, (B, TRIES, 4): its part of the area, its aspect,
    and where it lies in what is left over, from the top and from the left."""
    drawn = draws.uniforms("crop", 4 * TRIES).reshape(-1, TRIES, 4)
    low, high = np.log(crop.ratio[0]), np.log(crop.ratio[1])
    drawn[..., 0] = crop.scale[0] + (crop.scale[1] - crop.scale[0]) * drawn[..., 0]
    drawn[..., 1] = np.exp(low + (high - low) * drawn[..., 1])
    return drawn


def random_boxes(size: tuple[int, int], crop: RandomResizedCrop, draws: Draws) -> NDArray[np.int64]:
    """Boxes (B, 4), each (top, left, height, width), inside pictures of `size` (height, width).

    Area uniform in `scale` of the picture, aspect log-uniform in `ratio`; after ten tries that do not fit, the
    largest centred box within `ratio`.
    """
    rows, columns = size
    drawn = shapes(crop, draws)
    area, aspect = rows * columns * drawn[..., 0], drawn[..., 1]
    widths, heights = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (widths > 0) & (widths <= columns) & (heights > 0) & (heights <= rows)
    first = fits.argmax(axis=1)
    each = np.arange(len(first))
    height, width = heights[each, first], widths[each, first]
    top = drawn[each, first, 2] * (rows - height + 1)
    left = drawn[each, first, 3] * (columns - width + 1)
    boxes = np.stack([top, left, height, width], axis=1).astype(np.int64)
    boxes[~fits.any(axis=1)] = _largest(rows, columns, crop)
    return boxes


def box_in(size: tuple[int, int], crop: RandomResizedCrop, shape: NDArray[np.float64]) -> Box:
    """The box of one picture of `size`, as in `random_boxes`, out of its row of `shapes` (TRIES, 4)."""
    rows, columns = size
    for part, aspect, top, left in shape.tolist():
        area = rows * columns * part
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= columns and 0 < height <= rows:
            return int(top * (rows - height + 1)), int(left * (columns - width + 1)), height, width
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
