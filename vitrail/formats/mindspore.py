"""Checkpoints of MindSpore (`.ckpt`): protobuf messages, one for each parameter, read without MindSpore or protobuf.

    0a LEN | 0a LEN name | 12 LEN | 08 d 08 d ...  sizes | 12 LEN "Float32" | 1a LEN elements
    0a LEN | ...  and at the end, if it was asked for: "crc_num" and 10 bytes

The heads of all entries are read first, in small pieces; then each tensor's elements go straight to its memory.  Text
(`append_dict`), hash tables and 4-bit integers are no tensors here and become notes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from vitrail import disk
from vitrail.errors import UsageError, WeightsError, printable
from vitrail.formats import mindspore_encrypted
from vitrail.formats.bounds import (
    NAME_BYTES,
    RANK,
    TENSORS,
    check_names,
    check_shape,
    damaged,
    hostile,
    shown,
)
from vitrail.formats.held import Held, hold, room
from vitrail.formats.stored import DTYPES, Stored, Tensors, bools_are_bits
from vitrail.formats.wire import Readable, Span, Wire

SLICE = 1 << 29  # bytes; MindSpore cuts larger tensors into consecutive entries of one name
ENTRY = (1 << 31) - 1  # bytes of one message, protobuf's own limit
TYPE_BYTES = 32

_CRC = b"crc_num"
_CRC_BYTES = len(_CRC) + 10

# MindSpore's word -> ours; the reader of 1.5 knows `Uint8` and the writers say `UInt8`, so case does not count
_TYPES = {
    "Float64": "F64", "Float32": "F32", "Float16": "F16", "BFloat16": "BF16", "Int64": "I64", "Int32": "I32",
    "Int16": "I16", "Int8": "I8", "UInt64": "U64", "UInt32": "U32", "UInt16": "U16", "UInt8": "U8", "Bool": "BOOL",
}  # fmt: skip
_WORDS = {theirs.lower(): ours for theirs, ours in _TYPES.items()}
_THEIRS = {ours: theirs for theirs, ours in _TYPES.items()}


class _Entry(NamedTuple):
    """A name and what stands under it: MindSpore's word in lower case, or "table"; the places of its elements."""

    name: str
    kind: str
    dims: tuple[int, ...]
    parts: tuple[Span, ...]


def read(path: Path, *, sha256: str | None = None, key: bytes | None = None) -> tuple[Tensors, list[str]]:
    """All tensors of a checkpoint by name, in the order of the file, and a note for everything that was passed over.

    key: the 16, 24 or 32 bytes that an encrypted file was saved with.  WeightsError V201 for damaged bytes, another
    SHA-256 than the given one (then nothing was parsed) or another CRC than the file's own, V202 for what exceeds a
    limit, V206 for an encrypted file without its key; SystemFault V702 when the file cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder) / "w.ckpt", {"head.bias": Stored("U8", (3,), b"abc")})
    ...     read(Path(folder) / "w.ckpt")[0]["head.bias"].shape
    (3,)
    """
    with hold(path, sha256=sha256) as file:
        return parse(file, key)


def parse(file: Held, key: bytes | None = None) -> tuple[Tensors, list[str]]:
    """As `read`, from a file that is already held.  All heads are read before the first tensor is."""
    source: Readable = file
    if cipher := mindspore_encrypted.cipher(file):
        if key is None:
            raise WeightsError(
                "V206",
                f"`{file.path}` is a checkpoint of MindSpore, encrypted with {cipher}",
                hint="give the key it was saved with, or save it again without enc_key",
            )
        source = mindspore_encrypted.decrypted(file, key)
    crc, end = _told_crc(source)
    entries = _joined(_entries(Wire(source), end), source)
    shapes = [_shape(entry, source) for entry in entries]
    content = _Content(source, checked=crc is not None)
    tensors: Tensors = {}
    notes: list[str] = []
    for entry, shape in zip(entries, shapes, strict=True):
        if shape is None:
            notes.append(_note(entry, source))
        else:
            tensors[entry.name] = _tensor(entry, shape, content)
    if crc is not None and content.crc_up_to(end) != crc:
        raise damaged(file.path, f"its CRC is {content.crc_up_to(end):08x}, it says {crc:08x} of itself")
    return tensors, notes


