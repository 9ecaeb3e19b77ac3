"""Resizing, the same to the byte on every version of Pillow: horizontal pass first, 8-bit after each pass.

Pillow 13 resizes tall pictures vertically first where older versions never did, so one call would make the version of
a library part of a model's meaning. Two calls with one axis each leave it no choice
(https://github.com/python-pillow/Pillow/pull/9549).

Each pass: 22 fraction bits, weights normalised in double and rounded half away from zero, sums clipped to 0..255.
Loops compiled by numba (`kernels.py`), where a loader asked for them, give the same bytes sooner.
`nearest` takes source floor(p), with p = scale / 2 and then p += scale per pixel, in double.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.pictures import kernels
from vitrail.pictures.policy import Interpolation

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


_SUPPORTS = {"bilinear": 1.0, "bicubic": 2.0}  # those that are compiled, and how far their filters reach

Window = tuple[int, int, int, int]  # top, left, height, width


def resize(
    pixels: NDArray[np.uint8],
    size: tuple[int, int],
    interpolation: Interpolation,
    *,
    window: Window | None = None,
) -> NDArray[np.uint8]:
    """Pixels (H, W, C) resized to size (height, width). When shrinking, the filters grow: antialiased.

    window: the part of the resized picture that is wanted; the same pixels, sooner.

    >>> resize(np.array([[[0], [100]]], np.uint8), (1, 4), "bilinear")[0, :, 0].tolist()
    [0, 25, 75, 100]
    """
    height, width = size
    top, left, tall, wide = window or (0, 0, height, width)
    if pixels.shape[:2] == size:
        return pixels[top : top + tall, left : left + wide]
    compiled = kernels.loaded()
    if compiled is not None and interpolation in _SUPPORTS and pixels.shape[2] == 3:
        support = _SUPPORTS[interpolation]
        across = compiled.weigh(pixels.shape[1], width, left, left + wide, support)
        down = compiled.weigh(pixels.shape[0], height, top, top + tall, support)
        out = np.empty((tall, wide, 3), np.uint8)
        compiled.resample(pixels, *across, *down, out)
        return out
    if pixels.shape[2] not in (1, 3):  # Pillow knows no such pictures, or weighs one channel as alpha
        planes = (pixels[:, :, channel : channel + 1] for channel in range(pixels.shape[2]))
        return np.concatenate([resize(plane, size, interpolation, window=window) for plane in planes], axis=2)
    grey = pixels.shape[2] == 1
    image = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if grey else pixels))
    if width != image.width:
        image = image.resize((width, image.height), _FILTERS[interpolation])
    image = image.crop((left, 0, left + wide, image.height))  # columns that nobody asked for need no second pass
    if height != image.height:
        image = image.resize((wide, height), _FILTERS[interpolation])
    resized = np.array(image)[top : top + tall]
    return resized[:, :, None] if grey else resized
