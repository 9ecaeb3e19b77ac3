"""TensorFlow checkpoints made by hand, whole or wrong in one place: the table, the messages, the data files."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from vitrail.formats.crc32c import crc32c, masked
from vitrail.formats.sstable import MAGIC

FLOAT, STRING, INT64, BOOL, BFLOAT16 = 1, 7, 9, 10, 14


def number(value: int) -> bytes:
    """A varint."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(tag: int, value: int | bytes) -> bytes:
    """One field of a message: a varint, or bytes."""
    if isinstance(value, int):
        return number(tag << 3) + number(value % (1 << 64))
    return number(tag << 3 | 2) + number(len(value)) + value


def shape(sizes: Sequence[int]) -> bytes:
    return b"".join(field(2, field(1, size)) for size in sizes)


def entry(
    sizes: Sequence[int], data: bytes, *, dtype: int = FLOAT, shard: int = 0, offset: int = 0, size: int | None = None
) -> bytes:
    """A BundleEntryProto with the right checksum; fields that are 0 are left out, as protobuf does."""
    rows = [(1, dtype), (2, shape(sizes)), (3, shard), (4, offset), (5, len(data) if size is None else size)]
    return b"".join(field(tag, value) for tag, value in rows if value != 0) + crc_field(masked(crc32c(data)))


def crc_field(crc: int) -> bytes:
    return b"\x35" + struct.pack("<I", crc)


def header(shards: int = 1, endianness: int = 0, version: bytes = b"\x08\x01") -> bytes:
    rows = [(1, shards), (2, endianness), (3, version)]
    return b"".join(field(tag, value) for tag, value in rows if value != 0)


def block(rows: Sequence[tuple[bytes, bytes]], interval: int = 16) -> bytes:
    """Entries with shared beginnings, and the restart points."""
    out, starts, before = bytearray(), [0], b""
    for index, (key, value) in enumerate(rows):
        shared = 0
        if index and index % interval == 0:
            starts.append(len(out))
        elif index:
            while shared < min(len(key), len(before)) and key[shared] == before[shared]:
                shared += 1
        out += number(shared) + number(len(key) - shared) + number(len(value)) + key[shared:] + value
        before = key
    return bytes(out) + struct.pack(f"<{len(starts) + 1}I", *starts, len(starts))


def stored(body: bytes, kind: int = 0, crc: int | None = None) -> bytes:
    """A block as it lies in the file."""
    told = masked(crc32c(body + bytes([kind]))) if crc is None else crc
    return body + bytes([kind]) + struct.pack("<I", told)


def handle(offset: int, size: int) -> bytes:
    return number(offset) + number(size)


def footer(meta: bytes, index: bytes) -> bytes:
    return (meta + index).ljust(40, b"\0") + MAGIC


def table(blocks: Sequence[Sequence[tuple[bytes, bytes]]], pack: bool = False) -> bytes:
    """A whole table; pack: every block as one snappy literal."""
    out, rows = b"", []
    for pairs in [*blocks, []]:
        body = block(pairs)
        if pairs:
            rows.append((pairs[-1][0], body))
        kind = 0
        if pack:
            body, kind = number(len(body)) + bytes([61 << 2]) + (len(body) - 1).to_bytes(2, "little") + body, 1
        rows[-1:] = [(rows[-1][0], handle(len(out), len(body)))] if pairs else rows[-1:]
        meta = handle(len(out), len(body))
        out += stored(body, kind)
    body = block(rows)
    return out + stored(body) + footer(meta, handle(len(out), len(body)))


def text(strings: Sequence[bytes]) -> tuple[bytes, int]:
    """A tensor of strings as it lies in the data file, and its checksum."""
    crc = crc32c(b"".join(struct.pack("<I", len(string)) for string in strings))
    rest = struct.pack("<I", masked(crc)) + b"".join(strings)
    return b"".join(number(len(string)) for string in strings) + rest, masked(crc32c(rest, crc))


def write(prefix: Path, index: bytes, *data: bytes) -> Path:
    """The files of a checkpoint; the path of its index."""
    for shard, content in enumerate(data):
        prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{len(data):05d}").write_bytes(content)
    path = prefix.with_name(prefix.name + ".index")
    path.write_bytes(index)
    return path
