"""The files of a large zip, read in place: the directory is read once, each member's own header when it is wanted.

Stricter than unzip where two readers could see two things: names twice, overlaps, headers that disagree, encryption.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrail.disk import CHUNK
from vitrail.formats.bounds import damaged, hostile, shown
from vitrail.formats.ranges import Ranges, Read
from vitrail.formats.zip_directory import MAGIC, File, Member, end_record, records

DIRECTORY_BYTES = 1 << 30
MEMBERS = 5_000_000
_STORED, _DEFLATED = 0, 8
_HEADER = struct.Struct("<4s2x2H4x3I2H")


@dataclass(frozen=True)
class ZipFiles:
    """Regular files in a zip, in the order of its directory. sizes: bytes of each, unpacked."""

    file: Ranges
    names: tuple[str, ...]  # foreign bytes as lone surrogates
    folders: tuple[str, ...]
    sizes: NDArray[np.int64]
    packed: NDArray[np.int64]
    crcs: NDArray[np.uint32]
    methods: NDArray[np.uint8]
    headers: NDArray[np.int64]
    ends: NDArray[np.int64]  # where the next member, or the directory, begins

    def read(self, index: int) -> bytes:
        """The bytes of file `index`, its CRC checked; WeightsError V201 or V202."""
        with self.file.opened() as read:
            return b"".join(self.chunks(index, read))

    def chunks(self, index: int, read: Read) -> Iterator[bytes]:
        """The same, piece by piece, through an open file."""
        start, left = self._start(index, read), int(self.packed[index])
        deflated, due, crc = self.methods[index] == _DEFLATED, int(self.sizes[index]), 0
        inflate = zlib.decompressobj(-15)
        while left:
            data = read(start, min(left, CHUNK))
            if not data:
                raise damaged(self.file.path, f"the member `{shown(self.names[index])}` is cut off")
            start, left = start + len(data), left - len(data)
            for piece in self._inflated(index, inflate, data, due) if deflated else (data,):
                due, crc = due - len(piece), zlib.crc32(piece, crc)
                yield piece
        if due or crc != self.crcs[index] or (deflated and (not inflate.eof or inflate.unused_data)):
            raise damaged(self.file.path, f"the member `{shown(self.names[index])}` is damaged: length or CRC")

    def _inflated(self, index: int, inflate: zlib._Decompress, data: bytes, due: int) -> Iterator[bytes]:
        try:
            while data:
                piece = inflate.decompress(data, CHUNK)
                data, due = inflate.unconsumed_tail, due - len(piece)
                if due < 0:
                    raise hostile(self.file.path, f"the member `{shown(self.names[index])}` is longer than it says")
                yield piece
            if piece := inflate.flush():
                yield piece
        except zlib.error as error:
            raise damaged(self.file.path, f"the member `{shown(self.names[index])}`: {error}") from error

    def _start(self, index: int, read: Read) -> int:
        """Where the bytes of file `index` begin, once its own header agrees with the directory."""
        at, name = int(self.headers[index]), self.names[index].encode("utf-8", "surrogateescape")
        header = read(at, _HEADER.size + len(name))
        if len(header) != _HEADER.size + len(name):
            raise damaged(self.file.path, f"the member `{shown(self.names[index])}` does not lie inside the file")
        magic, flags, method, crc, packed, size, n, e = _HEADER.unpack_from(header)
        start = at + _HEADER.size + int(n) + int(e)
        if magic != MAGIC or start + self.packed[index] > self.ends[index]:
            raise damaged(self.file.path, f"the member `{shown(self.names[index])}` does not lie where it should")
        told = (crc, packed, size)
        true = (self.crcs[index], self.packed[index], self.sizes[index])
        later = flags & 8 and not any(told)  # sizes and CRC follow the bytes
        same = all(a in (int(b), 0xFFFFFFFF) for a, b in zip(told, true, strict=True))
        if header[_HEADER.size :] != name or method != self.methods[index] or not (later or same):
            raise hostile(self.file.path, f"the two headers of the member `{shown(self.names[index])}` disagree")
        return start


def zip_files(file: Ranges) -> ZipFiles:
    """The files of a zip; WeightsError V201 or V202 for a directory that two readers could see differently."""
    offset, size, count = end_record(file)
    if size > DIRECTORY_BYTES or count > MEMBERS:
        raise hostile(file.path, f"a zip directory of {count} names in {size} bytes")
    folders: list[str] = []
    found = []
    names: set[str] = set()
    for member in records(file, offset, size, count, _any_text):
        if member.name in names:
            raise hostile(file.path, f"two members are named `{shown(member.name)}`")
        names.add(member.name)
        _check(member, file)
        if member.name.endswith("/"):
            folders.append(member.name)
        found.append(member)
    rows = np.array([(m.header, m.packed, m.size, m.crc, m.method) for m in found], np.int64).reshape(-1, 5)
    ends = _ends(rows[:, 0], rows[:, 1], [m.name for m in found], offset, file)
    kept = np.array([not m.name.endswith("/") for m in found], bool)
    rows, ends = rows[kept], ends[kept]
    return ZipFiles(
        file=file,
        names=tuple(m.name for m in found if not m.name.endswith("/")),
        folders=tuple(folders),
        headers=rows[:, 0],
        packed=rows[:, 1],
        sizes=rows[:, 2],
        crcs=rows[:, 3].astype(np.uint32),
        methods=rows[:, 4].astype(np.uint8),
        ends=ends,
    )


def _any_text(raw: bytes, file: File) -> str:
    if not raw or b"\0" in raw:
        raise hostile(file.path, "a member without a name, or with a NUL in it")
    return raw.decode("utf-8", "surrogateescape")


def _check(member: Member, file: Ranges) -> None:
    kind = stat.S_IFMT(member.mode)
    is_folder = member.name.endswith("/")
    if kind not in (0, stat.S_IFDIR if is_folder else stat.S_IFREG):
        raise hostile(file.path, f"the member `{shown(member.name)}` is a link or no regular file")
    if is_folder and (member.size or member.packed > 2):  # an empty deflated stream has two bytes
        raise damaged(file.path, f"the folder `{shown(member.name)}` has {member.size} bytes")
    if member.method not in (_STORED, _DEFLATED):
        raise hostile(file.path, f"the member `{shown(member.name)}` is packed by method {member.method}")
    if member.method == _STORED and member.packed != member.size:
        raise damaged(file.path, f"the member `{shown(member.name)}` is stored with two sizes")
    if max(member.header, member.packed, member.size) >= 1 << 60:
        raise hostile(file.path, f"the member `{shown(member.name)}` has {member.size} bytes")


def _ends(
    headers: NDArray[np.int64], packed: NDArray[np.int64], names: list[str], directory: int, file: Ranges
) -> NDArray[np.int64]:
    """Where each member's room ends; V202 where two share a byte."""
    order = np.argsort(headers, kind="stable")
    ends = np.empty_like(headers)
    ends[order] = np.append(headers[order][1:], directory)
    lengths = np.array([_HEADER.size + len(name.encode("utf-8", "surrogateescape")) for name in names], np.int64)
    short = np.flatnonzero(headers + lengths + packed > ends)
    if short.size:
        raise hostile(file.path, f"the member `{shown(names[int(short[0])])}` overlaps the one after it")
    return ends
