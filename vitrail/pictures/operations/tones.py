"""Operations that give each value of a channel a new one, whatever lies around it.

All of it is integer or double arithmetic in NumPy, equal to Pillow's tables: arithmetic along a row is several times
faster than NumPy's look-up per byte. Where loops are compiled, they look up what takes the longest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrail.pictures import kernels
from vitrail.pictures.operations.planes import Planes

Numbers = NDArray[np.float64]  # one argument per picture, (B,)

SOLARIZE_ADD_BELOW = 128  # timm adds to values below it


def invert(planes: Planes) -> Planes:
    """Each value v becomes 255 - v."""
    return np.invert(planes)


def posterize(planes: Planes, bits: Numbers) -> Planes:
    """The upper `bits` bits of each value; 8 or more change nothing.

    Fewer than 1 keep one bit: there timm 1.0.31 fails under Pillow 13, and older Pillows give a black picture.
    """
    kept = np.clip(bits.astype(np.int64), 1, 8)
    masks = (256 - (1 << (8 - kept))).astype(np.uint8)
    return planes & masks[:, None, None, None]


def solarize(planes: Planes, thresholds: Numbers) -> Planes:
    """Each value v of threshold or more becomes 255 - v. A threshold of 256 changes nothing.

    >>> solarize(np.array([[[[0, 99, 100, 255]]]], np.uint8), np.array([100.0])).tolist()
    [[[[0, 99, 155, 0]]]]
    """
    start = np.ceil(thresholds)[:, None, None, None]
    high = planes >= np.clip(start, 0, 255).astype(np.uint8)
    turned = np.where(start <= 255, 255, 0).astype(np.uint8)
    return planes ^ (high.view(np.uint8) * turned)


def solarize_add(planes: Planes, amounts: Numbers) -> Planes:
    """Each value below 128 is raised by `amount`, a whole number of 0 to 128."""
    assert ((amounts >= 0) & (amounts <= SOLARIZE_ADD_BELOW)).all(), amounts
    low = planes < np.uint8(SOLARIZE_ADD_BELOW)
    return planes + low.view(np.uint8) * amounts.astype(np.uint8)[:, None, None, None]


def autocontrast(planes: Planes) -> Planes:
    """Each channel stretched from its least and greatest value to 0 and 255; one of a single value stays."""
    low = planes.min(axis=(2, 3), keepdims=True).astype(np.float64)
    high = planes.max(axis=(2, 3), keepdims=True).astype(np.float64)
    flat = high <= low
    scale = 255.0 / np.where(flat, 255.0, high - low)
    offset = np.where(flat, 0.0, -low * scale)
    if (compiled := kernels.augmenting()) is not None:
        every = np.arange(256, dtype=np.uint8)[None, None, None]
        return _exchanged(compiled, planes, _stretched(every, scale, offset).reshape(-1, 256))
    return _stretched(planes, scale, offset)


def _stretched(planes: Planes, scale: NDArray[np.float64], offset: NDArray[np.float64]) -> Planes:
    stretched = planes * scale
    stretched += offset
    return np.clip(stretched, 0.0, 255.0, out=stretched).astype(np.uint8)


def equalize(planes: Planes) -> Planes:
    """Each channel's histogram made even, by Pillow's integer rule; a channel of one value stays."""
    count = planes.shape[0] * planes.shape[1]
    if (compiled := kernels.augmenting()) is not None:
        planes = np.ascontiguousarray(planes)
        compiled.histogram(planes, histograms := np.empty((count, 256), np.int64))
        return _exchanged(compiled, planes, _even_tables(histograms))
    places = planes.reshape(count, -1) + 256 * np.arange(count)[:, None]  # each channel in a histogram of its own
    histograms = np.bincount(places.reshape(-1), minlength=256 * count).reshape(count, 256)
    evened: Planes = _even_tables(histograms).reshape(-1)[places]
    return evened.reshape(planes.shape)


def _exchanged(compiled: kernels.Augmenting, planes: Planes, tables: NDArray[np.uint8]) -> Planes:
    """Each value of a plane by its table (B * C, 256)."""
    planes = np.ascontiguousarray(planes)
    compiled.exchange(planes, tables, out := np.empty_like(planes))
    return out


def _even_tables(histograms: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Pillow's table (R, 256) for each histogram (R, 256)."""
    last = 255 - (histograms[:, ::-1] > 0).argmax(axis=1)
    total = histograms.sum(axis=1)
    steps = (total - histograms[np.arange(len(last)), last])[:, None] // 255
    stays = ((histograms > 0).sum(axis=1, keepdims=True) <= 1) | (steps == 0)
    steps = np.where(stays, 1, steps)
    before = np.cumsum(histograms, axis=1) - histograms
    tables = np.minimum((steps // 2 + before) // steps, 255)  # beyond 255 nothing is left to map: Pillow clips too
    return np.where(stays, np.arange(256), tables).astype(np.uint8)
