"""Pictures made to do harm, by the numbers of the list: each with its one verdict."""

from __future__ import annotations

import functools
import io
import math
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tests.pictures.made import jpeg, png, webp
from tests.pictures.made.draw import Draw, exif

RNG = np.random.default_rng(7)
ROWS, COLUMNS = np.mgrid[:90, :120]
PHOTO = Image.fromarray(
    (np.dstack([COLUMNS * 2, ROWS * 2.5, COLUMNS + ROWS]) + RNG.normal(0, 12, (90, 120, 3)))
    .clip(0, 255)
    .astype(np.uint8)
)
ENDINGS = (".jpg", ".png", ".JPEG", "")


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def ihdr(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


JPEG = saved(PHOTO, "JPEG", quality=85)
PROGRESSIVE = saved(PHOTO, "JPEG", progressive=True)
RESTARTS = saved(PHOTO, "JPEG", restart_marker_rows=2)
GREY = saved(PHOTO.convert("L"), "JPEG")
CMYK = saved(PHOTO.convert("CMYK"), "JPEG")
PNG = saved(PHOTO, "PNG")
PALETTE = saved(PHOTO.quantize(32), "PNG", transparency=3)
GIF = saved(PHOTO.quantize(64), "GIF")
BMP = saved(PHOTO, "BMP")
WEBP = saved(PHOTO, "WEBP", quality=80)
LOSSLESS = saved(PHOTO.convert("RGBA"), "WEBP", lossless=True)
SEEDS = (JPEG, PROGRESSIVE, RESTARTS, GREY, CMYK, PNG, PALETTE, GIF, BMP, WEBP, LOSSLESS)


def sized(jpeg: bytes, height: int, width: int, *, components: int | None = None, bits: int | None = None) -> bytes:
    """The same JPEG with another frame header."""
    at = next(i for i in range(len(jpeg)) if jpeg[i] == 0xFF and jpeg[i + 1] in (0xC0, 0xC2))
    made = bytearray(jpeg)
    made[at + 5 : at + 9] = struct.pack(">HH", height, width)
    made[at + 4] = bits or made[at + 4]
    made[at + 9] = components or made[at + 9]
    return bytes(made)


def without(jpeg: bytes, marker: int) -> bytes:
    """The same JPEG without its segments of one kind."""
    kept, at = [jpeg[:2]], 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] != marker:
            kept.append(jpeg[at:end])
        at = end
    return b"".join([*kept, jpeg[at:]])


def scans_repeated(count: int) -> bytes:
    at = PROGRESSIVE.rindex(b"\xff\xda")
    return PROGRESSIVE[:at] + PROGRESSIVE[at:-2] * count + b"\xff\xd9"


def with_frame(marker: int) -> bytes:
    at = JPEG.index(b"\xff\xc0")
    return JPEG[:at] + bytes([0xFF, marker]) + JPEG[at + 2 :]


RAW = zlib.compress(b"".join(b"\0" + row.tobytes() for row in np.asarray(PHOTO)))
IDAT = chunk(b"IDAT", RAW)
END = chunk(b"IEND")
HEAD = ihdr(120, 90)


@functools.cache
def bomb() -> bytes:
    return zlib.compress(b"\0" * (64 << 20))


def wrong(chunk_: bytes) -> bytes:
    """The same chunk with another checksum."""
    return chunk_[:-1] + bytes([chunk_[-1] ^ 1])


def frames(count: int) -> bytes:
    """An animated WebP of that many frames."""
    head = webp.chunk(b"VP8X", b"\x02\0\0\0" + bytes([119, 0, 0, 89, 0, 0])) + webp.chunk(b"ANIM", b"\0" * 6)
    tiny = webp.chunk(b"ANMF", b"\0" * 16 + webp.chunk(b"VP8L", b"\x2f\0\0\0\0"))
    first = webp.chunk(b"ANMF", b"\0" * 6 + bytes([119, 0, 0, 89, 0, 0]) + b"\0" * 4 + LOSSLESS[12:])
    return webp.riff(head + first + tiny * (count - 1))