def recognised(file: Held) -> bool:
    """True when the file begins as a checkpoint does, encrypted or not: the format has no magic of its own."""
    if mindspore_encrypted.cipher(file):
        return True
    try:
        return next(_entries(Wire(file), file.size), None) is not None
    except WeightsError:
        return False


def _told_crc(file: Readable) -> tuple[int | None, int]:
    """The CRC-32 that the file states of itself, if it does, and where its messages end."""
    end = max(file.size - _CRC_BYTES, 0)
    tail = bytes(file.read(end, file.size - end))
    if len(tail) < _CRC_BYTES or not tail.startswith(_CRC):
        return None, file.size
    return int.from_bytes(tail[len(_CRC) :], "big"), end


def _entries(wire: Wire, end: int) -> Iterator[_Entry]:
    for count, (number, span) in enumerate(wire.fields(Span(0, end))):
        if number != 1 or isinstance(span, int):
            raise wire.wrong(f"field {number} where an entry should begin")
        if span.size > ENTRY:
            raise hostile(wire.file.path, f"an entry of {span.size} bytes, the limit is {ENTRY}")
        if count == TENSORS:
            raise hostile(wire.file.path, f"more than {TENSORS} entries")
        yield _entry(wire, span)


def _entry(wire: Wire, span: Span) -> _Entry:
    found: dict[int, Span] = {}
    for number, value in wire.fields(span):
        if number not in (1, 2, 3) or number in found or isinstance(value, int):
            raise wire.wrong(f"field {number} in an entry, unknown, twice or of another type")
        found[number] = value
    if set(found) not in ({1, 2}, {1, 3}):
        raise wire.wrong("an entry that has no name, or not one value")
    name = wire.text(found[1], NAME_BYTES, "a name")
    if 3 in found:
        return _Entry(name, "table", (), (found[3],))
    return _tensor_entry(name, wire, found[2])


def _tensor_entry(name: str, wire: Wire, span: Span) -> _Entry:
    dims: list[int] = []
    found: dict[int, Span] = {}
    for number, value in wire.fields(span):
        if number == 1:
            dims += wire.sizes(value)
            if len(dims) > RANK:
                raise hostile(wire.file.path, f"`{shown(name)}` has more than {RANK} dimensions")
        elif number not in (2, 3) or number in found or isinstance(value, int):
            raise wire.wrong(f"field {number} in `{shown(name)}`, unknown, twice or of another type")
        else:
            found[number] = value
    if len(found) != 2:
        raise wire.wrong(f"`{shown(name)}` without its type or its elements")
    kind = wire.text(found[2], TYPE_BYTES, f"`{shown(name)}` has a type")
    if kind.lower() not in (*_WORDS, "str", "int4"):
        raise damaged(
            wire.file.path,
            f"`{shown(name)}` is of type `{shown(kind)}`",
            hint=f"convert it with MindSpore; known: {', '.join(_TYPES)}",
        )
    return _Entry(name, kind.lower(), tuple(dims), (found[3],))


def _joined(entries: Iterator[_Entry], file: Readable) -> list[_Entry]:
    """One entry for each name: what follows under the same name goes on with the same tensor."""
    found: dict[str, list[_Entry]] = {}
    last = ""
    for entry in entries:
        known = found.setdefault(entry.name, [])
        if known and (entry.name != last or entry.kind == "str" or (entry.kind, entry.dims) != known[0][1:3]):
            raise hostile(file.path, f"the name `{shown(entry.name)}` stands twice")
        known.append(entry)
        last = entry.name
    check_names(found, file.path)
    if not found:
        raise damaged(file.path, "holds no entry")
    return [
        first._replace(parts=tuple(part for entry in (first, *more) for part in entry.parts))
        for first, *more in found.values()
    ]


def _shape(entry: _Entry, file: Readable) -> tuple[int, ...] | None:
    """The shape, once its elements are as many as the parts hold; None for what is no tensor here."""
    if entry.kind not in _WORDS:
        return None
    sizes = [size - (size >> 63 << 64) for size in entry.dims]
    shape = check_shape(sizes, file.size, file.path)
    there = sum(part.size for part in entry.parts)
    if shape == (0,) and there:  # how MindSpore 1.x writes a scalar
        shape = ()
    dtype = _WORDS[entry.kind]
    expected = math.prod(shape) * DTYPES[dtype][0]
    if there != expected:
        raise damaged(file.path, f"`{shown(entry.name)}`: {dtype} {shape} takes {expected} bytes, it has {there}")
    return shape


