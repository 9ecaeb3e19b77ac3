"""From a file to pixels, by one rule. The same bytes give the same pixels everywhere.

The rule:

- **Formats**: JPEG, PNG, WebP, BMP and GIF (the first frame), told by content, never by name. No other decoder is
  ever called. Arithmetic-coded, lossless and 12-bit JPEG are refused.
- **Limits**, all checked before decoding: 89,478,485 pixels; 256 MiB of file; in a JPEG 1,000 pixels per byte,
  100 scans, and 2 x 10^9 pixels over all scans.
- **Orientation**: EXIF orientation is applied. What is broken counts as 1. XMP is not read.
- **Colours**: as stored. Profiles and gamma are ignored; CMYK and YCCK become RGB by Pillow's formula.
- **Depth**: 1, 2 and 4 bits are spread to 0..255; of 16 bits the high byte is kept.
- **Alpha** is dropped: the colour channels stay as they are stored. A palette gives its colours.
- **Channels**: grey becomes RGB by repetition; RGB becomes grey by Pillow's L,
  (19595 R + 38470 G + 7471 B + 32768) >> 16.
- **Damage** is an error, never filled up.

A JPEG goes through simplejpeg where that is installed and has no complaint, through Pillow else: the same pixels, the
same refusals.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL import WebPImagePlugin as _WebPImagePlugin  # noqa: F401  registered here, or Image.open would import them all

from vitrail.errors import PictureError, SystemFault
from vitrail.pictures import turbo
from vitrail.pictures.exif import orientation
from vitrail.pictures.headers import PNG_INTERLACED, png_is_short, read_bmp, read_gif, read_png, read_webp
from vitrail.pictures.jpeg import lengthened, read_jpeg
from vitrail.pictures.limits import MAX_BYTES, MAX_PIXELS, Header, beyond, damaged, refused_kind, unknown_format

Pixels = NDArray[np.uint8]
Strip = tuple[slice, Pixels]  # some rows of a picture
Picture = Path | str | bytes | Image.Image | Pixels  # everything that `load` takes

# Pillow's plug-ins raise all of these on damaged bytes. Warning: under `-W error` a warning is raised, too.
_PILLOW_RAISES = (
    OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError,
    AssertionError, struct.error, zlib.error, Image.DecompressionBombError, Warning,
)  # fmt: skip
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")
_WITH_PALETTE = ("P", "PA")
_STRIP = 1 << 20  # pixels
_BY_PILLOW = ("CMYK", "YCbCr", "RGBA", "RGBX")


def decode(
    picture: Path | str | bytes, *, channels: int = 3, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> Pixels:
    """Pixels (H, W, channels) of a file, or of the bytes of one. channels: 1 or 3. name: how errors call it.

    PictureError: V301 no picture of an allowed format, V302 damaged, V303 a limit, V304 cannot be opened,
    V305 a kind of pixels that is refused.
    """
    name = f"`{name}`" if name else name_of(picture)
    return whole(opened(picture, name, max_pixels=max_pixels), name, channels)


def opened(picture: Path | str | bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Header:
    """The header of a file, or of the bytes of one, within the limits; PictureError V301 to V305."""
    data = picture if isinstance(picture, bytes) else read_bytes(picture, name)
    if len(data) > MAX_BYTES:
        raise beyond(name, f"{len(data)} bytes, the limit is {MAX_BYTES}")
    header = header_of(data, name)
    _check_size(header.width, header.height, name, max_pixels)
    return header


def whole(header: Header, name: str, channels: int) -> Pixels:
    """Pixels (H, W, channels) of an opened file; PictureError V302, V303 or V305."""
    return np.ascontiguousarray(with_channels(_turned(stored(header, name), header.orientation), channels, name))


def stored(header: Header, name: str, *, scale: int = 1) -> Pixels:
    """All pixels as they are stored, before orientation, 1 or 3 channels; PictureError V302 or V305.

    scale: 2, 4 or 8 gives a JPEG at 1/2, 1/4 or 1/8, sides rounded up, as its transform computes it.
    """
    jpeg = header.format == "JPEG"
    assert jpeg or scale == 1
    if jpeg and (pixels := turbo.decoded(header, scale=scale)) is not None:
        return pixels
    pixels = _joined(_stored(header, header.data, name, scale), -(-header.height // scale))
    if header.format == "PNG" and _may_be_short(pixels, header.data) and png_is_short(header.data):
        raise damaged(name, "the coded pixels end early")
    if jpeg and _may_be_cut(pixels):
        again = _stored(header, lengthened(header.data), name, scale)
        if not all(np.array_equal(pixels[rows], strip) for rows, strip in again):
            raise damaged(name, "the coded pixels end early")
    return pixels


def from_pil(image: Image.Image, *, channels: int = 3) -> Pixels:
    """Pixels (H, W, channels) of a Pillow image, by the same rule; PictureError V302, V303 or V305."""
    name = name_of(image)
    _check_size(*image.size, name, MAX_PIXELS)
    exif = image.info.get("exif")
    turn = orientation(exif.removeprefix(b"Exif\0\0")) if isinstance(exif, bytes) else 1
    pixels = _joined(_loaded(image, name), image.height)
    return np.ascontiguousarray(with_channels(_turned(pixels, turn), channels, name))


def from_array(array: Pixels, channels: int = 3) -> Pixels:
    """Pixels (H, W, channels) out of uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, channels); PictureError V305 else."""
    name = name_of(array)
    if array.dtype != np.uint8:
        raise refused_kind(name, f"an array of {array.dtype}, it must be uint8")
    if array.ndim not in (2, 3) or array.size == 0 or (array.ndim == 3 and array.shape[2] not in (1, 3, channels)):
        raise refused_kind(name, f"an array of shape {array.shape}, it must be (H, W), (H, W, 1) or (H, W, 3)")
    return np.ascontiguousarray(with_channels(array if array.ndim == 3 else array[:, :, None], channels, name))


def load(picture: Picture, *, channels: int = 3) -> Pixels:
    """Pixels (H, W, channels) of whatever a picture may be: path, bytes of a file, Pillow image, array."""
    if isinstance(picture, Image.Image):
        return from_pil(picture, channels=channels)
    if isinstance(picture, np.ndarray):
        return from_array(picture, channels)
    return decode(picture, channels=channels)


def name_of(picture: Picture) -> str:
    """How errors call a picture.

    >>> name_of(b"GIF89a"), name_of("cat.jpg")
    ('picture of 6 bytes', '`cat.jpg`')
    """
    if isinstance(picture, bytes):
        return f"picture of {len(picture)} bytes"
    if isinstance(picture, np.ndarray):
        return f"array {picture.shape}"
    if isinstance(picture, Image.Image):
        path = getattr(picture, "filename", "")
        return f"`{path}`" if path else f"image of {picture.width} x {picture.height} pixels"
    return f"`{picture}`"


def read_bytes(path: str | Path, name: str) -> bytes:
    """The bytes of a regular file: nothing that could block is ever waited for. PictureError V303 or V304."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            if status.st_size <= MAX_BYTES:
                data = file.read(status.st_size + 1)
                # A byte more than there was: it has grown meanwhile. To ask for the most at once costs its memory.
                return data if len(data) <= status.st_size else data + file.read(MAX_BYTES + 1 - len(data))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = getattr(error, "strerror", None) or error
        raise PictureError("V304", f"cannot open {name}: {why}", hint="check the path and its permissions") from error
    raise beyond(name, f"{status.st_size} bytes, the limit is {MAX_BYTES}")


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not hang the reader


