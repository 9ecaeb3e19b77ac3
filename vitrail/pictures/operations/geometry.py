"""Turning, shearing and shifting, what comes into sight filled with a colour.

Where the loops of `pictures/loops.py` are compiled, they do it, to Pillow's bytes. Else a shear or a shift, which moves
rows along themselves, is interpolated in one direction, in NumPy: the terms are Pillow's, in double and in its order,
and several times faster than its general loop; a turn is Pillow's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.pictures import kernels, loops
from vitrail.pictures.operations.planes import Planes, by_pillow
from vitrail.pictures.operations.tones import Numbers

Sampling = Literal["nearest", "bilinear", "bicubic"]
_SAMPLINGS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
Values = NDArray[np.float64]
_AT_ONCE = 1 << 15  # values worked on together, so that doubles stay in the cache


def rotate(planes: Planes, degrees: Numbers, sampling: Sampling, fill: Sequence[int]) -> Planes:
    """Turned about the centre, counter-clockwise, at the same size. fill: one value per channel."""
    if (compiled := _loops(planes, sampling)) is not None:
        matrices = np.array([_turning(angle, *planes.shape[2:]) for angle in degrees.tolist()])
        return _by_loops(compiled, planes, matrices, sampling, fill)
    colour, way, angles = _colour(planes, fill), _SAMPLINGS[sampling], degrees.tolist()
    return by_pillow(planes, lambda image, row: image.rotate(angles[row], way, fillcolor=colour))


def shear_x(planes: Planes, factors: Numbers, sampling: Sampling, fill: Sequence[int]) -> Planes:
    """Row y taken from `factor` * (y + 0.5) pixels to the right of itself."""
    return _moved(planes, factors, np.zeros_like(factors), sampling, fill)


def shear_y(planes: Planes, factors: Numbers, sampling: Sampling, fill: Sequence[int]) -> Planes:
    """Column x taken from `factor` * (x + 0.5) pixels below itself."""
    return _moved(planes, factors, np.zeros_like(factors), sampling, fill, down=True)


def translate_x(planes: Planes, pixels: Numbers, sampling: Sampling, fill: Sequence[int]) -> Planes:
    """Each pixel taken from `pixels` to the right of itself."""
    return _moved(planes, np.zeros_like(pixels), pixels, sampling, fill)


def translate_y(planes: Planes, pixels: Numbers, sampling: Sampling, fill: Sequence[int]) -> Planes:
    """Each pixel taken from `pixels` below itself."""
    return _moved(planes, np.zeros_like(pixels), pixels, sampling, fill, down=True)


def _loops(planes: Planes, sampling: Sampling) -> kernels.Augmenting | None:
    """The compiled loops, where they know such pictures and this sampling."""
    return kernels.augmenting() if planes.shape[1] == 3 and sampling in loops.TAPS else None


def _by_loops(
    compiled: kernels.Augmenting, planes: Planes, matrices: Values, sampling: Sampling, fill: Sequence[int]
) -> Planes:
    count, channels, height, width = planes.shape
    packed = np.empty((count, height + 2 * loops.EDGE, width + 2 * loops.EDGE), np.uint32)
    compiled.pack(np.ascontiguousarray(planes), packed)
    out = np.empty((count, channels, height, width), np.uint8)
    compiled.move[sampling](packed, matrices.astype(np.float64), np.array(fill, np.uint8), out)
    return out


def _turning(degrees: float, height: int, width: int) -> tuple[float, ...]:
    """The matrix of `Image.rotate`: to where a pixel is taken from, about the centre."""
    angle = -math.radians(degrees % 360.0)
    a, b = round(math.cos(angle), 15), round(math.sin(angle), 15)
    d, e = round(-math.sin(angle), 15), round(math.cos(angle), 15)
    x, y = width / 2, height / 2
    return a, b, a * -x + b * -y + 0.0 + x, d, e, d * -x + e * -y + 0.0 + y


def _across(planes: Planes) -> Planes:
    return np.ascontiguousarray(planes.swapaxes(2, 3))


def _moved(
    planes: Planes, slopes: Numbers, shifts: Numbers, sampling: Sampling, fill: Sequence[int], *, down: bool = False
) -> Planes:
    """Pixel (y, x) taken from its own row at x + 0.5 + slope * (y + 0.5) + shift, where the row has 0 to W.

    down: the same of columns.
    """
    if (compiled := _loops(planes, sampling)) is not None:
        one, none = np.ones_like(slopes), np.zeros_like(slopes)
        moves = (one, none, none, slopes, one, shifts) if down else (one, slopes, shifts, none, one, none)
        return _by_loops(compiled, planes, np.stack(moves, axis=1), sampling, fill)
    if down:
        return _across(_moved(_across(planes), slopes, shifts, sampling, fill))
    count, channels, height, width = planes.shape
    if sampling == "nearest":  # in 16.16 fixed point: nothing is gained by saying that again
        return _moved_nearest(planes, slopes.tolist(), shifts.tolist(), fill)
    leaning = slopes[:, None] * (np.arange(height) + 0.5)
    places = (np.arange(width) + 0.5 + leaning[:, :, None] + shifts[:, None, None]).reshape(-1, width)
    rows = planes.transpose(1, 0, 2, 3).reshape(channels, -1, width)  # (C, B * H, W)
    moved = _sampled(rows, places, sampling)
    unseen = (places < 0.0) | (places >= width)
    for plane, value in zip(moved, fill, strict=False):
        np.copyto(plane, np.uint8(value), where=unseen)
    return np.ascontiguousarray(moved.reshape(channels, count, height, width).transpose(1, 0, 2, 3))


def _moved_nearest(planes: Planes, slopes: list[float], shifts: list[float], fill: Sequence[int]) -> Planes:
    way, colour = Image.Resampling.NEAREST, _colour(planes, fill)

    def move(image: Image.Image, row: int) -> Image.Image:
        matrix = (1.0, slopes[row], shifts[row], 0.0, 1.0, 0.0)
        return image.transform(image.size, Image.Transform.AFFINE, matrix, way, fillcolor=colour)

    return by_pillow(planes, move)


def _colour(planes: Planes, fill: Sequence[int]) -> int | tuple[int, ...]:
    return fill[0] if planes.shape[1] == 1 else tuple(fill)


def _sampled(rows: NDArray[np.uint8], places: NDArray[np.float64], sampling: Sampling) -> NDArray[np.uint8]:
    """Rows (C, R, W) at places (R, W), a pixel's centre being at its index + 0.5; beyond its ends a row goes on."""
    taps, start, formula = _FORMULAS[sampling]
    parts = places - 0.5
    left = np.floor(parts)
    parts -= left
    width = rows.shape[2]
    if not (left == left[:, :1] + np.arange(width)).all():  # a fraction beside a whole number was rounded over
        columns = left.astype(np.int64) + start
        apart = [np.clip(columns + tap, 0, width - 1)[None] for tap in range(taps)]
        found = [np.take_along_axis(rows, places, axis=2).astype(np.float64) for places in apart]
        return formula(parts, *found).astype(np.uint8)
    around = _windows(rows, left[:, 0].astype(np.int64) + start, width + taps - 1)
    length = around.shape[2]
    spread = np.zeros((len(places), length))
    spread[:, :width] = parts
    moved = np.empty_like(rows)
    step = max(1, _AT_ONCE // (len(rows) * length))
    for begin in range(0, len(places), step):
        chunk = slice(begin, begin + step)
        # windows as one long row: each tap is the same row further on, and what runs into the next one is cut off
        long = around[:, chunk].astype(np.float64).reshape(len(rows), -1)
        many = long.shape[1] - taps + 1
        long[:, :many] = formula(spread[chunk].reshape(-1)[:many], *(long[:, t : t + many] for t in range(taps)))
        moved[:, chunk] = long.reshape(len(rows), -1, length)[:, :, :width]
    return moved


def _windows(rows: NDArray[np.uint8], begins: NDArray[np.int64], length: int) -> NDArray[np.uint8]:
    """Of each row (C, R, W) `length` pixels from its own column on: (C, R, length); a row goes on beyond its ends."""
    width = rows.shape[2]
    padded = np.empty((*rows.shape[:2], 2 * length + width), np.uint8)
    padded[:, :, :length] = rows[:, :, :1]
    padded[:, :, length : length + width] = rows
    padded[:, :, length + width :] = rows[:, :, -1:]
    begins = np.clip(begins, -length, width) + length  # further out nothing of the row is seen
    views = np.lib.stride_tricks.sliding_window_view(padded, length, axis=2)
    return views[:, np.arange(rows.shape[1]), begins]


def _bilinear(part: Values, one: Values, other: Values) -> Values:
    values = other - one
    values *= part
    values += one
    return values


def _bicubic(part: Values, v1: Values, v2: Values, v3: Values, v4: Values) -> Values:
    difference = v1 - v2  # differences of bytes are exact, in whatever order
    values = v4 - v3
    values -= difference
    values *= part
    difference += difference
    difference += v3
    difference -= v4
    values += difference
    values *= part
    values += np.subtract(v3, v1, out=difference)
    values *= part
    values += v2
    return np.clip(values, 0.0, 255.0, out=values)


# neighbours, the first of them beside the pixel at the left, and what is made of them by the part between
_FORMULAS: dict[str, tuple[int, int, Callable[..., NDArray[np.float64]]]] = {
    "bilinear": (2, 0, _bilinear),
    "bicubic": (4, -1, _bicubic),
}