def adobe(components: int, transform: int) -> Callable[[], bytes]:
    """A JPEG whose Adobe segment says another transform."""
    kind = jpeg.Jpeg("rgb" if components == 3 else "cmyk", "4:2:0", "baseline", 0, 0)

    def make() -> bytes:
        data = jpeg.encode(Draw("adobe"), 33, 47, kind)
        at = data.index(b"Adobe") + 11
        return data[:at] + bytes([transform]) + data[at + 1 :]

    return make


def with_segments(marker: int, body: bytes, count: int = 1) -> Callable[[], bytes]:
    return lambda: JPEG[:2] + segment(marker, body) * count + JPEG[2:]


def made_jpeg(kind: jpeg.Jpeg) -> Callable[[], bytes]:
    return lambda: jpeg.encode(Draw("hostile"), 33, 47, kind)


def made_png(kind: png.Png) -> Callable[[], bytes]:
    return lambda: png.encode(Draw("hostile"), 33, 47, kind)


def turned(block: bytes) -> bytes:
    """A JPEG with an EXIF segment."""
    return JPEG[:2] + segment(0xE1, b"Exif\0\0" + block) + JPEG[2:]


def thin(form: str, width: int, height: int, grey: int = 99) -> Callable[[], bytes]:
    return lambda: saved(Image.new("RGB", (width, height), (grey, grey, grey)), form)


def of_mode(form: str, mode: str) -> Callable[[], bytes]:
    if mode == "P with alpha":
        return lambda: saved(PHOTO.quantize(16), form, transparency=bytes(range(0, 256, 16)))
    return lambda: saved(PHOTO.convert("L" if mode == "I;16" else mode).convert(mode), form)


JPEGS = [jpeg.Jpeg(colour, "4:2:0", coding, 2, 0) for colour in jpeg.COLOURS for coding in jpeg.CODINGS]
PNGS = [png.Png(*kind, interlaced, False, 0) for kind in png.KINDS for interlaced in (False, True)]
PNGS += [png.Png(colour, 8, False, True, 0) for colour in (png.GREY, png.RGB, png.PALETTE)]
THIN = ((1, 1), (1, 65500), (65500, 1), (2, 2))
MODES = [("PNG", mode) for mode in ("P with alpha", "LA", "RGBA", "I;16", "1")]
MODES += [("BMP", "1"), ("BMP", "RGBA"), ("GIF", "1"), ("GIF", "LA"), ("WEBP", "RGBA"), ("JPEG", "CMYK")]
LAB = bytes(range(256))[:16] + b"prtrLab XYZ " + b"\0" * 200
_BLOCK = exif(6)
EXIFS = {
    **{f"of orientation {value}": exif(value) for value in range(10)},
    "of orientation 6, big endian": exif(6, big_endian=True),
    "of another type": _BLOCK[:12] + b"\x02" + _BLOCK[13:],
    "of two values": _BLOCK[:14] + b"\x02" + _BLOCK[15:],
    "whose directory is its header": _BLOCK[:4] + b"\0" * 4 + _BLOCK[8:],
    "whose directory is far away": _BLOCK[:4] + b"\xff" * 4 + _BLOCK[8:],
    "whose next directory is the first": _BLOCK[:-4] + b"\x08\0\0\0",
    "cut": _BLOCK[:15], "of 65,535 entries": _BLOCK[:8] + b"\xff\xff" + _BLOCK[10:], "of nothing": b"",
}  # fmt: skip


Item = tuple[Callable[[], bytes], str]  # what makes it, and `ok` or the code of its refusal

