"""The directory of a zip file, read by strict rules: one name once, no overlap, no second truth in local headers."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from vitrail.disk import CHUNK
from vitrail.formats.bounds import HEADER_BYTES, TENSORS, check_names, damaged, hostile, shown
from vitrail.formats.held import Held

MAGIC = b"PK\x03\x04"
_MEMBERS = TENSORS + 64
_FULL = 0xFFFFFFFF
_UNIX = (3, 19)  # systems that packed it, which note a file's type: Unix, macOS


@dataclass(frozen=True, slots=True)
class Member:
    """One file in a zip: its bytes lie at `start`, `packed` of them; method 0 is stored as it is."""

    name: str
    method: int
    flags: int
    crc: int
    packed: int
    size: int
    header: int
    start: int = 0
    mode: int = 0  # type and permissions where a Unix packed it


class File(Protocol):
    """What a directory is read from: exact ranges of a file of known size."""

    @property
    def path(self) -> Path: ...

    @property
    def size(self) -> int: ...

    def read(self, offset: int, length: int, /) -> bytes | memoryview: ...


def members(file: Held) -> dict[str, Member]:
    """name -> Member, in the order of the bytes; WeightsError V201 or V202 for everything that two readers could see
    differently: names twice or equal but for case, overlaps, comments, encryption, local headers that disagree.
    """
    offset, size, count = end_record(file)
    if size > HEADER_BYTES or count > _MEMBERS:
        raise hostile(file.path, f"a zip directory of {count} names in {size} bytes")
    found = list(records(file, offset, size, count, _text))
    _check_unique([member.name for member in found], file)
    return _placed(sorted(found, key=lambda member: member.header), offset, file)


def records(file: File, offset: int, size: int, count: int, text: Callable[[bytes, File], str]) -> Iterator[Member]:
    """The members as the directory names them, without a look at their own headers. text: what a name's bytes mean."""
    directory = bytes(file.read(offset, size))
    at = 0
    for _ in range(count):
        member, at = _entry(directory, at, file, text)
        yield member
    if at != size:
        raise damaged(file.path, f"the zip directory holds more than its {count} names")


def end_record(file: File) -> tuple[int, int, int]:
    """Offset, size and count of the directory."""
    if file.size < 22:
        raise damaged(file.path, f"{file.size} bytes are too few for a zip file")
    end = file.size - 22
    magic, disk, first, here, count, size, offset, comment = struct.unpack("<4s4H2IH", file.read(end, 22))
    if magic != b"PK\x05\x06":
        raise damaged(file.path, "does not end with a zip directory: cut off, or followed by other bytes")
    if disk or first or comment or here != count:
        raise hostile(file.path, "a zip file in several parts or with a comment")
    if end >= 20 and bytes(file.read(end - 20, 4)) == b"PK\x06\x07":
        end, offset, size, count = _zip64(file, end - 20, (offset, size, count))
    if offset + size != end:
        raise damaged(file.path, f"the zip directory of {size} bytes at {offset} does not end at {end}")
    return offset, size, count


def _zip64(file: File, locator: int, short: tuple[int, int, int]) -> tuple[int, int, int, int]:
    _, disk, end, disks = struct.unpack("<4sIQI", file.read(locator, 20))
    if disk or disks > 1 or end + 56 != locator:
        raise damaged(file.path, "the zip64 locator points elsewhere than before itself")
    magic, length, _, _, disk, first, here, count, size, offset = struct.unpack("<4sQ2H2I4Q", file.read(end, 56))
    if magic != b"PK\x06\x06" or length != 44 or disk or first or here != count:
        raise damaged(file.path, "the zip64 end record is not understood")
    for told, full, true in zip(short, (_FULL, _FULL, 0xFFFF), (offset, size, count), strict=True):
        if told not in (full, true):
            raise hostile(file.path, "the two end records of the zip file disagree")
    return end, offset, size, count