def _reader(data: bytes) -> Callable[[bytes, str], Header] | None:
    if data.startswith(b"\xff\xd8\xff"):
        return read_jpeg
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return read_png
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return read_webp
    if data.startswith((b"GIF87a", b"GIF89a")):
        return read_gif
    return read_bmp if data.startswith(b"BM") else None


def header_of(data: bytes, name: str) -> Header:
    """What the bytes say of their picture, before any pixel is decoded; PictureError V301, V302, V303 or V305."""
    read = _reader(data)
    if read is None:
        raise unknown_format(name, data)
    return read(data, name)


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise damaged(name, f"it is {width} x {height} pixels")
    if width * height > max_pixels:
        raise beyond(name, f"{width} x {height} pixels, the limit is {max_pixels} in all")


def _stored(header: Header, data: bytes, name: str, scale: int) -> Iterator[Strip]:
    """Pixels as Pillow decodes them."""
    try:
        image = Image.open(io.BytesIO(data), formats=[header.format])
    except _PILLOW_RAISES as error:
        raise damaged(name, f"Pillow says {_short(error)}") from error
    with image:
        if image.size != (header.width, header.height):
            raise damaged(name, f"its parts disagree on its size: {image.size} and {(header.width, header.height)}")
        if scale > 1:
            image.draft(image.mode, (header.width // scale, header.height // scale))
        yield from _loaded(image, name)


def _loaded(image: Image.Image, name: str) -> Iterator[Strip]:
    """A large picture some rows at a time, or it would be held three times on its way out of Pillow."""
    try:
        image.load()
        width, height = image.size
        rows = max(_STRIP // width, 1)
        for top in range(0, height, rows):
            whole = rows >= height
            strip = image if whole else image.crop((0, top, width, min(top + rows, height)))
            yield slice(top, top + rows), _plain(strip, name)
    except MemoryError as error:
        raise SystemFault("V703", f"not enough memory for {name}", hint="close other programs") from error
    except _PILLOW_RAISES as error:
        raise damaged(name, f"Pillow says {_short(error)}") from error


def _joined(strips: Iterator[Strip], height: int) -> Pixels:
    """The strips as one array (H, W, C)."""
    rows, first = next(strips)
    if len(first) == height:
        return first
    pixels = np.empty((height, *first.shape[1:]), np.uint8)
    pixels[rows] = first
    for rows, strip in strips:
        pixels[rows] = strip
    return pixels


def _plain(image: Image.Image, name: str) -> Pixels:
    mode = image.mode
    if mode in ("L", "RGB"):
        array = np.array(image)
    elif mode == "1":
        array = np.array(image.convert("L"))
    elif mode in _DEEP:
        array = (np.asarray(image) >> 8).astype(np.uint8)  # Pillow's own conversion to L clips at 255
    elif mode == "LA":
        array = np.array(image.getchannel(0))
    elif mode in _WITH_PALETTE:
        array = np.ascontiguousarray(np.asarray(image.convert("RGBA"))[:, :, :3])  # to RGB Pillow may warn
    elif mode in _BY_PILLOW:
        array = np.array(image.convert("RGB"))
    else:
        raise refused_kind(name, f"Pillow mode {mode}")
    return array if array.ndim == 3 else array[:, :, None]


def _short(error: BaseException) -> str:
    return f"`{type(error).__name__}: {str(error)[:200]}`"


def _may_be_cut(stored: Pixels) -> bool:
    """Whether the last corner is the grey that libjpeg fills in: 128, or 64 where it came through CMYK."""
    corner = stored[-1, -1].astype(np.int64)
    return bool((abs(corner - 128) <= 2).all() or (abs(corner - 64) <= 2).all())


def _may_be_short(stored: Pixels, png: bytes) -> bool:
    """Whether the last row is of one colour, as Pillow leaves rows that a PNG does not hold; interlaced: always."""
    return bool((stored[-1] == stored[-1, 0]).all()) or png[PNG_INTERLACED] != 0


def _turned(pixels: Pixels, turn: int) -> Pixels:
    """EXIF orientation applied: 2 to 4 mirror or turn by 180 degrees, 5 to 8 also swap rows and columns."""
    if turn in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def with_channels(pixels: Pixels, channels: int, name: str) -> Pixels:
    """Pixels (H, W, channels): grey repeated, colour turned to grey; PictureError V305 where neither goes."""
    if pixels.shape[2] == channels:
        return pixels
    if channels not in (1, 3):
        raise refused_kind(
            name, f"{pixels.shape[2]} channels where {channels} are meant: give arrays (H, W, {channels})"
        )
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    red, green, blue = (pixels[:, :, channel].astype(np.uint32) for channel in range(3))
    grey = (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16
    return grey.astype(np.uint8)[:, :, None]
