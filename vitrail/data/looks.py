"""One look at a picture: whether it can be read, what it is, and a print of it by which copies are found.

A look depends on the content alone, so it can be kept (`kept.py`) and stands for every file of the same content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.data.sources.found import Stored
from vitrail.errors import PictureError, printable
from vitrail.pictures.about import about
from vitrail.pictures.decode import decode, read_bytes

LOOKS = 1  # the version of what a look holds; another one makes kept looks void
THUMB = 24  # side of the small grey picture by which suspected copies are compared
_TITLE = "\N{REPLACEMENT CHARACTER}"  # stands for the title in a kept refusal


@dataclass(frozen=True)
class Look:
    """content: SHA-256 of the file, or of shape and pixels; size: its bytes. code, what, hint: of the refusal, empty
    for a good picture.

    width, height: as seen, EXIF orientation applied. blank: all pixels are equal. hash: 64-bit difference hash of the
    grey picture. thumb: grey, uint8 (THUMB * THUMB).
    """

    content: str
    size: int
    code: str = ""
    what: str = ""
    hint: str = ""
    format: str = ""
    width: int = 0
    height: int = 0
    orientation: int = 1
    colour: str = ""
    alpha: bool = False
    deep: bool = False
    blank: bool = False
    hash: int = 0
    thumb: bytes = b""

    @property
    def good(self) -> bool:
        """Whether the picture can be read."""
        return not self.code

    def error(self, title: str) -> PictureError:
        """The refusal of a picture that is called `title` here."""
        assert self.code
        return PictureError(self.code, self.what.replace(_TITLE, printable(title), 1), hint=self.hint)


def look(stored: Stored, title: str, *, known: Callable[[str], Look | None] = lambda _: None) -> Look:
    """Read the picture whole, decode it, and say what it is. A bad one gives a look, too.

    known: what was seen of a content before, so that it is not decoded again.
    """
    if isinstance(stored, np.ndarray):
        shape = repr(stored.shape).encode()
        content = hashlib.sha256(shape + stored.tobytes()).hexdigest()
        colour = "grey" if stored.shape[2] == 1 else "RGB"
        found = Look(content, stored.nbytes, format="array", colour=colour)
        return known(content) or _seen(found, stored)
    if isinstance(stored, Path):
        try:
            stored = read_bytes(stored, f"`{title}`")
        except PictureError as error:
            return refused(Look("", 0), error, title)
    found = Look(hashlib.sha256(stored).hexdigest(), len(stored))
    if (before := known(found.content)) is not None:
        return before
    try:
        pixels = decode(stored, name=title)
    except PictureError as error:
        return refused(found, error, title)
    said = about(stored, title)
    found = replace(
        found,
        format=said.format,
        orientation=said.orientation,
        colour=said.colour,
        alpha=said.alpha,
        deep=said.deep,
    )
    return _seen(found, pixels)


def refused(found: Look, error: PictureError, title: str) -> Look:
    """The look at a picture that cannot be read, free of its title."""
    what = error.what.replace(printable(title), _TITLE, 1)
    return replace(found, code=error.code, what=what, hint=error.hint)


def _seen(found: Look, pixels: NDArray[np.uint8]) -> Look:
    grey = _grey(pixels)
    return replace(
        found,
        width=pixels.shape[1],
        height=pixels.shape[0],
        blank=bool((pixels == pixels[:1, :1]).all()),
        hash=difference_hash(grey),
        thumb=_shrunk(grey, (THUMB, THUMB)).tobytes(),
    )


def _grey(pixels: NDArray[np.uint8]) -> Image.Image:
    if pixels.shape[2] in (1, 3):
        image = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))
        return image.convert("L")
    return Image.fromarray(pixels.mean(axis=2).astype(np.uint8))


def _shrunk(grey: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(grey.resize(size, Image.Resampling.BOX))


def difference_hash(grey: Image.Image) -> int:
    """64 bits: of each of 8 rows of 9 cells, whether a cell is brighter than the one to its left.

    >>> hex(difference_hash(Image.linear_gradient("L").rotate(90)))
    '0xffffffffffffffff'
    """
    cells = _shrunk(grey, (9, 8)).astype(np.int16)
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big")


@cache
def windows() -> NDArray[np.float32]:
    """Every window of a thumb that a slight crop may have left, as one matrix (W * THUMB^2, THUMB^2), bilinear."""
    rows = []
    for side in (1.0, 0.97, 0.94, 0.91, 0.88):
        starts = np.linspace(0, 1 - side, 1 if side == 1.0 else 4)
        axes = [_axis(start, side) for start in starts]
        rows += [np.kron(down, across) for down in axes for across in axes]
    return np.concatenate(rows).astype(np.float32)


def _axis(start: float, side: float) -> NDArray[np.float64]:
    """Bilinear samples (THUMB, THUMB) of the part of an axis that begins at `start` and is `side` long."""
    places = ((np.arange(THUMB) + 0.5) / THUMB * side + start) * THUMB - 0.5
    low = np.clip(np.floor(places).astype(np.int64), 0, THUMB - 1)
    high = np.clip(low + 1, 0, THUMB - 1)
    matrix = np.zeros((THUMB, THUMB))
    np.add.at(matrix, (np.arange(THUMB), low), 1 - (places - np.floor(places)))
    np.add.at(matrix, (np.arange(THUMB), high), places - np.floor(places))
    return matrix
