"""Hostile checkpoints of MindSpore: each item is a typed refusal, under watch; protobuf agrees on accepted ones."""

from __future__ import annotations

import functools
import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from vitrail.errors import SystemFault, VitrailError
from vitrail.formats import held, mindspore, mindspore_encrypted

FLOATS = bytes(range(24))
DIMS = b"\x08\x02\x08\x03"


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def tensor(kind: bytes = b"Float32", dims: bytes = DIMS, content: bytes = FLOATS) -> bytes:
    return dims + field(2, kind) + field(3, content)


def entry(name: bytes = b"w", inner: bytes | None = None) -> bytes:
    return field(1, field(1, name) + field(2, tensor() if inner is None else inner))


def shaped(*sizes: int, content: bytes = FLOATS) -> bytes:
    return entry(inner=tensor(dims=b"".join(b"\x08" + varint(size) for size in sizes), content=content))


def nested(depth: int, number: int) -> bytes:
    inner = b""
    for _ in range(depth):
        inner = field(number, inner)
    return inner


def with_crc(data: bytes, crc: int | None = None, width: int = 10) -> bytes:
    return data + b"crc_num" + (zlib.crc32(data) if crc is None else crc).to_bytes(width, "big")


GOOD = entry()
NAME, VALUE = field(1, b"w"), field(2, tensor())

