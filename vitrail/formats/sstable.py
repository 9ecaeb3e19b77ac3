"""Sorted string tables of LevelDB, as TensorFlow writes them: keys and values in checked blocks, read whole.

data blocks | metaindex block | index block | footer: two handles, padding to 40 bytes, magic
block:  entries | restart offsets u32 | their count u32 || type (0 plain, 1 snappy) | CRC-32C, masked
entry:  varints shared, rest, value | rest of the key | value
"""

from __future__ import annotations

import struct

from vitrail.formats import snappy
from vitrail.formats.bounds import HEADER_BYTES, NAME_BYTES, TENSORS, damaged, hostile
from vitrail.formats.crc32c import crc32c, masked
from vitrail.formats.held import Held
from vitrail.formats.protobuf import varint

MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER, _TRAILER = 48, 5
_KEY_BYTES = NAME_BYTES + 128
_KEYS = TENSORS + 1
_EMPTY = 64 << 10  # an index of few tensors may unpack to this much, whatever its size


def read(file: Held) -> dict[bytes, bytes]:
    """key -> value in the order of the keys; WeightsError V201 damaged, V202 beyond a limit."""
    if file.size > HEADER_BYTES:
        raise hostile(file.path, f"a table of {file.size} bytes, the limit is {HEADER_BYTES}")
    data = bytes(file.read(0, file.size))
    if len(data) < _FOOTER or data[-8:] != MAGIC:
        raise damaged(file.path, "does not end as a table: cut off, or of another format")
    try:
        return _Table(data).entries()
    except ValueError as error:
        raise damaged(file.path, f"its table {error}") from None
    except _TooLarge as error:
        raise hostile(file.path, str(error)) from None


class _TooLarge(Exception):
    pass


class _Table:
    """The bytes of a table, and how many more its blocks may unpack to.  ValueErrors go on after `its table`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = min(HEADER_BYTES, 64 * len(data) + _EMPTY)

    def entries(self) -> dict[bytes, bytes]:
        end = len(self._data) - _FOOTER
        footer = self._data[end:]
        meta, at = _handle(footer, 0)
        index, at = _handle(footer, at)
        if any(footer[at:-8]):
            raise ValueError("has other bytes than zeros in its footer")
        if self._pairs(meta, 0, min(index[0], end)):
            raise ValueError("has a meta block, which TensorFlow does not write")
        found: dict[bytes, bytes] = {}
        start = 0  # blocks lie one behind the other, so that no byte is read as two
        for last, place in self._pairs(index, meta[0], end):
            handle, handle_end = _handle(place, 0)
            if handle_end != len(place):
                raise ValueError("has a handle with more bytes behind it")
            block = self._pairs(handle, start, meta[0])
            start = handle[0] + handle[1]
            if block and (last < block[-1][0] or (found and block[0][0] <= next(reversed(found)))):
                raise ValueError("has blocks out of order")
            found.update(block)
            if len(found) > _KEYS:
                raise _TooLarge(f"more than {TENSORS} tensors")
        return found

    def _pairs(self, handle: tuple[int, int], start: int, end: int) -> list[tuple[bytes, bytes]]:
        """The keys, ascending, and values of the block there, which must lie between `start` and `end`."""
        offset, size = handle
        if not start <= offset <= offset + size + _TRAILER <= end:
            raise ValueError(f"has a block of {size} bytes at {offset}, where none can lie")
        block = self._block(offset, size)
        if len(block) < 4:
            raise ValueError("has a block without restart points")
        (count,) = struct.unpack("<I", block[-4:])
        end = len(block) - 4 - 4 * count
        if count < 1 or end < 0 or count > _KEYS:
            raise ValueError(f"has a block of {len(block)} bytes with {count} restart points")
        restarts = set(struct.unpack(f"<{count}I", block[end:-4]))
        pairs: list[tuple[bytes, bytes]] = []
        starts = {0}
        at, key = 0, b""
        while at < end:
            shared, begin = varint(block, at)
            rest, begin = varint(block, begin)
            size, begin = varint(block, begin)
            if shared > len(key) or rest + size > end - begin or shared + rest > _KEY_BYTES:
                raise ValueError("has an entry that does not lie inside its block")
            if not shared:
                starts.add(at)
            before, key = key, key[:shared] + block[begin : begin + rest]
            if pairs and key <= before:
                raise ValueError(f"has the key {_named(key)} twice, or out of order")
            if len(pairs) >= _KEYS:
                raise _TooLarge(f"more than {TENSORS} tensors")
            pairs.append((key, block[begin + rest : begin + rest + size]))
            at = begin + rest + size
        if not restarts <= starts:
            raise ValueError("has a restart point where no entry begins")
        return pairs

    def _block(self, offset: int, size: int) -> bytes:
        body, kind = self._data[offset : offset + size], self._data[offset + size]
        (told,) = struct.unpack_from("<I", self._data, offset + size + 1)
        crc = masked(crc32c(self._data[offset : offset + size + 1]))
        if crc != told:
            raise ValueError(f"has a block at {offset} with CRC {crc:08x}, not {told:08x}")
        if kind == 1:
            try:
                body = snappy.decompress(body, self._left)
            except ValueError as error:
                raise ValueError(f"has a snappy block at {offset} that holds {error}") from None
        elif kind != 0:
            raise ValueError(f"has a block of the unknown type {kind}")
        self._left -= len(body)
        if self._left < 0:
            raise _TooLarge("its table unpacks to more than such a file may")
        return body


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return (offset, size), at


def _named(key: bytes) -> str:
    return repr(key[:80])[1:]
