"""Fields of small protobuf messages, read by strict rules.  What is wrong is a ValueError that says it in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

Buffer = TypeVar("Buffer", bytes, memoryview)

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}


def varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """The number at `at` and where it ends; at most 10 bytes and 64 bits.

    >>> varint(bytes([0xAC, 0x02]), 0)
    (300, 2)
    """
    value = 0
    for index, byte in enumerate(data[at : at + 10]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            if value >> 64:
                raise ValueError("a number of more than 64 bits")
            return value, at + index + 1
    raise ValueError("a number without an end")


def signed(value: int) -> int:
    """A varint as int64, which is how protobuf writes negative numbers.

    >>> signed((1 << 64) - 1)
    -1
    """
    return value - (1 << 64) if value >> 63 else value


def fields(data: Buffer, known: Mapping[int, int]) -> Iterator[tuple[int, int | Buffer]]:
    """(number, value) of every field in turn: an integer, or a slice of `data`.

    known: number -> wire type of what may stand here.

    >>> list(fields(bytes([0x08, 0x05, 0x12, 0x01, 0x41]), {1: VARINT, 2: BYTES}))
    [(1, 5), (2, b'A')]
    """
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        if number not in known:
            raise ValueError(f"an unknown field {number}")
        if kind != known[number]:
            raise ValueError(f"field {number} is of wire type {kind}, not {known[number]}")
        if kind == VARINT:
            value, at = varint(data, at)
            yield number, value
            continue
        if kind == BYTES:
            length, at = varint(data, at)
        else:
            length = _FIXED[kind]
        if length > len(data) - at:
            raise ValueError(f"field {number} of {length} bytes, {len(data) - at} are left")
        piece = data[at : at + length]
        at += length
        yield number, piece if kind == BYTES else int.from_bytes(piece, "little")


def single(data: bytes, known: Mapping[int, int]) -> dict[int, int | bytes]:
    """The fields of a message in which none may stand twice."""
    found: dict[int, int | bytes] = {}
    for number, value in fields(data, known):
        if number in found:
            raise ValueError(f"field {number} stands twice")
        found[number] = value
    return found