ITEMS: dict[str, bytes] = {
    # not this format
    "empty": b"",
    "one byte": b"\x0a",
    "text": b"<!DOCTYPE html>" + bytes(40),
    "zip": b"PK\x03\x04" + bytes(60),
    "pickle": b"\x80\x02}q\x00.",
    "only a CRC": with_crc(b""),
    # numbers
    "number of 11 bytes": b"\x0a" + b"\xff" * 10 + b"\x01",
    "number of 10 bytes beyond 2^64": b"\x0a" + b"\xff" * 9 + b"\x7f",
    "number that never ends": b"\x0a" + b"\x80" * 100_000,
    "number cut off": b"\x0a\x80",
    "tag of 10 bytes": b"\xff" * 9 + b"\x01" + GOOD,
    "size of 11 bytes": entry(inner=tensor(dims=b"\x08" + b"\x82" + b"\x80" * 9 + b"\x00" + b"\x08\x03")),
    "size that leaves its tensor": entry(inner=field(2, b"Float32") + field(3, FLOATS) + b"\x08\x80"),
    # lengths
    "length beyond the file": b"\x0a\x7f" + GOOD[2:],
    "length one too many": varint(10) + varint(len(GOOD) - 1) + GOOD[2:],
    "length one too few": varint(10) + varint(len(GOOD) - 3) + GOOD[2:],
    "length 2^31": b"\x0a" + varint(1 << 31) + GOOD[2:],
    "length 2^63": b"\x0a" + varint(1 << 63) + GOOD[2:],
    "length 2^64-1": b"\x0a" + varint((1 << 64) - 1) + GOOD[2:],
    "name longer than its entry": field(1, b"\x0a\x40w" + VALUE),
    "name of 2^63 bytes": field(1, b"\x0a" + varint(1 << 63) + b"w" + VALUE),
    "tensor longer than its entry": field(1, NAME + b"\x12\x7f" + tensor()),
    "elements longer than their tensor": entry(inner=DIMS + field(2, b"Float32") + b"\x1a\x7f" + FLOATS),
    "elements of 2^62 bytes": entry(inner=DIMS + field(2, b"Float32") + b"\x1a" + varint(1 << 62) + FLOATS),
    "type longer than its tensor": entry(inner=DIMS + b"\x12\x7f" + b"Float32" + field(3, FLOATS)),
    "packed sizes longer than their tensor": entry(inner=b"\x0a\x7f\x02\x03" + field(2, b"Float32") + field(3, FLOATS)),
    "cut off": GOOD[:-1],
    "cut off in the second entry": GOOD + entry(b"v")[:9],
    "trailing zero": GOOD + b"\0",
    "trailing zeros": GOOD + bytes(100),
    "leading zero": b"\0" + GOOD,
    # fields
    "entry a number": b"\x08\x01" + GOOD,
    "entry of 8 bytes": b"\x09" + bytes(8) + GOOD,
    "entry of 4 bytes": b"\x0d" + bytes(4) + GOOD,
    "group": b"\x0b\x0c" + GOOD,
    "end of a group": b"\x0c" + GOOD,
    "wire type 6": b"\x0e" + GOOD,
    "wire type 7": b"\x0f" + GOOD,
    "field 0": field(0, b"") + GOOD,
    "unknown field": GOOD + field(2, b"abc"),
    "unknown field of number 2^28": GOOD + field((1 << 28) - 1, b"abc"),
    "unknown field in an entry": field(1, NAME + VALUE + field(4, b"x")),
    "unknown field in a tensor": entry(inner=tensor() + field(4, b"x")),
    "name a number": field(1, b"\x08\x01" + VALUE),
    "tensor a number": field(1, NAME + b"\x10\x01"),
    "type a number": entry(inner=DIMS + b"\x10\x01" + field(3, FLOATS)),
    "elements a number": entry(inner=DIMS + field(2, b"Float32") + b"\x18\x01"),
    "sizes of 4 bytes": entry(inner=b"\x0d\2\0\0\0" + field(2, b"Float32") + field(3, FLOATS)),
    "no name": field(1, VALUE),
    "no tensor": field(1, NAME),
    "empty entry": field(1, b""),
    "no type": entry(inner=DIMS + field(3, FLOATS)),
    "no elements": entry(inner=DIMS + field(2, b"Float32")),
    "name twice in an entry": field(1, NAME + NAME + VALUE),
    "tensor twice": field(1, NAME + VALUE + VALUE),
    "tensor and table": field(1, NAME + VALUE + field(3, b"")),
    "type twice": entry(inner=tensor() + field(2, b"Float32")),
    "elements twice": entry(inner=tensor() + field(3, FLOATS)),
    "no entry": field(1, b"") * 3,
    # sizes
    "a million sizes": entry(inner=tensor(dims=b"\x08\x01" * 1_000_000)),
    "a million sizes, packed": entry(inner=tensor(dims=field(1, b"\x01" * 1_000_000))),
    "a million lists of no sizes": entry(inner=tensor(dims=b"\x0a\x00" * 1_000_000)),
    "9 sizes": entry(inner=tensor(dims=b"\x08\x01" * 9, content=bytes(4))),
    "packed size that leaves its list": entry(inner=tensor(dims=b"\x0a\x02\x02\x83" + b"\x01")),
    "product overflows to 6": shaped(4_194_305, 4_194_305, 211_106_198_978_564),
    "product 2^64": shaped(1 << 32, 1 << 32),
    "size 2^62": shaped(1 << 62),
    "size negative": shaped((1 << 64) - 1),
    "two sizes negative": shaped((1 << 64) - 2, (1 << 64) - 3),
    "zero hides 2^62": shaped(0, 1 << 62, content=b""),
    "too few elements": shaped(2, 4),
    "too many elements": shaped(2, 2),
    "elements not whole": shaped(2, 3, content=FLOATS[:-1]),
    "no size and six elements": shaped(),
    "size 0 and six elements": shaped(0),
    "sizes 0, 0 and one element": shaped(0, 0, content=bytes(4)),
    # types
    "type unknown": entry(inner=tensor(b"Float33")),
    "type empty": entry(inner=tensor(b"")),
    "type in NumPy's style": entry(inner=tensor(b"float32\0")),
    "type of 33 bytes": entry(inner=tensor(b"F" * 33)),
    "type of 10 MB": entry(inner=tensor(b"F" * 10_000_000)),
    "type not UTF-8": entry(inner=tensor(b"\xff\xfe")),
    "type an escape sequence": entry(inner=tensor(b"\x1b[31mFloat32")),
    "quantised type": entry(inner=tensor(b"QInt8")),
    "Bool 7": entry(inner=tensor(b"Bool", dims=b"\x08\x01", content=b"\7")),
    # names
    "name twice": GOOD + entry(b"v") + GOOD,
    "name twice, other sizes": GOOD + shaped(6),
    "name twice, other type": GOOD + entry(inner=tensor(b"Int32")),
    "name twice, both whole": GOOD + GOOD,
    "text twice": entry(inner=tensor(b"str")) * 2,
    "tensor goes on as a table": GOOD + field(1, NAME + field(3, b"")),
    "names equal but for case": GOOD + entry(b"W"),
    "name of a note equal but for case": GOOD + entry(b"W", tensor(b"str")),
    "name empty": entry(b""),
    "name ../x": entry(b"../x"),
    "name absolute": entry(b"/etc/passwd"),
    "name backslash": entry(b"a\\b"),
    "name NUL": entry(b"a\0b"),
    "name newline": entry(b"a\nb"),
    "name not UTF-8": entry(b"\xff\xfe"),
    "name a surrogate": entry(b"\xed\xa0\x80"),
    "name of 513 bytes": entry(b"x" * 513),
    "name of 10 MB": entry(b"x" * 10_000_000),
    # amounts
    "66000 entries": b"".join(entry(b"%d" % i, tensor(dims=b"\x08\x00", content=b"")) for i in range(66_000)),
    "300000 empty entries": field(1, b"") * 300_000,
    "66000 parts of one tensor": shaped(0, content=b"") * 66_000,
    "10000 nested entries": nested(10_000, 1),
    "10000 nested tensors": entry(inner=nested(10_000, 2)),
    "10000 open groups": b"\x0b" * 10_000,
    # the CRC
    "CRC wrong": with_crc(GOOD, 1),
    "CRC one bit off": with_crc(GOOD, zlib.crc32(GOOD) ^ 1),
    "CRC of more than 32 bits": with_crc(GOOD, zlib.crc32(GOOD) + (1 << 32)),
    "CRC of other bytes": with_crc(GOOD, zlib.crc32(GOOD[:-1])),
    "CRC too short": with_crc(GOOD, width=9),
    "CRC too long": with_crc(GOOD, width=11),
    "CRC twice": with_crc(with_crc(GOOD)),
    "byte changed under the CRC": with_crc(GOOD)[:-30] + b"\7" + with_crc(GOOD)[-29:],
    "byte of a note changed under the CRC": with_crc(GOOD + entry(b"t", tensor(b"str"))).replace(FLOATS, bytes(24)),
    # encrypted
    "encrypted, GCM": mindspore_encrypted.GCM + bytes(80),
    "encrypted, CBC": mindspore_encrypted.CBC + bytes(80),
    "only the magic": mindspore_encrypted.GCM,
}


