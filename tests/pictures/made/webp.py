"""WebP: lossless by literals alone, and the containers around stored lossy streams."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.pictures.made.draw import Draw, exif

_REVERSED = np.array([int(f"{value:08b}"[::-1], 2) for value in range(256)], np.uint8)
# the order in which the lengths of the codes for code lengths are stored
_LENGTHS = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8)


@dataclass(frozen=True)
class WebP:
    alpha: bool
    green_subtracted: bool
    orientation: int
    lossy: int | None = None  # the number of a stored stream

    def __str__(self) -> str:
        kind = "lossless" if self.lossy is None else f"lossy {self.lossy}"
        return f"webp {kind}{' alpha' if self.alpha else ''}{' green' if self.green_subtracted else ''}"


class _Bits:
    """Numbers, the lowest bit first, as VP8L has them."""

    def __init__(self) -> None:
        self.value, self.count = 0, 0

    def put(self, value: int, count: int) -> None:
        self.value |= value << self.count
        self.count += count


def _code_of_bytes(bits: _Bits, symbols: int) -> None:
    """A prefix code in which 0 to 255 have 8 bits each, and what follows up to `symbols` has none."""
    bits.put(0, 1)  # not one of the simple codes
    bits.put(len(_LENGTHS) - 4, 4)
    for length in _LENGTHS:
        bits.put(1 if length in (0, 8) else 0, 3)
    bits.put(0, 1)  # the lengths of all symbols are given
    bits.put((1 << 256) - 1, 256)  # "8" is the second of two symbols
    bits.put(0, symbols - 256)


def _one_symbol(bits: _Bits, symbol: int) -> None:
    bits.put(1, 1)  # simple
    bits.put(0, 1)  # one symbol
    bits.put(1, 1)  # of 8 bits
    bits.put(symbol, 8)


def _lossless(draw: Draw, height: int, width: int, kind: WebP) -> bytes:
    """A VP8L stream: every pixel is a literal of four codes of 8 bits."""
    samples = draw.samples(height, width, 4).astype(np.uint8)  # green, red, blue, alpha
    bits = _Bits()
    bits.put(0x2F, 8)
    bits.put(width - 1, 14)
    bits.put(height - 1, 14)
    bits.put(kind.alpha, 1)
    bits.put(0, 3)
    if kind.green_subtracted:
        bits.put(1, 1)
        bits.put(2, 2)
    bits.put(0, 1)  # no further transform
    bits.put(0, 1)  # no cache of colours
    bits.put(0, 1)  # one group of codes for the whole picture
    _code_of_bytes(bits, 256 + 24)
    _code_of_bytes(bits, 256)
    _code_of_bytes(bits, 256)
    if kind.alpha:
        _code_of_bytes(bits, 256)
    else:
        _one_symbol(bits, 255)
    _one_symbol(bits, 0)  # distances, never used
    literals = samples if kind.alpha else samples[:, :, :3]
    head = np.frombuffer(bits.value.to_bytes(-(-bits.count // 8), "little"), np.uint8)
    return _joined(head, bits.count, _REVERSED[literals].ravel())


def _joined(head: NDArray[np.uint8], count: int, tail: NDArray[np.uint8]) -> bytes:
    """`count` bits of head, then tail, the lowest bit first."""
    shift = count % 8
    if shift == 0:
        return head.tobytes() + tail.tobytes()
    moved = np.zeros(len(tail) + 1, np.uint8)
    moved[:-1] = tail << shift
    moved[1:] |= tail >> (8 - shift)
    moved[0] |= head[-1]
    return head[:-1].tobytes() + moved.tobytes()


def chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def riff(chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def encode(draw: Draw, height: int, width: int, kind: WebP, stream: bytes = b"") -> bytes:
    """The bytes of a WebP: of drawn pixels, or around the chunks of a stored stream of that size."""
    chunks = stream or chunk(b"VP8L", _lossless(draw, height, width, kind))
    if not (kind.orientation or (kind.alpha and stream)):
        return riff(chunks)
    flags = 0x10 * kind.alpha | 0x08 * bool(kind.orientation)
    canvas = struct.pack("<I", flags) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    block = chunk(b"EXIF", exif(kind.orientation, bool(draw.below(2)))) if kind.orientation else b""
    return riff(chunk(b"VP8X", canvas) + chunks + block)
