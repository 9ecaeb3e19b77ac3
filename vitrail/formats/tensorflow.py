"""Checkpoints of TensorFlow (V2 bundles: `PREFIX.index`, `PREFIX.data-00000-of-00001`), read without TensorFlow.

The index is a sorted table of names: "" holds the header, each other key a tensor's type, shape, shard, place and
CRC-32C.  The names of the shards are made from the prefix; nothing in the file leads anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vitrail.errors import WeightsError
from vitrail.formats import sstable
from vitrail.formats.beside import hold_beside, opened_folder
from vitrail.formats.bounds import HEADER_BYTES, RANK, TENSORS, check_names, check_shape, damaged, hostile, shown
from vitrail.formats.crc32c import crc32c, masked
from vitrail.formats.held import Held, hold
from vitrail.formats.protobuf import BYTES, FIXED32, VARINT, fields, signed, single, varint
from vitrail.formats.stored import DTYPES, Stored, Tensors, bools_are_bits

_STRING = 7
# tensorflow/core/framework/types.proto
_TYPES = {
    1: "F32", 2: "F64", 3: "I32", 4: "U8", 5: "I16", 6: "I8", 9: "I64", 10: "BOOL", 14: "BF16", 17: "U16",
    19: "F16", 22: "U32", 23: "U64",
}  # fmt: skip
_OTHERS = {8: "complex64", 11: "qint8", 12: "quint8", 13: "qint32", 15: "qint16", 16: "quint16", 18: "complex128"}

# tensorflow/core/protobuf/tensor_bundle.proto, tensor_shape.proto, versions.proto
_HEADER = {1: VARINT, 2: VARINT, 3: BYTES}  # shards, endianness, version
_ENTRY = {1: VARINT, 2: BYTES, 3: VARINT, 4: VARINT, 5: VARINT, 6: FIXED32, 7: BYTES}
_SHAPE = {2: BYTES, 3: VARINT}
_DIM = {1: VARINT, 2: BYTES}
_VERSION = {1: VARINT, 2: VARINT, 3: VARINT}
_INDEX = ".index"
_PRODUCER = 1  # the format's version that is read here, the only one there is
_SAVE_COUNTER = "save_counter/.ATTRIBUTES/VARIABLE_VALUE"


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    dtype: int
    sizes: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


def read(prefix: Path, *, sha256: str | None = None) -> tuple[Tensors, list[str]]:
    """All tensors of a checkpoint, in the order of its index, and a note for each text and counter passed over.

    prefix: the path without `.index`; sha256: that of the index, whose checksums cover the rest.  WeightsError V201 for
    damaged bytes, another hash or another checksum, V202 beyond a limit, V206 for a checkpoint of V1, one of a
    big-endian machine, or variables in parts; SystemFault V702 when a file cannot be read.
    """
    index = prefix.with_name(prefix.name + _INDEX)
    # A checkpoint of V1 is one file of that very name.
    with hold(prefix if prefix.is_file() and not index.exists() else index, sha256=sha256) as file:
        return parse(file)


def parse(file: Held) -> tuple[Tensors, list[str]]:
    """As `read`, from an index that is already held; the data files lie beside it."""
    if file.path.suffix != _INDEX:
        raise WeightsError(
            "V206",
            f"`{file.path}` is a table without the ending {_INDEX}: a TensorFlow checkpoint of the old form V1?",
            hint="load it with TensorFlow and save it again with tf.train.Saver, whose form V2 is read",
        )
    entries, shards = _parse_index(file)
    tensors: dict[str, Stored | None] = dict.fromkeys(entry.name for entry in entries)
    with opened_folder(file.path.absolute().parent) as folder:
        for shard in sorted({entry.shard for entry in entries}):
            name = f"{file.path.stem}.data-{shard:05d}-of-{shards:05d}"
            with hold_beside(file, folder, name) as data:
                inside = [entry for entry in entries if entry.shard == shard]
                _check_ranges(inside, data)
                tensors.update((entry.name, _tensor(entry, data)) for entry in inside)
    notes = [_note(entry) for entry in entries if tensors[entry.name] is None]
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}, notes


def _parse_index(file: Held) -> tuple[list[_Entry], int]:
    """What the index tells of each tensor, in the order of its keys, and the count of shards."""
    table = sstable.read(file)
    shards = _shards(table.pop(b"", None), file)
    names = {key: _name(key, file) for key in table if not key.startswith(b"\0")}  # \0: a part of a variable
    check_names(names.values(), file.path)
    entries = [_entry(name, table[key], shards, file) for key, name in names.items()]
    if len(names) != len(table):
        raise damaged(file.path, "holds parts of variables, but no variable in parts")
    return entries, shards


def _name(key: bytes, file: Held) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise hostile(file.path, "a name is not UTF-8") from None


def _shards(header: bytes | None, file: Held) -> int:
    if header is None:
        raise damaged(file.path, "has no header")
    try:
        found = single(header, _HEADER)
        version = single(_bytes(found, 3), _VERSION)
    except ValueError as error:
        raise damaged(file.path, f"its header holds {error}") from None
    if _number(found, 2):
        raise WeightsError(
            "V206", f"`{file.path}` was written on a big-endian machine", hint="save it again on a usual one"
        )
    if _number(version, 2) > _PRODUCER:
        raise WeightsError(
            "V206",
            f"`{file.path}` asks for readers of version {_number(version, 2)}, this is {_PRODUCER}",
            hint="save it again with an older TensorFlow",
        )
    shards = _number(found, 1)
    if not 1 <= shards <= TENSORS:
        raise hostile(file.path, f"{shards} data files, allowed are 1 to {TENSORS}")
    return shards


def _entry(name: str, data: bytes, shards: int, file: Held) -> _Entry:
    try:
        found = _without_parts(name, data, file)
        sizes = _sizes(_bytes(found, 2))
    except ValueError as error:
        raise damaged(file.path, f"the entry of `{shown(name)}` holds {error}") from None
    dtype, shard, offset, size = (signed(_number(found, number)) for number in (1, 3, 4, 5))
    if dtype not in _TYPES and dtype != _STRING:
        named = _OTHERS.get(dtype, f"number {dtype}")
        raise damaged(
            file.path, f"`{shown(name)}` is of type {named}", hint="known: strings and " + ", ".join(_TYPES.values())
        )
    if not 0 <= shard < shards:
        raise hostile(file.path, f"`{shown(name)}` lies in data file {shard} of {shards}")
    if len(sizes) > RANK:
        raise hostile(file.path, f"`{shown(name)}` has more than {RANK} dimensions")
    if offset < 0 or size < 0:
        raise damaged(file.path, f"`{shown(name)}` has {size} bytes at {offset}")
    return _Entry(name, dtype, sizes, shard, offset, size, _number(found, 6))


def _without_parts(name: str, data: bytes, file: Held) -> dict[int, int | bytes]:
    """As `single`; a variable in parts is refused by its name."""
    numbers = [number for number, _ in fields(data, _ENTRY)]
    if 7 in numbers:
        raise WeightsError(
            "V206",
            f"`{file.path}`: the variable `{shown(name)}` is stored in {numbers.count(7)} parts, which are not joined",
            hint="save it again without partitioned variables",
        )
    return single(data, _ENTRY)


def _sizes(data: bytes) -> tuple[int, ...]:
    """The sizes of a shape, of at most one dimension too many."""
    sizes: list[int] = []
    for number, value in fields(data, _SHAPE):
        if number == 3:
            if value:
                raise ValueError("a shape of unknown rank")
        elif len(sizes) <= RANK:
            assert isinstance(value, bytes)
            sizes.append(signed(_number(single(value, _DIM), 1)))
    return tuple(sizes)


def _number(found: dict[int, int | bytes], number: int) -> int:
    value = found.get(number, 0)
    assert isinstance(value, int)
    return value


def _bytes(found: dict[int, int | bytes], number: int) -> bytes:
    value = found.get(number, b"")
    assert isinstance(value, bytes)
    return value


def _check_ranges(entries: Iterable[_Entry], file: Held) -> None:
    """All of a shard's entries, before the first is read: inside the file, and no two share a byte."""
    end = 0
    for entry in sorted(entries, key=lambda entry: (entry.offset, entry.size)):
        if entry.size and entry.offset < end:
            raise hostile(file.path, f"`{shown(entry.name)}` at {entry.offset} begins within the tensor before it")
        end = max(end, entry.offset + entry.size)
        if end > file.size:
            raise damaged(file.path, f"`{shown(entry.name)}` ends at {end}, the file has {file.size} bytes")
        shape = check_shape(entry.sizes, file.size, file.path)
        if entry.dtype == _STRING:
            if math.prod(shape) > TENSORS or entry.size > HEADER_BYTES:
                raise hostile(file.path, f"`{shown(entry.name)}` holds {math.prod(shape)} texts in {entry.size} bytes")
            continue
        count = math.prod(shape) * DTYPES[_TYPES[entry.dtype]][0]
        if count != entry.size:
            raise damaged(
                file.path,
                f"`{shown(entry.name)}`: {_TYPES[entry.dtype]} {shape} takes {count} bytes, it has {entry.size}",
            )


