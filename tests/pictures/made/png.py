"""PNG of every colour type and depth, interlaced or not, every filter; deflated without compression."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.pictures.made.draw import Draw, exif

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
NAMES = {GREY: "grey", RGB: "rgb", PALETTE: "palette", GREY_ALPHA: "grey+alpha", RGBA: "rgb+alpha"}
KINDS = [
    *((GREY, depth) for depth in (1, 2, 4, 8, 16)),
    *((PALETTE, depth) for depth in (1, 2, 4, 8)),
    *((colour, depth) for colour in (RGB, GREY_ALPHA, RGBA) for depth in (8, 16)),
]
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


@dataclass(frozen=True)
class Png:
    colour: int
    depth: int
    interlaced: bool
    transparent: bool  # with a tRNS chunk, where the colour type may have one
    orientation: int

    def __str__(self) -> str:
        extra = (" interlaced" if self.interlaced else "") + (" tRNS" if self.transparent else "")
        return f"png {NAMES[self.colour]} {self.depth} bit{extra}"


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def stored(data: bytes) -> bytes:
    """A zlib stream of stored blocks: its bytes depend on nobody's compressor."""
    blocks = [data[at : at + 65535] for at in range(0, len(data), 65535)] or [b""]
    parts = [b"\x78\x01"]
    for number, block in enumerate(blocks):
        parts += [struct.pack("<BHH", number == len(blocks) - 1, len(block), len(block) ^ 0xFFFF), block]
    return b"".join([*parts, struct.pack(">I", zlib.adler32(data))])


def encode(draw: Draw, height: int, width: int, kind: Png) -> bytes:
    """The bytes of a PNG of drawn pixels."""
    levels = min(1 << kind.depth, 256)
    samples = draw.samples(height, width, CHANNELS[kind.colour], levels)
    if kind.depth == 16:
        samples = samples * 256 + draw.samples(height, width, CHANNELS[kind.colour])
    rows = b"".join(
        _rows(draw, samples[top::down, left::across], kind.depth)
        for top, left, down, across in (_PASSES if kind.interlaced else ((0, 0, 1, 1),))
        if top < height and left < width
    )
    head = struct.pack(">IIBBBBB", width, height, kind.depth, kind.colour, 0, 0, kind.interlaced)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head)]
    if kind.orientation:
        parts.append(chunk(b"eXIf", exif(kind.orientation, bool(draw.below(2)))))
    if kind.colour == PALETTE:
        parts.append(chunk(b"PLTE", draw.bytes(3 * levels).tobytes()))
    if kind.transparent:
        parts.append(chunk(b"tRNS", _transparent(draw, kind, levels)))
    data = stored(rows)
    cut = len(data) // 2  # in two chunks, as large files come
    return b"".join([*parts, chunk(b"IDAT", data[:cut]), chunk(b"IDAT", data[cut:]), chunk(b"IEND")])


def _transparent(draw: Draw, kind: Png, levels: int) -> bytes:
    if kind.colour == PALETTE:
        return draw.bytes(1 + draw.below(levels)).tobytes()
    return struct.pack(f">{CHANNELS[kind.colour]}H", *(draw.below(levels) for _ in range(CHANNELS[kind.colour])))


def _rows(draw: Draw, samples: NDArray[np.int64], depth: int) -> bytes:
    """Scanlines (H, W, C), each by a filter of its own."""
    height, width, channels = samples.shape
    flat = samples.reshape(height, width * channels)
    if depth == 16:
        lines = flat.astype(">u2").view(np.uint8).reshape(height, -1)
    elif depth == 8:
        lines = flat.astype(np.uint8)
    else:
        bits = (flat[:, :, None] >> (depth - 1 - np.arange(depth)) & 1).astype(np.uint8)
        lines = np.packbits(bits.reshape(height, -1), axis=1)
    step = max(channels * depth // 8, 1)
    filters = draw.bytes(height) % 5
    out = np.empty((height, 1 + lines.shape[1]), np.uint8)
    out[:, 0] = filters
    out[:, 1:] = _filtered(lines.astype(np.int64), filters, step)
    return out.tobytes()


def _filtered(lines: NDArray[np.int64], filters: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    up, left, corner = np.zeros_like(lines), np.zeros_like(lines), np.zeros_like(lines)
    up[1:] = lines[:-1]
    left[:, step:] = lines[:, :-step]
    corner[1:, step:] = lines[:-1, :-step]
    guess = left + up - corner
    to_left, to_up, to_corner = abs(guess - left), abs(guess - up), abs(guess - corner)
    paeth = np.where(
        (to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner)
    )  # fmt: skip
    predicted = np.choose(filters[:, None], [np.zeros_like(lines), left, up, (left + up) // 2, paeth])
    return ((lines - predicted) & 255).astype(np.uint8)
