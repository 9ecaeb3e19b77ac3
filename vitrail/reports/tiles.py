"""One picture as a report shows it: small ones enlarged by whole pixels, large ones reduced."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Tile(NamedTuple):
    """A picture uint8 (H, W, 1 or 3) with a caption of short lines, and whether it went well (None: unsaid)."""

    image: NDArray[np.uint8]
    caption: str
    good: bool | None


def fit(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The picture as uint8 (h, w, 3) with h and w at most `side`, in its own proportions.

    A small one is enlarged by the largest whole factor, each pixel a square; a large one is reduced by area.

    >>> fit(np.zeros((8, 6, 1), np.uint8), 100).shape
    (96, 72, 3)
    """
    assert image.dtype == np.uint8, image.dtype
    assert image.ndim == 3, image.shape
    assert image.shape[2] in (1, 3), image.shape
    height, width = image.shape[:2]
    rgb = np.broadcast_to(image, (height, width, 3))
    factor = side // max(height, width)
    if factor >= 1:
        return np.ascontiguousarray(rgb.repeat(factor, axis=0).repeat(factor, axis=1))
    shrink = side / max(height, width)
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).resize(size, Image.Resampling.BOX))


def png(image: NDArray[np.uint8]) -> bytes:
    """The picture uint8 (H, W, 3) as PNG bytes, a function of the pixels alone."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def beside(images: Sequence[NDArray[np.uint8]], side: int = 128) -> NDArray[np.uint8]:
    """Pictures side by side as one, each fitted into a square of `side` pixels; one alone stays as it is.

    >>> beside([np.zeros((8, 8, 1), np.uint8), np.zeros((4, 8, 3), np.uint8)], 16).shape
    (16, 36, 3)
    """
    if len(images) == 1:
        return images[0]
    gap = max(4, side // 24)
    row = np.full((side, len(images) * (side + gap) - gap, 3), 255, np.uint8)
    for place, image in enumerate(images):
        small = fit(image, side)
        top, left = (side - small.shape[0]) // 2, place * (side + gap) + (side - small.shape[1]) // 2
        row[top : top + small.shape[0], left : left + small.shape[1]] = small
    return row
