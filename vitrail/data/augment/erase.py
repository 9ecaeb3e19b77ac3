"""Random erasing (Zhong et al. 2017, arXiv 1708.04896) of normalised pictures, by timm's rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitrail.data.augment.draws import Draws
from vitrail.data.configs import Erase

TRIES = 10


class Erased(NamedTuple):
    """One box of one picture of a batch."""

    row: int
    top: int
    left: int
    height: int
    width: int


def erase(images: NDArray[np.float32], config: Erase, draws: Draws) -> NDArray[np.float32]:
    """Normalised images (B, C, H, W), changed in place: in some of them boxes are filled. The same array comes back."""
    boxes = erased_boxes(images.shape[2:], config, draws)
    if config.mode == "const":
        for row, top, left, height, width in boxes:
            images[row, :, top : top + height, left : left + width] = 0.0
    elif boxes:
        _fill(images, boxes, draws, each_pixel=config.mode == "pixel")
    return images


def erased_boxes(size: Sequence[int], config: Erase, draws: Draws) -> list[Erased]:
    """Where pictures of `size` (height, width) are erased.

    Area uniform in `area` of the picture, over the number of boxes; aspect log-uniform; at most ten tries a box.
    """
    chosen = np.flatnonzero(draws.uniforms("erase", 1)[:, 0] < config.probability)
    if not len(chosen):
        return []
    drawn = draws.of(chosen).uniforms("erase", 2 + 4 * TRIES * config.count)
    counts = 1 + (drawn[:, 1] * config.count).astype(np.int64)
    tries = drawn[:, 2:].reshape(len(chosen), config.count, TRIES, 4)
    low, high = np.log(config.aspect[0]), np.log(config.aspect[1])
    area = config.area[0] + (config.area[1] - config.area[0]) * tries[..., 0]
    area = area * (size[0] * size[1]) / counts[:, None, None]
    aspect = np.exp(low + (high - low) * tries[..., 1])
    heights, widths = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (heights < size[0]) & (widths < size[1])
    tops = (tries[..., 2] * (size[0] - heights + 1)).astype(np.int64)
    lefts = (tries[..., 3] * (size[1] - widths + 1)).astype(np.int64)
    first = fits.argmax(axis=2)
    wanted = fits.any(axis=2) & (np.arange(config.count) < counts[:, None])
    found = []
    for picture, box in np.argwhere(wanted).tolist():
        where = picture, box, first[picture, box]
        sides = int(heights[where]), int(widths[where])
        found.append(Erased(int(chosen[picture]), int(tops[where]), int(lefts[where]), *sides))
    return found


def _fill(images: NDArray[np.float32], boxes: list[Erased], draws: Draws, *, each_pixel: bool) -> None:
    """Normal numbers in the boxes, a picture's boxes after one another out of its own stream."""
    channels = images.shape[1]
    sizes = [channels * (box.height * box.width if each_pixel else 1) for box in boxes]
    ends: dict[int, int] = {}
    starts = []
    for box, size in zip(boxes, sizes, strict=True):
        starts.append(ends.get(box.row, 0))
        ends[box.row] = starts[-1] + size
    rows = {row: place for place, row in enumerate(ends)}
    noise = draws.of(np.array(list(ends))).normals("noise", max(ends.values()))
    for (row, top, left, height, width), start, size in zip(boxes, starts, sizes, strict=True):
        values = noise[rows[row], start : start + size]
        shape = (channels, height, width) if each_pixel else (channels, 1, 1)
        images[row, :, top : top + height, left : left + width] = values.reshape(shape)
