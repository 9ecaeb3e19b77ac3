"""Pictures with their channels apart, as operations take them: NumPy is fast along rows, not across three bytes."""

from __future__ import annotations

from collections.abc import Sequence

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


def to_image(planes: Planes) -> Image.Image:
    """One picture's planes (C, H, W) for Pillow, whose modes are L and RGB."""
    return Image.fromarray(planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0)))


def from_image(image: Image.Image) -> Planes:
    """Planes (C, H, W) of what Pillow made of them."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
