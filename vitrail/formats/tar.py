"""Tar archives by strict rules: ustar, GNU long names and wide sizes, pax. Every checksum holds, nothing is sparse.

A member is a name and a range of bytes. What it claims to be (a link, a device) is told and never made; modes, owners
and times are passed over. POSIX.1-2017 pax; GNU tar's manual, "Basic Tar Format".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from vitrail.formats.bounds import damaged, hostile, shown
from vitrail.formats.ranges import Read

BLOCK = 512
LONG_BYTES = 1 << 20  # of a pax header, and of a long name
PADDING_BYTES = 16 << 20  # zeros that may follow the end

_FILE, _LINKS, _SPECIAL = (b"0", b"\0", b"7"), {b"1": "a hard link", b"2": "a symbolic link"}, (b"3", b"4", b"6")
_NAME_BYTES = 4096
_ZERO = bytes(BLOCK)

Kind = Literal["file", "folder", "link", "special"]


class Member(NamedTuple):
    """One member: `size` bytes from `start`. Its name is as it stands there, foreign bytes as lone surrogates."""

    name: str
    kind: Kind
    start: int
    size: int


@dataclass
class _Later:
    """What a header says of the member after it."""

    name: str | None = None
    pax: Mapping[str, bytes] | None = None
    long_link: bool = False


def members(read: Read, path: Path) -> Iterator[Member]:
    """The members in the order of the bytes; between two of them `read` may be asked for the first one's bytes.

    read need only go forward. WeightsError V201 for damage, V202 for what is sparse, too long or said twice.
    """
    at, later = 0, _Later()
    while True:
        header = read(at, BLOCK)
        if header == _ZERO:
            if later != _Later():
                raise damaged(path, "ends after a header that speaks of the member after it")
            _check_end(read, at, path)
            return
        if len(header) != BLOCK:
            raise damaged(path, "is cut off: a tar archive ends with zeros")
        _check_sum(header, at, path)
        kind, size = header[156:157], _number(header[124:136], "size", at, path)
        start = at + BLOCK
        at = start + -(-size // BLOCK) * BLOCK
        if kind in (b"x", b"g", b"L", b"K"):
            if size > LONG_BYTES:
                raise hostile(path, f"a header of {size} bytes at {start - BLOCK}, the limit is {LONG_BYTES}")
            data = read(start, size)
            if len(data) != size:
                raise damaged(path, "is cut off inside a header")
            _note(kind, data, later, path)
            continue
        member = _member(header, start, size, later, path)
        at = start + -(-member.size // BLOCK) * BLOCK
        later = _Later()
        yield member


def _member(header: bytes, start: int, size: int, later: _Later, path: Path) -> Member:
    kind, pax = header[156:157], later.pax or {}
    if later.name is not None and "path" in pax:
        raise hostile(path, f"the member `{shown(later.name)}` has two long names")
    name = _text(pax["path"], path) if "path" in pax else later.name
    if name is None:
        name = _short_name(header)
    if any(key.startswith("GNU.sparse") for key in pax) or kind == b"S":
        raise hostile(path, f"the member `{shown(name)}` is sparse", hint="pack it without --sparse")
    if "size" in pax:
        if not re.fullmatch(rb"\d{1,18}", pax["size"]):
            raise damaged(path, f"the member `{shown(name)}` has a size that is no number")
        size = int(pax["size"])
    if kind in _FILE and not (name.endswith("/") and kind == b"\0"):
        return Member(name, "file", start, size)
    if size and (kind == b"5" or name.endswith("/")):
        raise damaged(path, f"the folder `{shown(name)}` has {size} bytes")
    if kind == b"5" or kind == b"\0":
        return Member(name, "folder", start, 0)
    if kind in _LINKS:
        return Member(name, "link", start, 0)
    if kind in _SPECIAL:
        return Member(name, "special", start, 0)
    raise hostile(path, f"the member `{shown(name)}` is of the unknown kind {kind!r}")


def _note(kind: bytes, data: bytes, later: _Later, path: Path) -> None:
    if kind == b"L":
        if later.name is not None:
            raise hostile(path, f"a long name follows the long name `{shown(later.name)}`")
        later.name = _text(data.rstrip(b"\0"), path)
    elif kind == b"x":
        if later.pax is not None:
            raise hostile(path, "two pax headers speak of one member")
        later.pax = _records(data, path)
    elif kind == b"g" and {"path", "size", "linkpath"} & set(_records(data, path)):
        raise hostile(path, "a global pax header gives a name or a size to every member")
    elif kind == b"K":
        if later.long_link:
            raise hostile(path, "two long link names speak of one member")
        later.long_link = True


def _records(data: bytes, path: Path) -> dict[str, bytes]:
    """`LENGTH KEY=VALUE\\n`, one after the other."""
    found: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        match = re.compile(rb"([1-9]\d{0,8}) ([^=]+)=").match(data, at)
        end = at + int(match[1]) if match else -1
        if match is None or end > len(data) or end <= match.end() or data[end - 1 : end] != b"\n":
            raise damaged(path, "a pax header is not readable")
        key = match[2].decode("utf-8", "surrogateescape")
        if key in found:
            raise hostile(path, f"a pax header says `{shown(key)}` twice")
        found[key] = data[match.end() : end - 1]
        at = end
    return found


def _short_name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and header[345:346] != b"\0":
        name = header[345:500].partition(b"\0")[0] + b"/" + name
    return name.decode("utf-8", "surrogateescape")


def _text(raw: bytes, path: Path) -> str:
    if not raw or len(raw) > _NAME_BYTES or b"\0" in raw:
        raise hostile(path, f"a member's name of {len(raw)} bytes, or with a NUL in it")
    return raw.decode("utf-8", "surrogateescape")


def _number(field: bytes, what: str, at: int, path: Path) -> int:
    """Octal digits, or GNU's number in base 256."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=True) if field[0] == 0xFF else int.from_bytes(field[1:], "big")
        if field[0] not in (0x80, 0xFF) or not 0 <= value < 1 << 60:
            raise hostile(path, f"the header at {at} has a {what} of {value}")
        return value
    text = field.partition(b"\0")[0].strip(b" ")
    if not re.fullmatch(rb"[0-7]*", text):
        raise damaged(path, f"the header at {at} has a {what} that is no number")
    return int(text or b"0", 8)


def _check_sum(header: bytes, at: int, path: Path) -> None:
    told = _number(header[148:156], "checksum", at, path)
    found = sum(header) - sum(header[148:156]) + 8 * 32
    if told != found:
        raise damaged(path, f"the header at {at} has the checksum {found}, it says {told}")


def _check_end(read: Read, at: int, path: Path) -> None:
    """Two blocks of zeros end an archive, and nothing but zeros may follow."""
    if read(at + BLOCK, BLOCK) != _ZERO:
        raise damaged(path, f"a header of zeros at {at} stands alone")
    end = at + 2 * BLOCK
    while data := read(end, 1 << 16):
        if data.count(0) != len(data):
            raise hostile(path, f"other bytes follow its end at {at}")
        end += len(data)
        if end - at > PADDING_BYTES:
            raise hostile(path, f"more than {PADDING_BYTES} bytes of zeros follow its end at {at}")
