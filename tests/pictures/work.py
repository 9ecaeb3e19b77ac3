"""What pictures may cost: files at and beyond every bound, and twenty small ones to be cut anywhere."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from tests.hostile.campaign import Seed, mutated
from tests.pictures.hostile import (
    BMP,
    CMYK,
    GIF,
    GREY,
    HEAD,
    IDAT,
    JPEG,
    PALETTE,
    PHOTO,
    PROGRESSIVE,
    RESTARTS,
    WEBP,
    chunk,
    ihdr,
    saved,
    segment,
    sized,
)  # fmt: skip
from tests.pictures.made import flat, jpeg, png, webp
from tests.pictures.made.draw import Draw
from vitrail.errors import PictureError
from vitrail.pictures.jpeg import MAX_SCAN_PIXELS, MAX_SCANS, read_jpeg
from vitrail.pictures.limits import MAX_HEAD_BYTES, MAX_PIXELS, MAX_TINY_PARTS


def allowed(pixels: int, each: int = 7, file: int = 0) -> int:
    """Bytes that decoding may take: a picture in Pillow and as handed out, its file twice, and 64 MiB beside."""
    return each * min(pixels or MAX_PIXELS, MAX_PIXELS) + 2 * file + (64 << 20)


# format -> the longest side that its header can state
SIZED = {"PNG": 2**32 - 1, "JPEG": 65535, "GIF": 65535, "BMP": 2**31 - 1, "WEBP": 2**24}


def size_around(limit: int, draw: random.Random, *, most: int) -> tuple[int, int]:
    """(height, width) whose product is the limit or a little beside it, below or above."""
    least = -(-limit // most) + 1
    one = draw.randint(least, limit // least) if draw.random() < 0.3 else draw.randint(least, min(65000, most))
    other = max(limit // one + draw.choice((-1, 0, 0, 1, 1, 2)), 1)
    return (one, min(other, most)) if draw.random() < 0.5 else (min(other, most), one)


def header(form: str, height: int, width: int) -> bytes:
    """A file that states a size and holds next to nothing."""
    if form == "PNG":
        return ihdr(width, height) + chunk(b"IDAT") + chunk(b"IEND")
    if form == "JPEG":
        data = sized(JPEG, height, width)
        return data + b"x" * (MAX_PIXELS // 1000 + 200 - len(data))  # so that its pixels are not too many for a byte
    if form == "GIF":
        return GIF[:6] + struct.pack("<HH", width, height) + GIF[10:]
    if form == "BMP":
        return BMP[:18] + struct.pack("<ii", width, height) + BMP[26:]
    canvas = b"\0" * 4 + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp.riff(webp.chunk(b"VP8X", canvas) + WEBP[12:])


def _comments(size: int) -> bytes:
    """A JPEG with that many bytes of markers before its first scan."""
    start = JPEG.index(b"\xff\xda")
    missing = size - start - 2 - struct.unpack_from(">H", JPEG, start + 2)[0]
    parts = []
    while missing:
        body = min(missing - 4, 60_000)
        body -= 4 if 0 < missing - 4 - body < 4 else 0
        parts.append(segment(0xFE, b"x" * body))
        missing -= body + 4
    return JPEG[:2] + b"".join(parts) + JPEG[2:]


def _scans(count: int) -> bytes:
    """A progressive JPEG of that many scans."""
    at = PROGRESSIVE.rindex(b"\xff\xda")
    return PROGRESSIVE[:at] + PROGRESSIVE[at:-2] * (count - PROGRESSIVE.count(b"\xff\xda") + 1) + b"\xff\xd9"


def _chunks(count: int) -> bytes:
    return HEAD + chunk(b"tEXt", b"a\0b") * (count - 3) + IDAT[:0] + chunk(b"IDAT", b"\0") + chunk(b"IEND")


def _blocks(count: int) -> bytes:
    start = 13 + (3 << (GIF[10] & 7) + 1)
    return GIF[:start] + b"!\xfe" + b"\x01a" * count + b"\0" + GIF[start:]


def _webp_chunks(count: int) -> bytes:
    """Chunks before the one that would hold the EXIF block, which is not there."""
    canvas = b"\x08\0\0\0" + bytes([119, 0, 0, 89, 0, 0])
    return webp.riff(webp.chunk(b"VP8X", canvas) + webp.chunk(b"ABCD", b"") * (count - 1))


def _runs(size: int) -> bytes:
    data = BMP[:30] + b"\x01" + BMP[31:]
    return data + b"\0" * (size - len(data))


# bound -> (a file at a given amount of it, the bound)
WORK: dict[str, tuple[Callable[[int], bytes], int]] = {
    "scans of a JPEG": (_scans, MAX_SCANS),
    "markers of a JPEG, bytes": (_comments, MAX_HEAD_BYTES),
    "chunks of a PNG": (_chunks, MAX_TINY_PARTS),
    "blocks of a GIF": (_blocks, MAX_TINY_PARTS),
    "chunks of a WebP": (_webp_chunks, MAX_TINY_PARTS),
    "runs of a BMP, bytes": (_runs, 4 << 20),
}


def check_scans(draw: random.Random) -> bool:
    """A JPEG of drawn size and scans is refused just when its scans or their pixels are too many: whether it was."""
    scans = draw.randint(len(PROGRESSIVE.split(b"\xff\xda")) - 1, 130)
    height, width = size_around(MAX_SCAN_PIXELS // min(scans, MAX_SCANS), draw, most=65535)
    data = sized(_scans(scans), height, width)
    data += b"x" * max(height * width // 1000 + 1 - len(data), 0)  # not refused for its pixels a byte
    beyond = scans > MAX_SCANS or scans * height * width > MAX_SCAN_PIXELS
    try:
        read_jpeg(data, "x")
        refused = False
    except PictureError as error:
        refused = error.code == "V303"
    assert refused == beyond, (scans, height, width)
    return refused


def mutant(seed: bytes, number: int) -> bytes:
    """A mutant of a file, by its number."""
    return mutated(random.Random(number), [Seed(seed)], ())[1]


def _jpeg(colour: str, sampling: str, coding: str) -> Callable[[], bytes]:
    return lambda: jpeg.encode(Draw("cut"), 30, 45, jpeg.Jpeg(colour, sampling, coding, 3, 6))


def _one_frame() -> bytes:
    """The second frame may be cut as it likes: nobody reads it."""
    return flat.encode_gif(Draw("cut"), 30, 45, flat.Gif(7, True, True, True, True))[:-16] + b";"


def _png(colour: int, depth: int) -> Callable[[], bytes]:
    return lambda: png.encode(Draw("cut"), 20, 30, png.Png(colour, depth, True, False, 6))


FILES: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: JPEG, "jpeg progressive": lambda: PROGRESSIVE, "jpeg restarts": lambda: RESTARTS,
    "jpeg grey": lambda: GREY, "jpeg cmyk": lambda: CMYK, "jpeg apart": _jpeg("ycc", "4:2:0", "apart"),
    "jpeg ycck": _jpeg("ycck", "4:1:1", "baseline"), "jpeg deep tables": _jpeg("rgb", "4:4:0", "deep tables"),
    "png": lambda: saved(PHOTO.resize((40, 30)), "PNG"), "png palette": lambda: PALETTE,
    "png 16 bit": _png(png.RGB, 16), "png 2 bit": _png(png.GREY, 2), "gif": lambda: GIF,
    "gif interlaced": _one_frame,
    "bmp": lambda: saved(PHOTO.resize((40, 30)), "BMP"),
    "bmp runs": lambda: flat.encode_bmp(Draw("cut"), 30, 45, flat.Bmp("rle8", False)),
    "bmp 4 bit": lambda: flat.encode_bmp(Draw("cut"), 30, 45, flat.Bmp("4", True)),
    "webp": lambda: WEBP, "webp lossless": lambda: saved(PHOTO.resize((40, 30)), "WEBP", lossless=True),
    "webp alpha": lambda: saved(PHOTO.convert("RGBA").resize((40, 30)).rotate(9), "WEBP", quality=50),
}  # fmt: skip
assert len(FILES) == 20
