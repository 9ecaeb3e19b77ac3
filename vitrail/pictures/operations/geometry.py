"""Turning, shearing and shifting, what comes into sight filled with a colour.

A shear or a shift moves rows along themselves, so it is interpolated in one direction, in NumPy: the terms are
Pillow's, in double and in its order, and several times faster than its general loop. A turn is Pillow's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.pictures.operations.planes import Planes, from_image, to_image
from vitrail.pictures.operations.tones import Numbers

Sampling = Literal["nearest", "bilinear", "bicubic"]
_SAMPLINGS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_AT_ONCE = 1 << 15  # values worked on together, so that doubles stay in the cache


def rotate(planes: Planes, degrees: Numbers, sampling: Sampling, fill: Sequence[int]) -> Planes:
    """Turned about the centre, counter-clockwise, at the same size. fill: one value per channel."""
    turned = [
        from_image(to_image(picture).rotate(float(angle), _SAMPLINGS[sampling], fillcolor=_colour(picture, fill)))
        for picture, angle in zip(planes, degrees, strict=True)
    ]
    return np.stack(turned)


def shear_x(planes: Planes, factors: Numbers, sampling: Sampling, fill: Sequence[int]) -> Planes:
    """Row y taken from `factor` * (y + 0.5) pixels to the right of itself."""
    return _moved(planes, factors, np.zeros_like(factors), sampling, fill)


def shear_y(planes: Planes, factors: Numbers, sampling: Sampling, fill: Sequence[int]) -> Planes:
    """Column x taken from `factor` * (x + 0.5) pixels below itself."""
    return _across(shear_x(_across(planes), factors, sampling, fill))


def translate_x(planes: Planes, pixels: Numbers, sampling: Sampling, fill: Sequence[int]) -> Planes:
    """Each pixel taken from `pixels` to the right of itself."""
    return _moved(planes, np.zeros_like(pixels), pixels, sampling, fill)


def translate_y(planes: Planes, pixels: Numbers, sampling: Sampling, fill: Sequence[int]) -> Planes:
    """Each pixel taken from `pixels` below itself."""
    return _across(translate_x(_across(planes), pixels, sampling, fill))


def _across(planes: Planes) -> Planes:
    return np.ascontiguousarray(planes.swapaxes(2, 3))


def _moved(planes: Planes, slopes: Numbers, shifts: Numbers, sampling: Sampling, fill: Sequence[int]) -> Planes:
    """Pixel (y, x) taken from its own row at x + 0.5 + slope * (y + 0.5) + shift, where the row has 0 to W."""
    count, channels, height, width = planes.shape
    if sampling == "nearest":  # in 16.16 fixed point: nothing is gained by saying that again
        pairs = zip(planes, slopes.tolist(), shifts.tolist(), strict=True)
        return np.stack([_moved_nearest(picture, slope, shift, fill) for picture, slope, shift in pairs])
    down = slopes[:, None] * (np.arange(height) + 0.5)
    places = (np.arange(width) + 0.5 + down[:, :, None] + shifts[:, None, None]).reshape(-1, width)
    rows = planes.transpose(0, 2, 1, 3).reshape(-1, channels, width)  # (B * H, C, W)
    moved = np.empty_like(rows)
    colour = np.array(fill[:channels], np.uint8)[:, None]
    step = max(1, _AT_ONCE // (channels * width))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        values = _sampled(rows[part], places[part], sampling)
        seen = (places[part] >= 0.0) & (places[part] < width)
        moved[part] = np.where(seen[:, None], values, colour)
    return np.ascontiguousarray(moved.reshape(count, height, channels, width).transpose(0, 2, 1, 3))


def _moved_nearest(picture: Planes, slope: float, shift: float, fill: Sequence[int]) -> Planes:
    image = to_image(picture)
    matrix = (1.0, slope, shift, 0.0, 1.0, 0.0)
    way = Image.Resampling.NEAREST
    return from_image(
        image.transform(image.size, Image.Transform.AFFINE, matrix, way, fillcolor=_colour(picture, fill))
    )


def _colour(picture: Planes, fill: Sequence[int]) -> int | tuple[int, ...]:
    return fill[0] if len(picture) == 1 else tuple(fill)


def _sampled(rows: NDArray[np.uint8], places: NDArray[np.float64], sampling: Sampling) -> NDArray[np.uint8]:
    """Rows (R, C, W) at places (R, W), a pixel's centre being at its index + 0.5; beyond its ends a row goes on."""
    left = np.floor(places - 0.5)
    part = (places - 0.5 - left)[:, None]
    first = left.astype(np.int64)
    if sampling == "bilinear":
        one, other = (tap.astype(np.int16) for tap in _taps(rows, first, 0, 2))
        return _bytes(one + (other - one) * part)
    v1, v2, v3, v4 = (tap.astype(np.int16) for tap in _taps(rows, first, -1, 4))
    difference = v1 - v2
    cubic = v4 - v3 - difference
    value = part * cubic
    value += 2 * difference + v3 - v4
    value *= part
    value += v3 - v1
    value *= part
    value += v2
    return _bytes(value)


def _bytes(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(values, 0.0, 255.0, out=values).astype(np.uint8)


def _taps(rows: NDArray[np.uint8], first: NDArray[np.int64], start: int, count: int) -> list[NDArray[np.uint8]]:
    """`count` neighbours (R, C, W) of each place, from column first + start on, columns beyond the ends clamped."""
    width = rows.shape[2]
    begins = first[:, 0]
    if not (first == begins[:, None] + np.arange(width)).all():  # a fraction next to a whole number was rounded over
        columns = np.clip(first + start + np.arange(count)[:, None, None], 0, width - 1)
        return [np.take_along_axis(rows, index[:, None], axis=2) for index in columns]
    margin = width + count
    begins = np.clip(begins + start, -margin, width)  # further out nothing of the row is seen
    padded = np.pad(rows, ((0, 0), (0, 0), (margin, margin)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, width + count - 1, axis=2)
    row = windows[np.arange(len(rows)), :, begins + margin]  # (R, C, W + count - 1)
    return [row[:, :, tap : tap + width] for tap in range(count)]
