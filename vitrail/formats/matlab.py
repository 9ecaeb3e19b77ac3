"""MATLAB's level 5 files of plain numeric arrays: what data sets publish their labels in.

    116 bytes of text | subsystem | version | "IM"      then elements: type, size, data, filled up to 8 bytes
    array = type 14 { flags | dimensions | name | numbers }, often compressed: type 15 { zlib of one array }

Bounds first: the whole file and what it becomes are limited. Cells, structures, texts and sparse or complex arrays are
refused. Numbers may be stored in a smaller type than the array has; they become the array's.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import DataError

BYTES = 64 << 20  # of a file, and of all that its compressed arrays become
NAMES = 64  # characters; MATLAB's own are shorter
_ARRAY, _COMPRESSED = 14, 15
# type of stored numbers, class of an array -> NumPy type without the byte order
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}


def read(data: bytes, place: str) -> dict[str, NDArray[np.generic]]:
    """The arrays of a file by name. DataError V404 for damage, a limit, or what is no plain array of numbers."""
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128]) if len(data) >= 128 else None
    if order is None or struct.unpack_from(f"{order}H", data, 124)[0] != 0x0100:
        raise wrong(place, "is no MATLAB file of level 5")
    if len(data) > BYTES:
        raise wrong(place, f"has {len(data):,} bytes, the limit is {BYTES:,}")
    found: dict[str, NDArray[np.generic]] = {}
    left = BYTES
    for kind, content in elements(data[128:], order, place):
        if kind == _COMPRESSED:
            plain = inflated(content, left, place)
            left -= len(plain)
            inner = list(elements(plain, order, place))
            if len(inner) != 1:
                raise wrong(place, "has a compressed element that is not one array")
            kind, content = inner[0]
        if kind != _ARRAY:
            raise wrong(place, f"has an element of type {kind}, no array")
        name, array = _array(content, order, place)
        if name in found:
            raise wrong(place, f"has the array `{name}` twice")
        found[name] = array
    return found


def elements(data: bytes, order: str, place: str) -> Iterator[tuple[int, bytes]]:
    """(type, content) of each element; those of 4 bytes or fewer may stand inside their own tag."""
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise wrong(place, "ends inside an element")
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise wrong(place, f"has a small element of {size} bytes")
            yield kind, data[at + 4 : at + 4 + size]
            at += 8
            continue
        if size > len(data) - at - 8:
            raise wrong(place, f"has an element of {size:,} bytes where {len(data) - at - 8:,} are left")
        yield kind, data[at + 8 : at + 8 + size]
        at += 8 + size + (-size % 8 if kind != _COMPRESSED else 0)  # compressed ones follow each other at once


def inflated(content: bytes, limit: int, place: str) -> bytes:
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(content, limit + 1)
    except zlib.error as error:
        raise wrong(place, f"has broken compressed bytes: {error}") from error
    if len(plain) > limit:
        raise wrong(place, f"becomes more than {BYTES:,} bytes")
    if not inflate.eof:
        raise wrong(place, "has compressed bytes that end early")
    return plain


def _array(content: bytes, order: str, place: str) -> tuple[str, NDArray[np.generic]]:
    parts = list(elements(content, order, place))
    if len(parts) != 4 or [kind for kind, _ in parts[:3]] != [6, 5, 1] or len(parts[0][1]) != 8:
        raise wrong(place, "has an array that is not flags, dimensions, name and numbers")
    flags = struct.unpack(f"{order}II", parts[0][1])[0]
    wanted, stored = _CLASS.get(flags & 0xFF), _STORED.get(parts[3][0])
    if wanted is None or stored is None or flags & 0x0800:
        raise wrong(place, f"has an array of class {flags & 0xFF}, no plain real numbers")
    name = parts[2][1].decode("latin-1")
    if not name.isidentifier() or len(name) > NAMES:
        raise wrong(place, f"has an array called `{name[:NAMES]}`")
    sizes = np.frombuffer(parts[1][1][: len(parts[1][1]) // 4 * 4], f"{order}i4").tolist()
    numbers = parts[3][1]
    width = np.dtype(stored).itemsize
    count = 1
    for size in sizes:
        count *= max(int(size), -1)
    if not 2 <= len(sizes) <= 8 or min(sizes) < 0 or count * width != len(numbers):
        raise wrong(place, f"`{name}` is {sizes}, with {len(numbers)} bytes of numbers of {width}")
    array = np.frombuffer(numbers, order + stored).astype(wanted)
    return name, array.reshape(sizes, order="F")


def wrong(place: str, what: str) -> DataError:
    return DataError("V404", f"`{place}` {what}", hint="fetch the published file again")
