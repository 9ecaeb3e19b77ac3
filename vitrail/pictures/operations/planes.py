"""Pictures with their channels apart, as operations take them: NumPy is fast along rows, not across three bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Planes = NDArray[np.uint8]  # (B, C, H, W)


def as_planes(pixels: NDArray[np.uint8]) -> Planes:
    """Planes (B, C, H, W) of pixels (B, H, W, C); no copy where they lie so already."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def as_pixels(planes: Planes) -> NDArray[np.uint8]:
    """Pixels (B, H, W, C) of planes, a view of the same memory."""
    return planes.transpose(0, 2, 3, 1)


def column(values: NDArray[np.generic] | Sequence[float]) -> NDArray[np.float64]:
    """One number per picture, (B,), as it meets planes: (B, 1, 1, 1)."""
    return np.asarray(values, np.float64)[:, None, None, None]


def by_pillow(planes: Planes, work: Callable[[Image.Image, int], Image.Image]) -> Planes:
    """Planes (B, C, H, W) of what `work` makes of each picture as a Pillow image, of mode L or RGB, and its number."""
    mode = "L" if planes.shape[1] == 1 else "RGB"
    pixels = np.ascontiguousarray(as_pixels(planes))
    size = pixels.shape[2], pixels.shape[1]
    made = [work(Image.frombytes(mode, size, picture), row).tobytes() for row, picture in enumerate(pixels)]
    return as_planes(np.frombuffer(b"".join(made), np.uint8).reshape(pixels.shape))
