"""What a picture may cost, and the words with which one is refused."""

from __future__ import annotations

from dataclasses import dataclass

from vitrail.errors import PictureError

MAX_PIXELS = 89_478_485  # Pillow's own limit: 1 GiB / 4 / 3
MAX_BYTES = 256 << 20
MAX_HEAD_BYTES = 16 << 20  # what may stand before the first coded pixel of a JPEG
MAX_TINY_PARTS = 10_000  # chunks or blocks so short that they only cost time


@dataclass(frozen=True)
class Frame:
    """How the pixels of a JPEG are coded, and where its header says how high it is."""

    sampling: tuple[tuple[int, int], ...]  # of each component: horizontal, vertical
    one_scan: bool  # all components interleaved in a single one, top to bottom
    height_at: int  # byte of `Header.data` where the height starts, two bytes long


@dataclass(frozen=True)
class Header:
    """What a file says of its picture, and the bytes that its pixels need: all else (texts, profiles) is left out."""

    format: str  # Pillow's name of the one plug-in that may decode it
    width: int
    height: int
    data: bytes
    orientation: int = 1  # EXIF, 1 to 8
    frame: Frame | None = None  # of a JPEG


def damaged(name: str, why: str) -> PictureError:
    """V302 for a file that starts like a picture and does not go on like one."""
    return PictureError("V302", f"{name} is truncated or damaged: {why}", hint="replace the file, or leave it out")


def beyond(name: str, why: str) -> PictureError:
    """V303 for a picture that would cost more than one picture may."""
    return PictureError("V303", f"{name} exceeds a limit: {why}", hint="make the picture smaller, or leave it out")


def refused_kind(name: str, why: str) -> PictureError:
    """V305 for pixels that the decoding rule does not cover."""
    return PictureError(
        "V305",
        f"{name} holds pixels of a kind that is refused: {why}",
        hint="save it as 8-bit RGB or grey, JPEG or PNG",
    )
