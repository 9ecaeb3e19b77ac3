"""safetensors, read by own strict rules and written with the reference's bytes.

The header is parsed by a grammar that knows nothing but tensor entries, so its cost is bounded by its length:

    8 bytes n | n bytes {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...} | tensors, no holes
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from vitrail import disk
from vitrail.errors import UsageError, WeightsError
from vitrail.formats.bounds import (
    HEADER_BYTES,
    METADATA_BYTES,
    TENSORS,
    check_names,
    check_shape,
    damaged,
    hostile,
    shown,
)
from vitrail.formats.held import Held, hold
from vitrail.formats.stored import DTYPES, Stored, Tensors, bools_are_bits

METADATA = "__metadata__"


class _Entry(NamedTuple):
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read(path: Path, *, sha256: str | None = None) -> tuple[Tensors, dict[str, str]]:
    """All tensors of a file, sorted by name, and its metadata.

    WeightsError V201 for damaged bytes or another SHA-256 than the given one (then nothing was parsed), V202 for what
    exceeds a limit or only a hostile file holds; SystemFault V702 when the file cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder) / "w.safetensors", {"bias": Stored("U8", (3,), b"abc")}, {"made": "by hand"})
    ...     read(Path(folder) / "w.safetensors")[1]
    {'made': 'by hand'}
    """
    with hold(path, sha256=sha256) as file:
        return parse(file)


def parse(file: Held) -> tuple[Tensors, dict[str, str]]:
    """As `read`, from a file that is already held."""
    if file.size < 10:
        raise damaged(file.path, f"{file.size} bytes are too few for a safetensors file")
    (length,) = struct.unpack("<Q", file.read(0, 8))
    if length > HEADER_BYTES and length <= file.size - 8:
        raise hostile(file.path, f"a header of {length} bytes, the limit is {HEADER_BYTES}")
    if not 2 <= length <= file.size - 8:
        raise damaged(file.path, f"a header of {length} bytes in a file of {file.size}")
    body = 8 + length
    entries, metadata = _Header(bytes(file.read(8, length)), file).parse()
    check_names([entry.name for entry in entries], file.path)
    _check_layout(entries, file.size - body, file)
    tensors = {entry.name: _tensor(entry, body, file) for entry in sorted(entries, key=lambda e: e.begin)}
    return dict(sorted(tensors.items())), metadata


def _check_layout(entries: list[_Entry], size: int, file: Held) -> None:
    """Every byte after the header belongs to exactly one tensor."""
    end = 0
    for entry in sorted(entries, key=lambda e: (e.begin, e.end)):
        expected = math.prod(entry.shape) * DTYPES[entry.dtype][0]
        if entry.end - entry.begin != expected:
            raise damaged(
                file.path,
                f"`{shown(entry.name)}`: {entry.dtype} {entry.shape} takes {expected} bytes, "
                f"its offsets are [{entry.begin}, {entry.end}]",
            )
        if entry.begin != end:
            raise damaged(
                file.path, f"`{shown(entry.name)}` begins at {entry.begin}, the tensor before it ends at {end}"
            )
        end = entry.end
    if end != size:
        raise damaged(file.path, f"the tensors take {end} bytes, {size} follow the header")


def _tensor(entry: _Entry, body: int, file: Held) -> Stored:
    data = file.read(body + entry.begin, entry.end - entry.begin)
    if entry.dtype == "BOOL" and not bools_are_bits(data):
        raise damaged(file.path, f"`{shown(entry.name)}` is BOOL and holds bytes other than 0 and 1")
    return Stored(entry.dtype, entry.shape, data)


_BLANK = rb"[ \t\r\n]*+"
_STRING = rb'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"'
_TOKEN = re.compile(
    _BLANK + rb"(?:(?P<mark>[{}\[\]:,])|(?P<string>" + _STRING + rb")|(?P<int>(?:0|[1-9][0-9]{0,19})(?![0-9.eE])))"
)


class _Header:
    """A cursor over the header: JSON, but only the few forms a tensor list can take."""

    def __init__(self, text: bytes, file: Held) -> None:
        self._text = text
        self._at = 0
        self._file = file

    def parse(self) -> tuple[list[_Entry], dict[str, str]]:
        entries: list[_Entry] = []
        metadata: dict[str, str] | None = None
        names: set[str] = set()
        if not self._text.startswith(b"{"):
            raise self._wrong("does not begin with `{`")
        if self._text.count(b'"dtype"') > TENSORS:  # told at once, before the first of them is parsed
            raise self._too_many()
        for name in self._object():
            if name in names:
                raise hostile(self._file.path, f"the name `{shown(name)}` stands twice in the header")
            names.add(name)
            if name == METADATA:
                metadata = self._metadata()
            else:
                entries.append(self._entry(name))
            if len(entries) > TENSORS:
                raise self._too_many()
        if self._text[self._at :].strip(b" "):
            raise self._wrong("goes on after its end")
        return entries, metadata or {}

    def _entry(self, name: str) -> _Entry:
        dtype: str | None = None
        shape: list[int] | None = None
        offsets: list[int] | None = None
        for key in self._object():
            if key == "dtype" and dtype is None:
                dtype = self._string()
            elif key == "shape" and shape is None:
                shape = self._integers()
            elif key == "data_offsets" and offsets is None:
                offsets = self._integers()
            else:
                raise hostile(self._file.path, f"`{shown(name)}` has the key `{shown(key)}` twice or too much")
        if dtype is None or shape is None or offsets is None or len(offsets) != 2:
            raise self._wrong(f"lacks dtype, shape or two offsets for `{shown(name)}`")
        if dtype not in DTYPES:
            raise damaged(
                self._file.path,
                f"`{shown(name)}` is of type `{shown(dtype)}`",
                hint=f"convert it with the tool that wrote it; known: {', '.join(DTYPES)}",
            )
        begin, end = offsets
        return _Entry(name, dtype, check_shape(shape, self._file.size, self._file.path), begin, end)

    def _metadata(self) -> dict[str, str]:
        start, found = self._at, {}
        for key in self._object():
            if key in found:
                raise hostile(self._file.path, f"the metadata key `{shown(key)}` stands twice")
            found[key] = self._string()
            _check_metadata(key, found[key], self._file.path)
            if self._at - start > METADATA_BYTES:
                raise hostile(self._file.path, f"more than {METADATA_BYTES} bytes of metadata")
        return found

    def _object(self) -> Iterator[str]:
        """The keys of an object; between two of them the caller takes the value."""
        self._take(b"{")
        if self._peek() == b"}":
            self._take(b"}")
            return
        while True:
            key = self._string()
            self._take(b":")
            yield key
            if self._take(b",", b"}") == b"}":
                return

    def _integers(self) -> list[int]:
        found: list[int] = []
        self._take(b"[")
        if self._peek() == b"]":
            self._take(b"]")
            return found
        while len(found) <= 8:
            found.append(int(self._token("int")))
            if self._take(b",", b"]") == b"]":
                return found
        raise hostile(self._file.path, "a list of more than 8 numbers in the header")

    def _string(self) -> str:
        raw = self._token("string")
        try:
            text = json.loads(raw) if b"\\" in raw else raw[1:-1].decode()
            assert isinstance(text, str)
            text.encode()  # serde, and so the reference, refuses a lone surrogate
        except UnicodeError:
            raise self._wrong("holds text that is not UTF-8") from None
        return text

    def _take(self, *marks: bytes) -> bytes:
        mark = self._token("mark")
        if mark not in marks:
            raise self._wrong(f"needs `{b' or '.join(marks).decode()}` and has `{mark.decode()}`")
        return mark

    def _peek(self) -> bytes:
        match = _TOKEN.match(self._text, self._at)
        return match["mark"] or b"" if match else b""

    def _token(self, kind: str) -> bytes:
        match = _TOKEN.match(self._text, self._at)
        if match is None or match[kind] is None:
            raise self._wrong(f"has no {kind}")
        self._at = match.end()
        return match[kind]

    def _too_many(self) -> WeightsError:
        return hostile(self._file.path, f"more than {TENSORS} tensors")

    def _wrong(self, what: str) -> WeightsError:
        return damaged(self._file.path, f"the header {what} at byte {8 + self._at}")


_LINE_ENDS = {ord(c): " " for c in "\t\n\r"}


def _check_metadata(key: str, value: str, where: object) -> None:
    if not (key + value).translate(_LINE_ENDS).isprintable():
        raise hostile(where, f"the metadata of `{shown(key)}` holds control characters")


# The reference sorts by its list of types, wide ones first, then by name.
_RANK = {
    word: rank
    for rank, word in enumerate(
        ("BOOL", "U8", "I8", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "F64", "I64", "U64")
    )
}


def _layout(tensors: Tensors, metadata: Mapping[str, str]) -> tuple[bytes, list[Stored]]:
    """The header with its length, and the tensors in file order: wide types first keeps each one aligned."""
    check_names(tensors, "the tensors to write")
    for key, value in metadata.items():
        _check_metadata(key, value, "the metadata to write")
    if METADATA in tensors:
        raise UsageError("V007", f"`{METADATA}` cannot be the name of a tensor", hint="choose another")
    header: dict[str, object] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    order = sorted(tensors, key=lambda name: (-_RANK[tensors[name].dtype], name))
    offset = 0
    for name in order:
        tensor = tensors[name]
        end = offset + tensor.nbytes
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, [tensors[name] for name in order]


def dumps(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> bytes:
    """The file as bytes; the same tensors and metadata always give the same bytes.

    >>> len(dumps({"a": Stored("F32", (2,), bytes(8))})) % 8
    0
    """
    head, order = _layout(tensors, metadata or {})
    return b"".join([head, *(tensor.data for tensor in order)])


def write(path: Path, tensors: Tensors, metadata: Mapping[str, str] | None = None) -> None:
    """Write a file whole or not at all; SystemFault V701 when the disk refuses."""
    head, order = _layout(tensors, metadata or {})

    def fill(file: IO[bytes]) -> None:
        file.write(head)
        for tensor in order:
            file.write(tensor.data)

    disk.write_file(path, fill)
