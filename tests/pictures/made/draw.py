"""Draws that no version of a library changes: the bytes of SHAKE-256 of a name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


class Draw:
    """A stream of numbers that its name alone decides."""

    def __init__(self, name: str) -> None:
        self._name, self._count = name, 0

    def bytes(self, count: int) -> NDArray[np.uint8]:
        """That many bytes (writable)."""
        self._count += 1
        return np.frombuffer(
            bytearray(hashlib.shake_256(f"{self._name}/{self._count}".encode()).digest(count)), np.uint8
        )

    def below(self, limit: int) -> int:
        """A whole number from 0 to limit - 1."""
        return int.from_bytes(self.bytes(8).tobytes(), "little") % limit

    def of(self, choices: Sequence[T]) -> T:
        """One of them."""
        return choices[self.below(len(choices))]

    def side(self, most: int) -> int:
        """A side of a picture, 1 to `most`: small ones as likely as large ones, as powers of two go."""
        return 1 + self.below(2 ** (1 + self.below(most.bit_length()))) % most

    def samples(self, height: int, width: int, channels: int, levels: int = 256) -> NDArray[np.int64]:
        """Values (height, width, channels) below `levels`: a ramp in each channel, with noise."""
        noise = self.bytes(height * width * channels).reshape(height, width, channels).astype(np.int64)
        slopes = np.array([self.below(levels) + 1 for _ in range(2 * channels)]).reshape(2, channels)
        ramp = (np.arange(height)[:, None, None] * slopes[0] + np.arange(width)[None, :, None] * slopes[1]) >> 4
        return (ramp + noise * levels // 1024) % levels


def packed(values: NDArray[np.int64], lengths: NDArray[np.int64], fill: int = 0) -> bytes:
    """Codes of the given lengths in bits, the highest bit first; the last byte is filled up with bits `fill`."""
    most = int(lengths.max(initial=1))
    places = most - 1 - np.arange(most)
    bits = (values[:, None] >> places & 1).astype(np.uint8)[places < lengths[:, None]]
    whole = np.full(-(-len(bits) // 8) * 8, fill, np.uint8)
    whole[: len(bits)] = bits
    return np.packbits(whole).tobytes()


def exif(orientation: int, big_endian: bool = False) -> bytes:
    """A TIFF block that holds an orientation and nothing else."""
    order = "big" if big_endian else "little"

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, order)  # type: ignore[arg-type]

    entry = number(0x0112, 2) + number(3, 2) + number(1, 4) + number(orientation, 2) + number(0, 2)
    return (b"MM\0*" if big_endian else b"II*\0") + number(8, 4) + number(1, 2) + entry + number(0, 4)
