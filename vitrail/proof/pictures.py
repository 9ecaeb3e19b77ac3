"""The 64 pictures that every proof uses: made from integers alone, so the same on every machine and version.

16 extreme ones (black, white, one bright pixel, noise over the full range, 1 x 1 ...), then 8 patterns in 6 sizes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Grid = NDArray[np.int64]

SIZES = ((32, 32), (48, 64), (64, 48), (33, 57), (96, 128), (24, 80))  # (height, width)


def generated(channels: int) -> list[Pixels]:
    """64 pictures (H, W, channels) of several sizes.

    >>> pictures = generated(3)
    >>> len(pictures), pictures[0].shape, int(pictures[0].max()), int(pictures[1].min())
    (64, (32, 32, 3), 0, 255)
    """
    patterns = [
        _coloured(pattern(*_places(size), place), channels, 6 * place + number)
        for place, pattern in enumerate(PATTERNS)
        for number, size in enumerate(SIZES)
    ]
    return _extremes(channels) + patterns


def _places(size: tuple[int, int]) -> tuple[Grid, Grid]:
    y, x = np.indices(size, np.int64)
    return y, x


def _extremes(channels: int) -> list[Pixels]:
    y, x = _places((32, 32))
    planes = [
        0 * x,
        0 * x + 255,
        0 * x + 128,
        255 * ((y == 16) & (x == 16)),
        255 - 255 * ((y == 16) & (x == 16)),
        255 * (x[:1, :1] == 0),
        8 * x[:1],
        8 * y[:, :1],
        255 * ((x + y) & 1),
        255 * (x & 1),
        255 * (y & 1),
        255 * (x >= 16),
    ]
    pictures = [_pixels(np.repeat(plane[:, :, None], channels, axis=2)) for plane in planes]
    noise = np.stack([_noise(y, x, 900 + channel) for channel in range(channels)], axis=2)
    flat = np.resize(np.array([200, 0, 128], np.int64), channels) + 0 * noise
    one = np.resize(np.array([255, 0, 0], np.int64), channels) * (x[:, :, None] < 24)
    return [*pictures, _pixels(noise), _pixels(255 * (noise >> 7)), _pixels(flat), _pixels(one)]


def _gradient(y: Grid, x: Grid, seed: int) -> Grid:
    return (5 * x + 3 * y) % 256


def _checker(y: Grid, x: Grid, seed: int) -> Grid:
    return 255 * ((x // 5 + y // 7) & 1)


def _stripes(y: Grid, x: Grid, seed: int) -> Grid:
    return 255 * (((x + 2 * y) // 6) & 1)


def _disc(y: Grid, x: Grid, seed: int) -> Grid:
    height, width = y.shape
    distance = (2 * y - height) ** 2 + (2 * x - width) ** 2
    inside = (distance < min(height, width) ** 2 // 2).astype(np.int64)
    values: Grid = inside * (230 - 3 * (y % 32)) + (1 - inside) * (20 + 2 * (x % 32))
    return values


def _rings(y: Grid, x: Grid, seed: int) -> Grid:
    values: Grid = ((y - y.shape[0] // 3) ** 2 + (x - x.shape[1] // 2) ** 2) // 4 % 256
    return values


def _blocks(y: Grid, x: Grid, seed: int) -> Grid:
    return _noise(y // 8, x // 8, seed)


def _cloud(y: Grid, x: Grid, seed: int) -> Grid:
    layers = (_noise(y >> s, x >> s, seed + s) << s for s in range(4))
    return sum(layers, start=0 * y) // 15


def _weave(y: Grid, x: Grid, seed: int) -> Grid:
    return (x * 9 ^ y * 5) & 255


PATTERNS: tuple[Callable[[Grid, Grid, int], Grid], ...] = (
    _gradient, _checker, _stripes, _disc, _rings, _blocks, _cloud, _weave,
)  # fmt: skip


def _noise(y: Grid, x: Grid, seed: int) -> Grid:
    """0 to 255 per place, by a 32-bit mixer (Murmur3's finaliser) in 64-bit integers."""
    word = (y * 0x9E3779B1 + x * 0x85EBCA77 + seed * 0xC2B2AE3D + 0x27D4EB2F) & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        word = ((word ^ (word >> shift)) * factor) & 0xFFFFFFFF
    return word >> 24


def _coloured(plane: Grid, channels: int, seed: int) -> Pixels:
    """A plane in colours: each channel a rising or falling line through its values."""
    place = np.arange(channels, dtype=np.int64)
    scale = 96 + _noise(place, place + 1, seed) * 5 // 8  # 96 to 255
    bright = plane[:, :, None] * scale // 255 + (255 - scale) * (place & 1)
    return _pixels(np.where((place + seed) % 3 == 0, 255 - bright, bright))


def _pixels(values: Grid) -> Pixels:
    assert 0 <= values.min() <= values.max() <= 255, (values.min(), values.max())
    return np.ascontiguousarray(values.astype(np.uint8))
