"""A part of a picture, decoding no more of a JPEG than that part asks for.

A JPEG is decoded at the smallest of the scales 1, 1/2, 1/4, 1/8 at which the part is still as large as it will be
needed, and not below the part. For parts less than twice as large as needed that is the whole picture's pixels to the
bit; for larger ones, whose boxes move onto the grid of the scale, the picture shrinks by its own transform first,
instead of by the filter alone.

The same file and part give the same pixels whatever is installed and whatever was read before. A damaged file is
refused wherever its damage lies: each is decoded to its end once, before rows are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrail.pictures import turbo
from vitrail.pictures.decode import opened, stored, whole, with_channels

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # top, left, height, width


class Parts:
    """Reads parts of pictures 0 to `count` - 1; safe to use from several threads."""

    def __init__(self, count: int) -> None:
        self._whole = np.full(count, -1, np.int64)  # how long the coded data was that proved to be whole

    def read(
        self,
        index: int,
        picture: Path | bytes,
        choose: Callable[[tuple[int, int]], Box],
        *,
        size: tuple[int, int],
        channels: int,
        name: str,
    ) -> Pixels:
        """Pixels (h, w, channels) of the box that `choose` picks out of a picture of (height, width), at a scale at
        which they are still at least `size` where the picture itself is; PictureError V301 to V305."""
        called = f"`{name}`"
        header = opened(picture, called)
        if header.frame is None or header.orientation != 1 or len(header.frame.sampling) not in (1, 3):
            pixels = whole(header, called, channels)
            return _cut(pixels, choose((pixels.shape[0], pixels.shape[1])))
        box = choose((header.height, header.width))
        scale = next(s for s in turbo.SCALES if s == 1 or (box[2] >= s * size[0] and box[3] >= s * size[1]))
        found = None
        if self._whole[index] == len(header.data):
            found = turbo.decoded(header, scale=scale, rows=box[0] + box[2])
        if found is None:
            found = turbo.decoded(header, scale=scale)
            if found is not None:
                self._whole[index] = len(header.data)
            else:
                found = stored(header, called, scale=scale)
        top, left, height, width = (side // scale for side in box)
        return with_channels(_cut(found, (top, left, height, width)), channels, called)


def _cut(pixels: Pixels, box: Box) -> Pixels:
    top, left, height, width = box
    return pixels[top : top + height, left : left + width]
