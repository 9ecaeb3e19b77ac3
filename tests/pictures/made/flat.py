"""GIF and BMP: the formats that are little more than their pixels."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.pictures.made.draw import Draw


@dataclass(frozen=True)
class Gif:
    bits: int  # of a pixel
    interlaced: bool
    transparent: bool
    local: bool  # the palette belongs to the frame
    inside: bool  # the frame is smaller than the canvas

    def __str__(self) -> str:
        words = ("interlaced", "transparent", "local", "inside")
        return " ".join([f"gif {self.bits} bit", *(word for word in words if getattr(self, word))])


def encode_gif(draw: Draw, height: int, width: int, kind: Gif) -> bytes:
    """The bytes of a GIF of one frame of drawn pixels, and a second that nobody should see."""
    palette = draw.bytes(3 << kind.bits).tobytes()
    table = 0x80 | kind.bits - 1
    top, left = (draw.below(height), draw.below(width)) if kind.inside else (0, 0)
    tall, wide = height - top, width - left
    control = b"!\xf9\x04" + struct.pack("<BHBB", kind.transparent, 0, draw.below(1 << kind.bits), 0)
    parts = [
        b"GIF89a", struct.pack("<HHBBB", width, height, 0 if kind.local else table, 0, 0),
        b"" if kind.local else palette, b"!\xfe\x05words\0", control,
        struct.pack("<BHHHHB", 0x2C, left, top, wide, tall, (table if kind.local else 0) | 0x40 * kind.interlaced),
        palette if kind.local else b"",
    ]  # fmt: skip
    indices = draw.samples(tall, wide, 1, 1 << kind.bits)[:, :, 0]
    if kind.interlaced:
        indices = np.concatenate([indices[0::8], indices[4::8], indices[2::4], indices[1::2]])
    second = struct.pack("<BHHHHB", 0x2C, 0, 0, 1, 1, 0) + _coded(np.zeros(1, np.int64), 2)
    return b"".join([*parts, _coded(indices.ravel(), max(kind.bits, 2)), second, b";"])


def _coded(indices: NDArray[np.int64], size: int) -> bytes:
    """LZW that clears its table before a code would grow: every code has size + 1 bits."""
    run = (1 << size) - 2
    rows = -(-len(indices) // run)
    codes = np.full((rows, run + 1), -1, np.int64)
    codes[:, 0] = 1 << size
    padded = np.full(rows * run, -1, np.int64)
    padded[: len(indices)] = indices
    codes[:, 1:] = padded.reshape(rows, run)
    flat = np.append(codes[codes >= 0], (1 << size) + 1)
    bits = (flat[:, None] >> np.arange(size + 1) & 1).astype(np.uint8)
    data = np.packbits(bits.ravel(), bitorder="little").tobytes()
    blocks = (data[at : at + 255] for at in range(0, len(data), 255))
    return bytes([size]) + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


BMP_KINDS = ("1", "4", "8", "16", "565", "24", "32", "os2", "rle8", "rle4")


@dataclass(frozen=True)
class Bmp:
    kind: str
    from_top: bool

    def __str__(self) -> str:
        return f"bmp {self.kind}{' from top' if self.from_top else ''}"


def encode_bmp(draw: Draw, height: int, width: int, kind: Bmp) -> bytes:
    """The bytes of a BMP of drawn pixels."""
    bits = {"565": 16, "os2": 24, "rle8": 8, "rle4": 4}.get(kind.kind) or int(kind.kind)
    compression = {"565": 3, "rle8": 1, "rle4": 2}.get(kind.kind, 0)
    masks = struct.pack("<3I", 0xF800, 0x7E0, 0x1F) if kind.kind == "565" else b""
    palette = draw.bytes(4 << bits).tobytes() if bits <= 8 else b""
    pixels = (_runs if compression in (1, 2) else _plain)(draw, height, width, bits)
    signed = -height if kind.from_top else height
    if kind.kind == "os2":
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        colours = 1 << bits if bits <= 8 else 0
        info = struct.pack("<IiiHHIIiiII", 40, width, signed, 1, bits, compression, len(pixels), 0, 0, colours, 0)
    start = 14 + len(info) + len(masks) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + info + masks + palette + pixels


def _plain(draw: Draw, height: int, width: int, bits: int) -> bytes:
    if bits >= 8:
        row = draw.samples(height, width, bits // 8).astype(np.uint8).reshape(height, -1)
    else:
        samples = draw.samples(height, width, 1, 1 << bits)[:, :, 0]
        row = np.packbits(
            (samples[:, :, None] >> (bits - 1 - np.arange(bits)) & 1).astype(np.uint8).reshape(height, -1), axis=1
        )
    return np.pad(row, ((0, 0), (0, -row.shape[1] % 4))).tobytes()


def _runs(draw: Draw, height: int, width: int, bits: int) -> bytes:
    """Rows of coded runs, with literal stretches where they are long enough."""
    parts = []
    for _ in range(height):
        left = width
        while left:
            if left >= 4 and draw.below(3) == 0:
                count = 4
                body = draw.bytes(count * bits // 8).tobytes()
                parts.append(bytes([0, count]) + body)
            else:
                count = 1 + draw.below(min(left, 60))
                parts.append(bytes([count, draw.below(256)]))
            left -= count
        parts.append(b"\0\0")
    return b"".join([*parts, b"\0\1"])