def _note(entry: _Entry, file: Readable) -> str:
    part = entry.parts[0]
    if entry.kind == "str":  # UTF-32, as NumPy holds text
        text = bytes(file.read(part.start, min(part.size, 4 * 200))).decode("utf-32-le", "replace")
        return f"passed over `{shown(entry.name)}` (the text `{shown(printable(text))}`)"
    what = "a hash table" if entry.kind == "table" else "4-bit integers"
    return f"passed over `{shown(entry.name)}` ({what}, {sum(part.size for part in entry.parts)} bytes)"


class _Content:
    """The file's bytes from front to back, with their CRC where it is asked for: what is used is what was checked."""

    def __init__(self, file: Readable, *, checked: bool) -> None:
        self.path = file.path
        self._file = file
        self._checked = checked
        self._at = 0
        self._crc = 0

    def take(self, span: Span) -> memoryview:
        self.crc_up_to(span.start)
        data = self._file.read(span.start, span.size)
        self._at = span.end
        self._add(data)
        return data

    def crc_up_to(self, end: int) -> int:
        while self._checked and self._at < end:
            data = self._file.read(self._at, min(disk.CHUNK, end - self._at))
            self._at += len(data)
            self._add(data)
        return self._crc

    def _add(self, data: memoryview) -> None:
        for at in range(0, len(data) if self._checked else 0, disk.CHUNK):
            self._crc = zlib.crc32(data[at : at + disk.CHUNK], self._crc)


def _tensor(entry: _Entry, shape: tuple[int, ...], content: _Content) -> Stored:
    dtype = _WORDS[entry.kind]
    data = content.take(entry.parts[0]) if len(entry.parts) == 1 else _together(entry, content)
    if dtype == "BOOL" and not bools_are_bits(data):
        raise damaged(content.path, f"`{shown(entry.name)}` is Bool and holds bytes other than 0 and 1")
    return Stored(dtype, shape, data)


def _together(entry: _Entry, content: _Content) -> memoryview:
    """The parts one after another in one buffer; at no time is a second copy of more than a piece held."""
    size = sum(part.size for part in entry.parts)
    found = room(size, content.path)
    done = 0
    for part in entry.parts:
        for at in range(part.start, part.end, disk.CHUNK):
            piece = content.take(Span(at, min(at + disk.CHUNK, part.end)))
            found[done : done + len(piece)] = piece
            done += len(piece)
    return memoryview(found).toreadonly()


def write(path: Path, tensors: Tensors, *, crc: bool = False) -> None:
    """Write a checkpoint whole or not at all, with the bytes of MindSpore 2.x: in the order of the dict, scalars
    without sizes, what is larger than 512 MiB in several entries.  crc: end with its CRC-32, as `crc_check=True` does.

    UsageError V007 for no tensors at all; SystemFault V701 when the disk refuses.
    """
    check_names(tensors, "the tensors to write")
    if not tensors:
        raise UsageError("V007", "no tensors to write", hint="MindSpore, and so we, refuse a checkpoint of nothing")

    def fill(file: IO[bytes]) -> None:
        value = 0
        for name, tensor in tensors.items():
            for piece in _messages(name, tensor):
                file.write(piece)
                value = zlib.crc32(piece, value) if crc else 0
        if crc:
            file.write(_CRC + value.to_bytes(10, "big"))

    disk.write_file(path, fill)


def _messages(name: str, tensor: Stored) -> Iterator[bytes | memoryview]:
    """The entries of one tensor, the elements apart from what stands before them."""
    sizes = b"".join(b"\x08" + _varint(size) for size in tensor.shape)
    kind = _field(b"\x12", _THEIRS[tensor.dtype].encode())
    data = memoryview(tensor.data)
    for at in range(0, max(len(data), 1), SLICE):
        part = data[at : at + SLICE]
        head = sizes + kind + b"\x1a" + _varint(len(part))
        head = _field(b"\x0a", name.encode()) + b"\x12" + _varint(len(head) + len(part)) + head
        yield b"\x0a" + _varint(len(head) + len(part)) + head
        yield part


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """
    >>> _varint(300).hex()
    'ac02'
    """
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes(found) + bytes([value])


__all__ = ["parse", "read", "recognised", "write"]