def _tensor(entry: _Entry, file: Held) -> Stored | None:
    """The tensor, its checksum held against its bytes; None for what is no weight."""
    data = file.read(entry.offset, entry.size)
    crc = masked(_text_crc(entry, data, file) if entry.dtype == _STRING else crc32c(data))
    if crc != entry.crc:
        raise damaged(file.path, f"`{shown(entry.name)}` has CRC-32C {crc:08x}, not {entry.crc:08x}")
    if entry.dtype == _STRING or entry.name == _SAVE_COUNTER:
        return None
    word = _TYPES[entry.dtype]
    if word == "BOOL" and not bools_are_bits(data):
        raise damaged(file.path, f"`{shown(entry.name)}` is BOOL and holds bytes other than 0 and 1")
    return Stored(word, entry.sizes, data)


def _text_crc(entry: _Entry, data: memoryview, file: Held) -> int:
    """Of a tensor of strings: their lengths as integers, then the stored rest (tensor_bundle.cc, WriteStringTensor).

    lengths as varints | CRC-32C of the lengths, masked | strings
    """
    lengths, at, crc, raw = 0, 0, 0, bytes(data)
    try:
        for _ in range(math.prod(entry.sizes)):
            length, at = varint(raw, at)
            lengths += length
            crc = crc32c(length.to_bytes(4 if length < 1 << 32 else 8, "little"), crc)
    except ValueError as error:
        raise damaged(file.path, f"`{shown(entry.name)}` holds {error}") from None
    if at + 4 + lengths != len(raw) or raw[at : at + 4] != masked(crc).to_bytes(4, "little"):
        raise damaged(file.path, f"the lengths of the strings in `{shown(entry.name)}` do not hold")
    return crc32c(raw[at:], crc)


def _note(entry: _Entry) -> str:
    what = "text" if entry.dtype == _STRING else "a counter"
    return f"`{shown(entry.name)}` is {what} of {entry.size} bytes, no weight: passed over"