@pytest.mark.parametrize("name", ITEMS)
def test_C05_hostile_file_is_refused(
    name: str, tmp_path: Path, refused: Callable[[Callable[[Path], object], Path], VitrailError]
) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(ITEMS[name])
    encrypted = name.startswith(("encrypted", "only the magic"))
    assert refused(mindspore.read, path).code in (("V206",) if encrypted else ("V201", "V202"))


def test_C05_list_is_broad() -> None:
    assert len(ITEMS) >= 100
    assert len(set(ITEMS.values())) == len(ITEMS)


@pytest.mark.parametrize("head", [b"\x0a" + varint(3 << 30), NAME + b"\x12" + varint(3 << 30)])
def test_C07_a_message_above_2_gib_is_refused(
    head: bytes, tmp_path: Path, refused: Callable[[Callable[[Path], object], Path], VitrailError]
) -> None:
    path = tmp_path / "x.ckpt"
    if head.startswith(NAME):
        head = b"\x0a" + varint(len(head) + (3 << 30)) + head
    path.write_bytes(head)
    os.truncate(path, len(head) + (3 << 30))  # sparse: it takes no disk
    error = refused(mindspore.read, path)
    assert error.code == "V202" and "the limit is 2147483647" in error.what


def test_C07_a_tensor_of_the_whole_file_with_other_sizes_is_not_read(
    tmp_path: Path, refused: Callable[[Callable[[Path], object], Path], VitrailError]
) -> None:
    """A file of 1 GiB: what it says is held against its bytes before any of them is taken."""
    content = 1 << 30
    inner = b"\x08" + varint(content) + field(2, b"Float32") + b"\x1a" + varint(content)
    value = NAME + b"\x12" + varint(len(inner) + content) + inner
    head = b"\x0a" + varint(len(value) + content) + value
    path = tmp_path / "x.ckpt"
    path.write_bytes(head)
    os.truncate(path, len(head) + content)
    assert "takes 4294967296 bytes, it has 1073741824" in refused(mindspore.read, path).what


