"""Keras 3 models (`.keras`): a zip of which only `model.weights.h5` is read.

`config.json` names classes and may hold code that Keras would run; here it stays a closed member.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

from vitrail.formats import hdf5, zip_directory
from vitrail.formats.bounds import damaged, hostile
from vitrail.formats.held import Held, hold
from vitrail.formats.stored import Tensors

WEIGHTS = "model.weights.h5"
_BESIDE = ("metadata.json", "config.json", WEIGHTS)
_EXPANSION = 8  # of the weights, which deflate hardly makes smaller
_SPARE = 1 << 20
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class _Inside:
    """The bytes of one member, read as a file is."""

    path: Path
    data: memoryview

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, offset: int, length: int) -> memoryview:
        if offset < 0 or length < 0 or offset + length > len(self.data):
            raise damaged(self.path, f"{length} bytes at {offset} lie outside the {len(self.data)} of `{WEIGHTS}`")
        return self.data[offset : offset + length]


def read(path: Path, *, sha256: str | None = None) -> Tensors:
    """All datasets of a model's weights by their full path; errors as of `hdf5.read`."""
    with hold(path, sha256=sha256) as file:
        return parse(file)


def parse(file: Held) -> Tensors:
    """As `read`, from a file that is already held."""
    found = zip_directory.members(file)
    for name in found:
        if name not in _BESIDE and not name.startswith("assets/"):
            raise hostile(file.path, f"the member `{name}` has no place in a Keras model")
    if WEIGHTS not in found:
        raise damaged(file.path, f"has no `{WEIGHTS}`", hint="save the model again with Keras")
    return hdf5.parse(_Inside(file.path, _bytes(file, found[WEIGHTS])))


def _bytes(file: Held, member: zip_directory.Member) -> memoryview:
    """The plain bytes of a member that is stored or deflated, its CRC checked."""
    if member.method == 0:
        return zip_directory.stored_bytes(file, member)
    if member.method != 8:
        raise hostile(file.path, f"the member `{member.name}` is packed by method {member.method}")
    if member.size > _EXPANSION * member.packed + _SPARE:
        raise hostile(file.path, f"the member `{member.name}` unpacks {member.packed} bytes to {member.size}")
    return _inflated(file, member)


def _inflated(file: Held, member: zip_directory.Member) -> memoryview:
    out, crc = bytearray(), 0
    stream = zlib.decompressobj(-15)
    try:
        for at in range(0, member.packed, _PIECE):
            data: bytes | memoryview = file.read(member.start + at, min(_PIECE, member.packed - at))
            while len(data) and not stream.eof:
                piece = stream.decompress(data, _PIECE)
                data = stream.unconsumed_tail
                out += piece
                crc = zlib.crc32(piece, crc)
                if len(out) > member.size:
                    raise damaged(file.path, f"the member `{member.name}` is longer than its {member.size} bytes")
            if len(data) or stream.unused_data:
                raise damaged(file.path, f"the member `{member.name}` ends before its {member.packed} packed bytes")
    except zlib.error as error:
        raise damaged(file.path, f"the member `{member.name}` is not deflated: {error}") from None
    rest = stream.flush()
    out += rest
    crc = zlib.crc32(rest, crc)
    if not stream.eof or len(out) != member.size or crc != member.crc:
        raise damaged(file.path, f"the member `{member.name}` is not what its {member.size} bytes and CRC say")
    return memoryview(out).toreadonly()
