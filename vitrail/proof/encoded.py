"""Small pictures as files: what a decoder must do before there are pixels, made from integers alone.

The 64 generated pictures are pixels: on them nobody can be seen to ignore an orientation, to blend what is transparent
or to turn grey into colour wrongly. These are PNG files, whose pixels no version of a library may change (a JPEG's may
differ), with an eXIf chunk where they are turned. What is transparent is so altogether: blending has no rounding.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from vitrail.proof.pictures import Pixels, generated

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # colour types of PNG
COLOURS = ((220, 40, 10), (20, 200, 60), (10, 30, 240), (240, 220, 20), (90, 90, 90), (255, 255, 255), (0, 0, 0))
# EXIF orientation: a pattern that looks the same in no other one
TURNED = {2: 1, 3: 25, 4: 33, 5: 41, 6: 44, 7: 39, 8: 35}
CLEAR = (255, 255, 0, 255, 0)  # alpha of the first colours of the palette; the others are opaque


def encoded(channels: int) -> list[bytes]:
    """16 PNG files for networks that see grey or RGB; none for others, as files hold no other pixels.

    >>> files = encoded(3)
    >>> len(files), len(encoded(13)), files[0][:4]
    (16, 0, b'\\x89PNG')
    """
    if channels not in (1, 3):
        return []
    pictures = generated(3)[16:]  # patterns, each in six sizes
    turned = [png(pictures[place], RGB, orientation=turn) for turn, place in TURNED.items()]
    plain = [png(pictures[place], RGB) for place in (9, 43)]
    clear = [png(_with_alpha(pictures[place]), RGBA) for place in (4, 32)]
    both = png(_with_alpha(pictures[13]), RGBA, orientation=6)
    grey = pictures[20][:, :, :1]
    index = np.minimum(pictures[27][:, :, :1] >> 5, len(COLOURS) - 1).astype(np.uint8)
    return [
        *turned,
        *plain,
        *clear,
        both,
        png(_with_alpha(grey), GREY_ALPHA),
        png(index, PALETTE, clear=CLEAR),
        png(grey, GREY),
        png(pictures[41][:, :, :1], GREY, orientation=8),
    ]


def png(pixels: Pixels, colour: int, *, orientation: int = 1, clear: tuple[int, ...] = ()) -> bytes:
    """The bytes of a PNG of 8 bits, not compressed, so that they depend on nobody's compressor.

    pixels: (H, W, channels of the colour type). clear: alpha of the first entries of the palette.
    """
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    rows = b"".join(b"\0" + np.ascontiguousarray(row).tobytes() for row in pixels)
    parts = [b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", header)]
    if orientation != 1:
        entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
        parts.append(_chunk(b"eXIf", struct.pack("<2sHIH", b"II", 42, 8, 1) + entry + bytes(4)))
    if colour == PALETTE:
        parts.append(_chunk(b"PLTE", bytes(value for entry in COLOURS for value in entry)))
    if clear:
        parts.append(_chunk(b"tRNS", bytes(clear)))
    return b"".join([*parts, _chunk(b"IDAT", _stored(rows)), _chunk(b"IEND", b"")])


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _stored(data: bytes) -> bytes:
    """A zlib stream of one stored block."""
    assert len(data) < 1 << 16, len(data)
    block = struct.pack("<BHH", 1, len(data), len(data) ^ 0xFFFF)
    return b"\x78\x01" + block + data + struct.pack(">I", zlib.adler32(data))


def _with_alpha(pixels: Pixels) -> Pixels:
    """The picture with an alpha of 0 in a corner and in a stripe, of 255 elsewhere."""
    y, x = np.indices(pixels.shape[:2])
    clear = (y + 2 * x < max(pixels.shape) // 2) | ((x - y) % 16 < 4)
    alpha = np.where(clear, 0, 255).astype(np.uint8)
    return np.concatenate([pixels, alpha[:, :, None]], axis=2)