def test_A3_memory_that_does_not_suffice_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(size: int) -> bytearray:
        if size == 24:
            raise MemoryError
        return bytearray(size)

    monkeypatch.setattr(held, "bytearray", full, raising=False)
    path = tmp_path / "x.ckpt"
    path.write_bytes(ACCEPTED["an empty part"][0])
    with pytest.raises(SystemFault, match="24 bytes of memory"):
        mindspore.read(path)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("name twice", "V202", "the name `w` stands twice"),
        ("name twice, both whole", "V201", "takes 24 bytes, it has 48"),
        ("names equal but for case", "V202", "`w` and `W` are the same but for case"),
        ("CRC wrong", "V201", "CRC"),
        ("type of 10 MB", "V202", "the limit is 32"),
        ("a million sizes", "V202", "more than 8 dimensions"),
        ("length 2^63", "V201", "a field of 9223372036854775808 bytes"),
        ("number of 11 bytes", "V201", "more than 64 bits"),
        ("unknown field", "V201", "field 2"),
        ("10000 open groups", "V201", "wire type 3"),
        ("type unknown", "V201", "`Float33`"),
        ("66000 parts of one tensor", "V202", "more than 65536 entries"),
    ],
)
def test_C08_the_refusal_says_which_rule(name: str, code: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(ITEMS[name])
    with pytest.raises(VitrailError) as caught:
        mindspore.read(path)
    assert caught.value.code == code
    assert words in caught.value.what


@pytest.mark.parametrize("name", [name for name in ITEMS if len(ITEMS[name]) < 100_000][::4])
def test_C10_wrong_hash_stops_before_the_first_entry(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries: list[str] = []
    monkeypatch.setattr(mindspore, "parse", lambda file, key: entries.append(name))
    path = tmp_path / "x.ckpt"
    path.write_bytes(ITEMS[name])
    with pytest.raises(VitrailError, match="SHA-256"):
        mindspore.read(path, sha256="0" * 64)
    assert not entries


# What is accepted on purpose, and why.
ACCEPTED: dict[str, tuple[bytes, str]] = {
    "fields in another order": (
        field(1, field(2, field(3, FLOATS) + field(2, b"Float32") + DIMS) + NAME),
        "protobuf promises no order",
    ),
    "packed sizes": (entry(inner=tensor(dims=field(1, b"\2\3"))), "the same message, by another writer"),
    "numbers with spare bytes": (entry(inner=tensor(dims=b"\x08\x82\x00\x08\x83\x00")), "protobuf reads them so"),
    "NaN": (entry(inner=tensor(content=b"\xff" * 24)), "values are judged where weights are loaded, not here"),
    "an empty part": (GOOD + entry(inner=tensor(content=b"")), "MindSpore 1.x splits (1, N) into all and nothing"),
    "a tensor without elements": (shaped(0, 3, content=b""), "an array without elements is one"),
    "with a CRC": (with_crc(GOOD), "crc_check=True"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_C05_accepted_on_purpose(name: str, tmp_path: Path, checkpoint: type) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(ACCEPTED[name][0])
    agrees(path, checkpoint)


@pytest.fixture(scope="module")
def checkpoint() -> type:
    """MindSpore's message, given to protobuf's own library."""
    return message()


@functools.cache
def message() -> type:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="checkpoint.proto", syntax="proto2")
    text, octets, number, inner = 9, 12, 3, 11
    optional, required, repeated = 1, 2, 3
    for message, rows in {
        "T": [("dims", repeated, number), ("tensor_type", required, text), ("tensor_content", required, octets)],
        "V": [("tag", required, text), ("tensor", optional, inner), ("maptensor", optional, octets)],
        "C": [("value", repeated, inner)],
    }.items():
        kind = file.message_type.add(name=message)
        for at, (name, label, form) in enumerate(rows):
            of = {"tensor": ".T", "value": ".V"}.get(name)
            kind.field.add(name=name, number=at + 1, label=label, type=form, type_name=of)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found: type = message_factory.GetMessageClass(pool.FindMessageTypeByName("C"))
    return found


def agrees(path: Path, checkpoint: type) -> None:
    """We accept it: then protobuf does, with the same names, types, sizes and bytes, and nothing beside them."""
    tensors, notes = mindspore.read(path)
    data = path.read_bytes()
    if data[-17:-10] == b"crc_num":
        assert int.from_bytes(data[-10:], "big") == zlib.crc32(data[:-17])
        data = data[:-17]
    theirs = checkpoint.FromString(data)  # type: ignore[attr-defined]
    contents: dict[str, bytes] = {}
    passed_over = set()
    for value in theirs.value:
        if value.tag not in tensors:
            passed_over.add(value.tag)
            continue
        contents[value.tag] = contents.get(value.tag, b"") + value.tensor.tensor_content
        ours = tensors[value.tag]
        assert mindspore._WORDS[value.tensor.tensor_type.lower()] == ours.dtype
        dims = tuple(value.tensor.dims)
        assert dims == ours.shape or (dims, ours.shape) == ((0,), ())
    assert list(contents) == list(tensors)
    assert all(ours.data == contents[name] for name, ours in tensors.items())
    assert len(passed_over) == len(notes)


SEEDS = [
    GOOD + entry(b"a.b", tensor(b"Bool", b"\x08\x03", b"\0\1\0")) + entry(b"sc", tensor(dims=b"", content=bytes(4))),
    with_crc(entry(b"h", tensor(b"BFloat16", DIMS, FLOATS[:12])) + entry(b"old", tensor(b"Uint8", b"\x08\0", b"a"))),
    entry(b"note", tensor(b"str", b"\x08\0", "hé".encode("utf-32-le")))
    + field(1, field(1, b"m") + field(3, b"\x0a\0")),
    entry(inner=tensor(content=FLOATS[:16])) + entry(inner=tensor(content=FLOATS[16:])) + entry(b"p", tensor()),
    entry(b"q", tensor(b"Int4", b"\x0a\x01\x02", b"a")) + entry(b"z", tensor(b"Int64", b"\x08\x01", bytes(8))),
]
SPLICES = [
    b"\x0a",
    b"\x12",
    b"\x1a",
    b"\x08",
    b"\0",
    b"\x80",
    b"\xff",
    b"w",
    b"Float32",
    b"str",
    b"crc_num",
    DIMS,
    GOOD,
]


def mutated(random_: random.Random, body: bytes) -> bytes:
    for _ in range(random_.randint(1, 3)):
        at = random_.randrange(len(body) + 1)
        added = random_.choice(SPLICES) if random_.random() < 0.5 else random_.randbytes(random_.randint(0, 2))
        same_length = random_.random() < 0.6
        body = body[:at] + added + body[at + (len(added) if same_length else random_.randint(0, 3)) :]
    return body


def built(random_: random.Random) -> bytes:
    """Entries whose lengths are right and whose content is drawn."""
    found = b""
    for _ in range(random_.randint(1, 3)):
        parts = [
            field(2, random_.choice([b"Float32", b"Uint8", b"BOOL", b"str", b"Int4", b"bfloat16", b"x"])),
            field(3, bytes(random_.choice([0, 1, 2, 4, 8, 24]))),
            random_.choice([b"", DIMS, b"\x08\0", b"\x08\x01", b"\x0a\x01\x06", b"\x08\x02", mutated(random_, DIMS)]),
        ]
        random_.shuffle(parts)
        found += entry(random_.choice([b"w", b"v", b"W", b"a/b"]), b"".join(parts[: random_.choice([3, 3, 3, 2])]))
    return with_crc(found) if random_.random() < 0.2 else found
