"""Many small crops resized at once, to the bytes of `pictures/resize.py`.

Each pass is one product of matrices: weights of 22 fraction bits and bytes, so that double adds them without rounding,
in any order.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitrail.pictures.operations.planes import Planes, as_pixels, as_planes
from vitrail.pictures.policy import Interpolation
from vitrail.pictures.resize import resize

SMALL = 64  # sides up to here go through matrices: beyond, most of a matrix is zeros
_AT_ONCE = 16  # pictures, so that doubles stay in the cache
_ONE = 1 << 22
_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}


def resized_boxes(
    planes: Planes, boxes: NDArray[np.int64], size: tuple[int, int], interpolations: Sequence[Interpolation]
) -> Planes:
    """Of each picture (B, C, h, w) its box (top, left, height, width), resized to size (H, W).

    boxes: (B, 4); interpolations: one a picture. The crop comes first: no pixel outside a box has any weight.
    """
    result = np.empty((*planes.shape[:2], *size), np.uint8)
    if max(*planes.shape[2:], *size) <= SMALL and set(interpolations) <= set(_SUPPORT):
        for start in range(0, len(planes), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            result[part] = _by_matrices(planes[part], boxes[part], size, interpolations[part])
        return result
    for row, (top, left, height, width) in enumerate(boxes.tolist()):
        box = planes[row : row + 1, :, top : top + height, left : left + width]
        result[row] = as_planes(resize(as_pixels(box)[0], size, interpolations[row])[None])[0]
    return result


def _by_matrices(
    planes: Planes, boxes: NDArray[np.int64], size: tuple[int, int], interpolations: Sequence[Interpolation]
) -> Planes:
    count, channels, height, width = planes.shape
    across = np.zeros((count, width, size[1]))
    down = np.zeros((count, 1, size[0], height))
    for row, ((top, left, tall, wide), name) in enumerate(zip(boxes.tolist(), interpolations, strict=True)):
        across[row, left : left + wide] = weights(wide, size[1], name).T
        down[row, 0, :, top : top + tall] = weights(tall, size[0], name)
    rows = planes.reshape(count, channels * height, width).astype(np.float64) @ across
    rows += 0.5  # halves upwards, below as well
    np.floor(rows, out=rows)
    np.clip(rows, 0.0, 255.0, out=rows)
    columns = down @ rows.reshape(count, channels, height, size[1])
    columns += 0.5
    return np.clip(columns, 0.0, 255.0, out=columns).astype(np.uint8)


@functools.lru_cache(maxsize=4096)
def weights(length: int, target: int, interpolation: Interpolation) -> NDArray[np.float64]:
    """What each of `length` pixels weighs in each of `target` ones, (target, length): whole numbers by 2^22."""
    found = np.zeros((target, length))
    scale = length / target
    wide = max(scale, 1.0)
    support = _SUPPORT[interpolation] * wide
    for place in range(target):
        centre = (place + 0.5) * scale
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), length)
        raw = [_filter((source - centre + 0.5) * (1.0 / wide), interpolation) for source in range(first, last)]
        total = sum(raw)
        for source, value in enumerate(raw, first):
            part = value / total * _ONE
            found[place, source] = (int(part - 0.5) if part < 0 else int(part + 0.5)) / _ONE
    if length == target:  # nothing is resized then, and nothing rounded
        found = np.eye(length)
    found.setflags(write=False)
    return found


def _filter(place: float, interpolation: Interpolation) -> float:
    place = abs(place)
    if interpolation == "bilinear":
        return 1.0 - place if place < 1.0 else 0.0
    if place < 1.0:
        return ((-0.5 + 2.0) * place - (-0.5 + 3.0)) * place * place + 1.0
    return (((place - 5.0) * place + 8.0) * place - 4.0) * -0.5 if place < 2.0 else 0.0
