"""Resizing, the same to the byte on every version of Pillow: horizontal pass first, 8-bit after each pass.

Pillow 13 resizes tall pictures vertically first where older versions never did, so one call would make the version of
a library part of a model's meaning. Two calls with one axis each leave it no choice
(https://github.com/python-pillow/Pillow/pull/9549).

Each pass: 22 fraction bits, weights normalised in double and rounded half away from zero, sums clipped to 0..255.
`nearest` takes source floor(p), with p = scale / 2 and then p += scale per pixel, in double.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.pictures.policy import Interpolation

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def resize(pixels: NDArray[np.uint8], size: tuple[int, int], interpolation: Interpolation) -> NDArray[np.uint8]:
    """Pixels (H, W, C) resized to size (height, width). When shrinking, the filters grow: antialiased.

    >>> resize(np.array([[[0], [100]]], np.uint8), (1, 4), "bilinear")[0, :, 0].tolist()
    [0, 25, 75, 100]
    """
    height, width = size
    if pixels.shape[:2] == size:
        return pixels
    if pixels.shape[2] not in (1, 3):  # Pillow knows no such pictures, or weighs one channel as alpha
        planes = (pixels[:, :, channel : channel + 1] for channel in range(pixels.shape[2]))
        return np.concatenate([resize(plane, size, interpolation) for plane in planes], axis=2)
    chosen = _FILTERS[interpolation]
    grey = pixels.shape[2] == 1
    image = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if grey else pixels))
    if width != image.width:
        image = image.resize((width, image.height), chosen)
    if height != image.height:
        image = image.resize((width, height), chosen)
    resized = np.array(image)
    return resized[:, :, None] if grey else resized