def _entry(directory: bytes, at: int, file: File, text: Callable[[bytes, File], str]) -> tuple[Member, int]:
    if len(directory) - at < 46:
        raise damaged(file.path, "the zip directory ends early")
    magic, by, flags, method, crc, packed, size, n, e, c, disk, attributes, header = struct.unpack_from(
        "<4sH2x2H4x3I4H2x2I", directory, at
    )
    end = at + 46 + n + e + c
    if magic != b"PK\x01\x02" or end > len(directory):
        raise damaged(file.path, "the zip directory is not readable")
    name = text(directory[at + 46 : at + 46 + n], file)
    if flags & 0x2041 or disk:
        raise hostile(file.path, f"the member `{shown(name)}` is encrypted or in another part")
    wide = _wide_sizes(directory[at + 46 + n : at + 46 + n + e], (size, packed, header), file)
    mode = attributes >> 16 if by >> 8 in _UNIX else 0
    return Member(name, method, flags, crc, wide[1], wide[0], wide[2], mode=mode), end


def _wide_sizes(extra: bytes, short: tuple[int, int, int], file: File) -> list[int]:
    """Sizes and place with the zip64 field put in where the short ones are full."""
    values, seen, at = list(short), False, 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<2H", extra, at)
        field = extra[at + 4 : at + 4 + length]
        at += 4 + length
        if tag != 1:
            continue
        full = [index for index, value in enumerate(short) if value == _FULL]
        if seen or len(field) < 8 * len(full):
            raise damaged(file.path, "a zip64 field is doubled or too short")
        seen = True
        for index, value in zip(full, struct.unpack_from(f"<{len(full)}Q", field), strict=True):
            values[index] = value
    return values


def _text(raw: bytes, file: File) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise hostile(file.path, "a member's name is not UTF-8") from None


def _check_unique(names: list[str], file: Held) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise hostile(file.path, f"two members are named `{shown(name)}`")
        seen.add(name)
    check_names(names, file.path)


def _placed(found: list[Member], directory: int, file: Held) -> dict[str, Member]:
    """The members with their true start, once each local header agrees and no two share a byte."""
    placed: dict[str, Member] = {}
    end = 0
    for member in found:
        if member.header < end:
            raise hostile(file.path, f"the member `{shown(member.name)}` overlaps the one before it")
        magic, flags, method, crc, packed, size, n, e = struct.unpack("<4s2x2H4x3I2H", file.read(member.header, 30))
        start = member.header + 30 + n + e
        end = start + member.packed
        if magic != MAGIC or end > directory:
            raise damaged(file.path, f"the member `{shown(member.name)}` does not lie inside the file")
        if bytes(file.read(member.header + 30, n)) != member.name.encode() or (method, flags) != (
            member.method,
            member.flags,
        ):
            raise hostile(file.path, f"the two headers of the member `{shown(member.name)}` disagree")
        later = flags & 8 and not (crc or packed or size)  # sizes and CRC follow the bytes
        if not later and (
            crc != member.crc or packed not in (member.packed, _FULL) or size not in (member.size, _FULL)
        ):
            raise hostile(file.path, f"the two headers of the member `{shown(member.name)}` disagree")
        placed[member.name] = replace(member, start=start)
    return placed


def stored_bytes(file: Held, member: Member, *, limit: int | None = None) -> memoryview:
    """The bytes of a member that is stored without compression, its CRC checked; WeightsError V201 or V202."""
    if member.method != 0 or member.packed != member.size:
        raise hostile(
            file.path, f"the member `{shown(member.name)}` is compressed", hint="pack it again without compression"
        )
    if limit is not None and member.size > limit:
        raise hostile(file.path, f"the member `{shown(member.name)}` has {member.size} bytes, the limit is {limit}")
    data = file.read(member.start, member.size)
    crc = 0
    for at in range(0, len(data), CHUNK):
        crc = zlib.crc32(data[at : at + CHUNK], crc)
    if crc != member.crc:
        raise damaged(file.path, f"the member `{shown(member.name)}` has CRC {crc:08x}, not {member.crc:08x}")
    return data