HOSTILE: dict[str, Item] = {
    # 1-3: no pictures at all
    "1 empty": (lambda: b"", "V301"),
    "2 one byte": (lambda: b"\xff", "V301"),
    "3 text": (lambda: b"this is a photograph of a cat\n" * 20, "V301"),
    "3 html": (lambda: b"<!DOCTYPE html><html><title>404 Not Found</title></html>", "V301"),
    "3 svg": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "V301"),
    "3 eps": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "V301"),
    "3 pdf": (lambda: b"%PDF-1.7\n", "V301"),
    "3 mp4": (lambda: b"\0\0\0\x18ftypmp42" + b"\0" * 99, "V301"),
    "3 zip": (lambda: b"PK\x03\x04" + b"\0" * 99, "V301"),
    "10 fits": (lambda: b"SIMPLE  =                    T" + b" " * 3000, "V301"),
    "10 psd": (lambda: b"8BPS\0\x01" + b"\0" * 99, "V301"),
    "10 icns": (lambda: b"icns" + b"\0" * 99, "V301"),
    "10 ico": (lambda: saved(PHOTO, "ICO"), "V301"),
    "10 tiff": (lambda: saved(PHOTO, "TIFF"), "V301"),
    "3 ppm": (lambda: saved(PHOTO, "PPM"), "V301"),
    "10 avif": (lambda: b"\0\0\0\x20ftypavif" + b"\0" * 99, "V301"),
    "10 jpeg 2000": (lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 99, "V301"),
    "3 riff that is a wave": (lambda: b"RIFF" + struct.pack("<I", 100) + b"WAVEfmt " + b"\0" * 92, "V301"),
    # 4: JPEG without its parts
    "4 jpeg without soi": (lambda: JPEG[2:], "V301"),
    "4 jpeg without quantisation": (lambda: without(JPEG, 0xDB), "V302"),
    "4 jpeg without frame": (lambda: without(JPEG, 0xC0), "V302"),
    "4 jpeg of markers only": (lambda: b"\xff\xd8\xff\xd9", "V302"),
    "4 jpeg of fill bytes": (lambda: b"\xff\xd8" + b"\xff" * 5000, "V302"),
    "4 jpeg with two frames": (lambda: JPEG[: (i := JPEG.index(b"\xff\xc0"))] + JPEG[i : i + 19] + JPEG[i:], "V302"),
    # 5: sizes of JPEG
    "5 jpeg of height 0": (lambda: sized(JPEG, 0, 120), "V302"),
    "5 jpeg of width 0": (lambda: sized(JPEG, 90, 0), "V302"),
    "5 jpeg of 65535 squared": (lambda: sized(JPEG, 65535, 65535), "V303"),
    "5 jpeg of 9216 squared": (lambda: sized(JPEG, 9216, 9216), "V303"),
    # 6: kinds and work of JPEG
    "6 jpeg of 2 components": (lambda: sized(JPEG, 90, 120, components=2), "V305"),
    "6 jpeg of 12 bits": (lambda: sized(JPEG, 90, 120, bits=12), "V305"),
    "6 jpeg, arithmetic": (lambda: with_frame(0xC9), "V305"),
    "6 jpeg, arithmetic progressive": (lambda: with_frame(0xCA), "V305"),
    "6 jpeg, lossless": (lambda: with_frame(0xC3), "V305"),
    "6 jpeg of 90 scans": (lambda: scans_repeated(80), "ok"),
    "6 jpeg of 1,000 scans": (lambda: scans_repeated(1000), "V303"),
    "6 jpeg with 64 kB of markers": (lambda: JPEG[:2] + segment(0xE5, b"x" * 65533) + JPEG[2:], "ok"),
    "6 jpeg with 10 MB of markers": (lambda: JPEG[:2] + segment(0xE5, b"\xff" * 65000) * 160 + JPEG[2:], "ok"),
    "6 jpeg with 20 MB of markers": (lambda: JPEG[:2] + segment(0xFE, b"x" * 65000) * 320 + JPEG[2:], "V303"),
    "13 jpeg with a broken profile": (lambda: JPEG[:2] + segment(0xE2, b"ICC_PROFILE\0\x09\x01junk") + JPEG[2:], "ok"),
    "6 jpeg with a broken picture index": (
        lambda: JPEG[:2] + segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff") + JPEG[2:],
        "ok",
    ),
    "6 jpeg with a photoshop block cut": (with_segments(0xED, b"Photoshop 3.0\08BIM\x04"), "ok"),
    "6 jpeg in its own exif": (lambda: JPEG[:2] + segment(0xE1, b"Exif\0\0II*\0" + JPEG) + JPEG[2:], "ok"),
    # 8: PNG
    "8 png without idat": (lambda: HEAD + END, "V302"),
    "8 png with empty idat": (lambda: HEAD + chunk(b"IDAT") + END, "V302"),
    "8 png without iend": (lambda: HEAD + IDAT, "V302"),
    "8 png with two ihdr": (lambda: HEAD + HEAD[8:] + IDAT + END, "V302"),
    "8 png with ihdr late": (lambda: HEAD[:8] + chunk(b"tEXt", b"a\0b") + HEAD[8:] + IDAT + END, "V302"),
    "8 png with an unknown critical chunk": (lambda: HEAD + chunk(b"ABCD", b"x") + IDAT + END, "V302"),
    "8 png with a chunk of no letters": (lambda: HEAD + chunk(b"\0\0\0\0", b"x") + IDAT + END, "V302"),
    "8 png in 10,000 idat": (
        lambda: HEAD + b"".join(chunk(b"IDAT", RAW[i : i + 4]) for i in range(0, 40_000, 4)),
        "V303",
    ),
    "8 png in short idat": (
        lambda: HEAD + b"".join(chunk(b"IDAT", RAW[i : i + 9]) for i in range(0, len(RAW), 9)) + END,
        "ok",
    ),
    "8 png with more pixels than it needs": (lambda: HEAD + IDAT + chunk(b"IDAT", RAW) + END, "ok"),
    "8 png with its pixels cut": (lambda: HEAD + chunk(b"IDAT", RAW[:-400]) + END, "V302"),
    "8 png of no depth": (lambda: ihdr(120, 90, 3) + IDAT + END, "V302"),
    "8 png of no colour type": (lambda: ihdr(120, 90, 8, 5) + IDAT + END, "V302"),
    "8 png without palette": (lambda: ihdr(1, 1, 8, 3) + chunk(b"IDAT", zlib.compress(b"\0\0")) + END, "ok"),
    "8 png of palette 0": (lambda: ihdr(1, 1, 8, 3) + chunk(b"PLTE") + IDAT + END, "ok"),
    "8 png of palette 257": (lambda: ihdr(1, 1, 8, 3) + chunk(b"PLTE", b"a" * 771) + IDAT + END, "V302"),
    "8 png of 0 x 0": (lambda: ihdr(0, 0) + IDAT + END, "V302"),
    "8 png of 0 x 5": (lambda: ihdr(0, 5) + IDAT + END, "V302"),
    # 9: PNG bombs
    "9 png of 2^31-1 squared": (lambda: ihdr(2**31 - 1, 2**31 - 1) + IDAT + END, "V303"),
    "9 png of 2^32-1 squared": (lambda: ihdr(2**32 - 1, 2**32 - 1) + IDAT + END, "V303"),
    "9 png of 30,000 squared": (lambda: ihdr(30_000, 30_000) + IDAT + END, "V303"),
    "9 png of 13,400 squared": (lambda: ihdr(13_400, 13_400) + IDAT + END, "V303"),
    "9 png just above the limit": (lambda: ihdr(89_478_486, 1) + IDAT + END, "V303"),
    "9 png with 64 MB of text": (lambda: HEAD + chunk(b"zTXt", b"a\0\0" + bomb()) + IDAT + END, "ok"),
    "13 png with 64 MB of profile": (lambda: HEAD + chunk(b"iCCP", b"a\0\0" + bomb()) + IDAT + END, "ok"),
    "9 png with 100,000 texts": (lambda: HEAD + chunk(b"iTXt", b"a\0\0\0\0\0b") * 100_000 + IDAT + END, "V303"),
    "9 png of 10,001 frames": (
        lambda: HEAD + chunk(b"acTL", b"\0\0\x27\x11\0\0\0\0") + IDAT + chunk(b"fcTL", b"\0" * 26) * 10_001 + END,
        "V303",
    ),
    "9 png with a broken animation": (lambda: HEAD + chunk(b"acTL", b"\0" * 8) + IDAT + END, "ok"),
    # 10: GIF, WebP, BMP
    "10 gif of 65535 squared": (lambda: GIF[:6] + b"\xff" * 4 + GIF[10:], "V303"),
    "10 gif with a frame outside": (lambda: GIF[:6] + b"\x09\0\x09\0" + GIF[10:], "V302"),
    "10 gif of 10,000 frames": (lambda: GIF[:-1] + b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0" * 10_000 + b";", "ok"),
    "10 gif with 50,000 comments": (
        lambda: GIF[: (i := 13 + (3 << (GIF[10] & 7) + 1))] + b"!\xfe" + b"\x01a" * 50_000 + b"\0" + GIF[i:],
        "V303",
    ),
    "10 gif of a header": (lambda: GIF[:13], "V302"),
    "10 gif without frame": (lambda: b"GIF89a\x01\0\x01\0\0\0\0;", "V302"),
    "10 webp of 16 million squared": (
        lambda: b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0" * 4 + b"\xff" * 6,
        "V303",
    ),
    "10 webp of a header": (lambda: WEBP[:20], "V302"),
    "10 webp of no picture": (lambda: b"RIFF" + struct.pack("<I", 92) + b"WEBPABCD" + b"\0" * 84, "V302"),
    "10 bmp upside down": (lambda: BMP[:22] + struct.pack("<i", -90) + BMP[26:], "ok"),
    "10 bmp of huge height": (lambda: BMP[:22] + struct.pack("<i", 2**31 - 1) + BMP[26:], "V303"),
    "10 bmp of lowest height": (lambda: BMP[:22] + struct.pack("<i", -(2**31)) + BMP[26:], "V303"),
    "10 bmp of negative width": (lambda: BMP[:18] + struct.pack("<i", -5) + BMP[22:], "V303"),
    "10 bmp of width 0": (lambda: BMP[:18] + b"\0" * 4 + BMP[22:], "V302"),
    "10 bmp of a header": (lambda: b"BM" + b"\0" * 20, "V302"),
    "10 bmp with 5 MB of runs": (lambda: BMP[:30] + b"\x01" + BMP[31:] + b"\0" * (5 << 20), "V303"),
    # 14: more than a picture
    "14 jpeg and 1 MB": (lambda: JPEG + b"x" * (1 << 20), "ok"),
    "14 png and a zip": (lambda: PNG + b"PK\x03\x04" + b"\0" * 1000, "ok"),
    "14 jpeg that is a png": (lambda: b"\xff\xd8\xff" + PNG, "V302"),
    "4 jpeg without an end mark": (lambda: JPEG[:-2], "V302"),
    "4 jpeg without huffman tables": (lambda: without(JPEG, 0xC4), "ok"),  # then they are the standard's own
    "6 jpeg without its restart markers": (lambda: re.sub(rb"\xff[\xd0-\xd7]", b"", RESTARTS), "V302"),
    "8 png of filter 9": (lambda: ihdr(1, 1) + chunk(b"IDAT", zlib.compress(b"\x09abc")) + END, "V302"),
    "8 png with a wrong checksum in its text": (lambda: HEAD + wrong(chunk(b"tEXt", b"a\0b")) + IDAT + END, "ok"),
    "8 png with a wrong checksum in its exif": (lambda: HEAD + wrong(chunk(b"eXIf", exif(6))) + IDAT + END, "ok"),
    "8 png with a wrong checksum in its ihdr": (lambda: HEAD[:8] + wrong(HEAD[8:]) + IDAT + END, "V302"),
    "8 png with a wrong checksum in its idat": (lambda: HEAD + wrong(IDAT) + END, "V302"),
    "8 png with a wrong checksum in its iend": (lambda: HEAD + IDAT + wrong(END), "V302"),
    "8 png with a wrong checksum in its palette": (lambda: PALETTE.replace(b"PLTE", b"PLTF", 1), "V302"),
    "10 webp of 4,000 frames": (lambda: frames(4000), "ok"),
    "10 webp of 10,000 frames": (lambda: frames(10_000), "V303"),
    "10 tiff whose directory is itself": (lambda: b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "V301"),
    "10 tiff of 10,000 frames": (lambda: b"MM\0*" + b"\0\0\0\x08\0\0" * 10_000, "V301"),
    "10 avif of 10,000 frames": (lambda: b"\0\0\0\x1cftypavis" + b"\0" * 100_000, "V301"),
    "10 icon in an icon": (lambda: b"\0\0\1\0\1\0" + saved(PHOTO, "ICO") * 3, "V301"),
    "10 fits in gzip": (lambda: b"\x1f\x8b\x08\0" + b"\0" * 99, "V301"),
    "10 jpeg 2000 of huge tiles": (lambda: b"\xff\x4f\xff\x51\0\x29" + b"\xff" * 40, "V301"),
    "12 tiff of floats": (lambda: saved(Image.new("F", (4, 4), 0.5), "TIFF"), "V301"),
    "13 jpeg with 6 MB of profile": (with_segments(0xE2, b"ICC_PROFILE\0" + b"x" * 60000, count=100), "ok"),
    "13 jpeg with the profile of another space": (lambda: saved(PHOTO, "JPEG", icc_profile=LAB), "ok"),
    "13 png with the profile of another space": (lambda: saved(PHOTO, "PNG", icc_profile=LAB), "ok"),
    "13 webp with the profile of another space": (lambda: saved(PHOTO, "WEBP", icc_profile=LAB), "ok"),
    "13 webp with no profile in its profile": (lambda: saved(PHOTO, "WEBP", icc_profile=b"x" * 999), "ok"),
    "14 jpeg and a zip": (lambda: JPEG + b"PK\x03\x04" + b"\0" * 1000, "ok"),
    "14 gif and a program": (lambda: GIF + b"\x7fELF" + b"\0" * 1000, "ok"),
    "15 tiff of nan": (lambda: saved(Image.new("F", (4, 4), math.nan), "TIFF"), "V301"),
    **{f"4 jpeg cut at {n}/16": ((lambda n=n: JPEG[: len(JPEG) * n // 16]), "V302") for n in range(1, 16)},
    **{f"6 jpeg {kind}": (made_jpeg(kind), "ok") for kind in JPEGS},
    **{f"6 jpeg of {n} components, adobe {mark}": (adobe(n, mark), "ok") for n in (3, 4) for mark in (0, 1, 2)},
    **{f"7 exif {word}": ((lambda block=block: turned(block)), "ok") for word, block in EXIFS.items()},
    **{f"8 {kind}": (made_png(kind), "ok") for kind in PNGS},
    **{f"11 {form} of {w} x {h}": (thin(form, w, h), "ok") for form in ("JPEG", "PNG", "BMP") for w, h in THIN},
    **{f"12 {form} of mode {mode}": (of_mode(form, mode), "ok") for form, mode in MODES},
    **{f"15 {form} of one grey": (thin(form, 40, 30, 128), "ok") for form in ("JPEG", "PNG", "BMP", "GIF", "WEBP")},
}  # fmt: skip
