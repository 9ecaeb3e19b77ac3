"""What a picture may cost, and the words with which one is refused."""

from __future__ import annotations

from dataclasses import dataclass

from vitrail.errors import PictureError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")  # names of pictures
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


# What a file may be that is no picture of ours, by its first bytes.
_OTHERS = (
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"), (b"MM\0+", "TIFF"), (b"\0\0\0\x0cjP", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"), (b"\0\0\0\x0cJXL", "JPEG XL"), (b"\xff\x0a", "JPEG XL"), (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"), (b"8BPS", "Photoshop"), (b"\0\0\1\0", "an icon"), (b"icns", "an icon"), (b"qoif", "QOI"),
    (b"SIMPLE", "FITS"), (b"\x76\x2f\x31\x01", "OpenEXR"), (b"PK\3\4", "a zip archive"), (b"\x1f\x8b", "gzip"),
    (b"<svg", "SVG"), (b"<?xml", "XML"), (b"<!DOCTYPE", "a web page"), (b"<html", "a web page"),
)  # fmt: skip
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC"}


def unknown_format(name: str, data: bytes) -> PictureError:
    """V301 for bytes that begin like none of the allowed formats."""
    kind = next((word for magic, word in _OTHERS if data.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        kind = _BRANDS.get(data[8:12], "a video")
    start = f"it is {kind}" if kind else f"it starts with {data[:8].hex(' ')}" if data else "it is empty"
    return PictureError(
        "V301",
        f"{name} is no picture of an allowed format: {start}",
        hint="allowed are JPEG, PNG, WebP, BMP and GIF, whatever the file is called; convert others first, "
        "as by `magick x.tif x.png`, or in Python `Image.open('x.tif').convert('RGB').save('x.png')`",
    )
