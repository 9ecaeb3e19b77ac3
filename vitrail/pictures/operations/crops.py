"""What training augmentation does to pixels. Nothing is drawn here: the same arguments give the same bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrail.pictures import kernels
from vitrail.pictures.policy import Interpolation
from vitrail.pictures.resize import resize

Pixels = NDArray[np.uint8]


def crop_resize(
    pixels: Pixels, box: tuple[int, int, int, int], size: tuple[int, int], interpolation: Interpolation
) -> Pixels:
    """The box (top, left, height, width) of pixels (H, W, C), resized to size (height, width).

    The crop comes first, so the filter never sees a pixel outside the box.
    """
    top, left, height, width = box
    assert min(top, left) >= 0, box
    assert top + height <= pixels.shape[0], box
    assert left + width <= pixels.shape[1], box
    return resize(pixels[top : top + height, left : left + width], size, interpolation)


def flip(pixels: Pixels) -> Pixels:
    """Pixels (H, W, C) mirrored left to right.

    >>> flip(np.array([[[1], [2], [3]]], np.uint8))[0, :, 0].tolist()
    [3, 2, 1]
    """
    return np.ascontiguousarray(pixels[:, ::-1])


def pad_crop_batch(pixels: Pixels, tops: NDArray[np.int64], lefts: NDArray[np.int64], padding: int) -> Pixels:
    """A batch (B, H, W, C), each picture moved: padded with zeros on all sides, then cut to (H, W) at (top, left).

    tops, lefts: (B,), each 0 to 2 * padding; padding itself is the picture as it was.
    """
    count, height, width, channels = pixels.shape
    assert tops.shape == lefts.shape == (count,), "one corner a picture"
    corners = np.stack([tops, lefts])
    assert ((corners >= 0) & (corners <= 2 * padding)).all(), "a corner lies outside the padding"
    if (compiled := kernels.loaded()) is not None:
        planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        out = np.empty_like(planes)
        compiled.pad_crop(planes, np.ascontiguousarray(tops), np.ascontiguousarray(lefts), padding, out)
        return out.transpose(0, 2, 3, 1)
    padded = np.zeros((count, height + 2 * padding, width + 2 * padding, channels), np.uint8)
    padded[:, padding : padding + height, padding : padding + width] = pixels
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    # windows: (B, 2 * padding + 1, 2 * padding + 1, C, H, W), a view
    return np.ascontiguousarray(windows[np.arange(count), tops, lefts].transpose(0, 2, 3, 1))


def flip_batch(pixels: Pixels, which: NDArray[np.bool_], *, axis: int = 2) -> Pixels:
    """A batch (B, H, W, C) with the pictures of `which` (B,) mirrored left to right, or along axis 1 top to bottom."""
    flipped = pixels.copy("K")
    rows = np.flatnonzero(which)
    compiled = kernels.loaded()
    if compiled is not None and axis == 2 and pixels.shape[3] == 3 and pixels.flags.c_contiguous:
        for row in rows:
            compiled.mirror(pixels[row], flipped[row])
        return flipped
    # as planes, which is how pictures mostly lie here: the bytes of a row are then mirrored one by one, fast
    source, target = (array.transpose(0, 3, 1, 2) for array in (pixels, flipped))
    target[rows] = source[rows][..., ::-1] if axis == 2 else source[rows][:, :, ::-1]
    return flipped
