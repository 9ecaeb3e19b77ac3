"""Hostile TensorFlow checkpoints: each item is a typed refusal, under watch; mutants are refused or read right."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.hostile import tensorflow_files as tf
from tests.hostile.deeds import deeds
from tests.hostile.tensorflow_files import block, entry, field, footer, handle, header, number, shape, stored, table
from vitrail.errors import VitrailError
from vitrail.formats import read_tensors, sstable, tensorflow
from vitrail.formats.crc32c import crc32c, masked
from vitrail.formats.sstable import MAGIC

DATA = bytes(range(16))
A = entry([2, 2], DATA)


def one(data: bytes = A, name: bytes = b"a", head: bytes | None = None) -> bytes:
    return table([[(b"", header() if head is None else head), (name, data)]])


def two(first: bytes, second: bytes, names: Sequence[bytes] = (b"a", b"b")) -> bytes:
    return table([[(b"", header()), (names[0], first), (names[1], second)]])


def raw(*bodies: bytes, kinds: Sequence[int] = (), index: bytes | None = None, end: bytes | None = None) -> bytes:
    """A table of these blocks as they are, under keys that reach far enough."""
    out, rows = b"", []
    for at, body in enumerate(bodies):
        rows.append((bytes([at + 100]), handle(len(out), len(body))))
        out += stored(body, kinds[at] if at < len(kinds) else 0)
    meta = handle(len(out), len(block([])))
    out += stored(block([]))
    last = block(rows) if index is None else index
    return out + stored(last) + (footer(meta, handle(len(out), len(last))) if end is None else end)


def without(tag: int) -> bytes:
    rows = {1: field(1, 1), 2: field(2, shape([2, 2])), 5: field(5, 16), 6: A[-5:]}
    return b"".join(value for key, value in rows.items() if key != tag)


def snappy(size: int, body: bytes) -> bytes:
    return raw(number(size) + body, kinds=[1])


GOOD = one()
ROWS = [(b"", header()), (b"a", A)]
BODY = block(ROWS)
LONG = b"\xff" * 11

INDEX: dict[str, bytes] = {
    # the frame
    "empty": b"",
    "47 bytes": GOOD[-47:],
    "footer alone": footer(handle(0, 0), handle(0, 0)),
    "magic of another table": GOOD[:-1] + b"\0",
    "cut in front": GOOD[5:],
    "cut in the middle": GOOD[:10] + GOOD[20:],
    "bytes behind": GOOD + b"\0",
    "17 MiB": bytes(17 << 20) + GOOD,
    "handle of 11 bytes": raw(BODY, end=LONG.ljust(40, b"\0") + MAGIC),
    "index outside": raw(BODY, end=footer(handle(0, 8), handle(1 << 40, 8))),
    "meta block and index outside": raw(BODY, end=footer(handle(1 << 20, 8), handle(1 << 40, 8))),
    "index of 2^63 bytes": raw(BODY, end=footer(handle(0, 8), handle(0, 1 << 63))),
    "index is the meta block": raw(BODY, end=footer(handle(0, 8), handle(0, 8))),
    "footer with text": GOOD[:-20] + b"text" + GOOD[-16:],
    # blocks
    "CRC of a block": raw(BODY)[:-60] + bytes(4) + raw(BODY)[-56:],
    "data changed": GOOD.replace(b"\x08\x01", b"\x08\x02", 1),
    "block type 2": raw(BODY, kinds=[2]),
    "block type 255": raw(BODY, kinds=[255]),
    "snappy of plain bytes": raw(BODY, kinds=[1]),
    "snappy of 2^62": snappy(1 << 62, b"\0a"),
    "snappy of 1 GiB": snappy(1 << 30, b"\0a" + bytes([(64 - 1) << 2 | 2, 1, 0]) * 1000),
    "snappy length of 11 bytes": raw(LONG, kinds=[1]),
    "snappy copies from before": snappy(8, b"\0a" + b"\x01\x09"),
    "snappy too short": snappy(200, b"\0a"),
    "no restart points": raw(b""),
    "0 restart points": raw(bytes(4)),
    "2^32-1 restart points": raw(b"\xff" * 8),
    "restart point outside": raw(BODY[:-8] + struct.pack("<2I", 999, 1)),
    "restart point within": raw(BODY[:-8] + struct.pack("<2I", 1, 1)),
    "shared beyond the key": raw(b"\x05\x01\x00a" + struct.pack("<2I", 0, 1)),
    "value beyond the block": raw(b"\x00\x01\x70a" + struct.pack("<2I", 0, 1)),
    "entry of 2^63": raw(b"\x00\x01" + number(1 << 63) + b"a" + struct.pack("<2I", 0, 1)),
    "varint of 11 bytes": raw(LONG + struct.pack("<2I", 0, 1)),
    "key of 5000 bytes": one(name=b"k" * 5000),
    "a key twice": raw(block([*ROWS, (b"a", A)], interval=1)),
    "keys out of order": raw(block([ROWS[0], (b"b", A), (b"a", A)], interval=1)),
    "a key in two blocks": table([ROWS, [(b"a", A)]]),
    "blocks out of order": table([[ROWS[0], (b"b", A)], [(b"a", A)]]),
    "index that stops before its block": raw(block([*ROWS, (b"zz", A)])),
    "one block twice": raw(BODY, index=block([(b"m", handle(0, len(BODY))), (b"n", handle(0, len(BODY)))])),
    "block over the index": raw(BODY, index=block([(b"m", handle(0, len(BODY) + 13))])),
    "handle with more behind": raw(BODY, index=block([(b"m", handle(0, len(BODY)) + b"\0")])),
    "handle cut": raw(BODY, index=block([(b"m", b"\x80")])),
    "a meta block": raw(BODY, end=footer(handle(0, len(BODY)), handle(len(BODY) + 18, 13))),
    "70000 keys": table([[(b"", header()), *((f"{i:07d}".encode(), b"") for i in range(70_000))]]),
    "5 million entries": raw(b"\x00\x00\x00" * 5_000_000 + struct.pack("<2I", 0, 1)),
    # the header
    "no header": table([[(b"a", A)]]),
    "no tensors, no header": raw(block([])),
    "header of rubbish": one(head=b"\xff\xff"),
    "header with an unknown field": one(head=header() + field(9, 1)),
    "header with text for a number": one(head=field(1, b"1") + field(3, b"")),
    "0 shards": one(head=header(0)),
    "10^9 shards": one(head=header(1_000_000_000)),
    "2^63 shards": one(head=header(1 << 63)),
    "-1 shards": one(head=header(-1)),
    "big-endian": one(head=header(endianness=1)),
    "a later version": one(head=header(version=b"\x08\x02\x10\x02")),
    "shards twice": one(head=field(1, 1) * 2),
    # entries
    "no entry": one(b""),
    "no type": one(without(1)),
    "no size": one(without(5)),
    "no checksum": one(without(6)),
    "unknown type": one(entry([2, 2], DATA, dtype=99)),
    "complex": one(entry([2], DATA, dtype=8)),
    "type by reference": one(entry([2, 2], DATA, dtype=101)),
    "type of 2^40": one(entry([2, 2], DATA, dtype=1 << 40)),
    "type twice": one(field(1, 1) + A),
    "shape twice": one(field(2, shape([2, 2])) + A),
    "unknown field": one(A + field(15, 1)),
    "wire type 3": one(A + b"\x0b"),
    "wire type 7": one(A + b"\x0f"),
    "field number 0": one(A + b"\x00\x00"),
    "length beyond the entry": one(A + b"\x3a\x7f"),
    "length 2^63": one(A + b"\x3a" + number(1 << 63)),
    "number of 11 bytes": one(b"\x08" + LONG + A),
    "number of 65 bits": one(b"\x08" + b"\xff" * 9 + b"\x02" + A),
    "text for a number": one(field(4, b"0") + A),
    "number for a shape": one(field(2, 1) + A[2:]),
    "checksum as a number": one(A[:-5] + field(6, 1)),
    "unknown rank": one(field(2, field(3, 1)) + without(2)),
    "9 dimensions": one(entry([1] * 7 + [2, 2], DATA)),
    "100000 dimensions": one(entry([1] * 100_000, DATA[:4])),
    "dimension -1": one(entry([-1, 4], DATA)),
    "dimension 2^62": one(entry([1 << 62, 0], b"")),
    "product overflows to 4": one(entry([4194305, 4194305, 211106198978564], DATA)),
    "size with a name and more": one(field(2, field(2, field(1, 4) + field(7, 1))) + without(2)),
    "nested 10000 deep": one(field(2, b"\x12\x00" + b"\x12\x7f" * 10_000) + without(2)),
    "too small for the shape": one(entry([2, 2], DATA, size=12)),
    "too large for the shape": one(entry([2], DATA)),
    "outside the data": one(entry([2, 2], DATA, offset=1)),
    "offset 2^62": one(entry([2, 2], DATA, offset=1 << 62)),
    "offset negative": one(entry([2, 2], DATA, offset=-4)),
    "size negative": one(entry([2, 2], DATA, size=-16)),
    "shard 1 of 1": one(entry([2, 2], DATA, shard=1)),
    "shard -1": one(entry([2, 2], DATA, shard=-1)),
    "checksum wrong": one(A[:-1] + bytes([A[-1] ^ 1])),
    "overlap": two(entry([2], DATA[:8]), entry([2], DATA[4:12], offset=4)),
    "same range": two(A, A),
    "within another": two(A, entry([1], DATA[4:8], offset=4)),
    "BOOL 7": one(entry([16], DATA, dtype=tf.BOOL)),
    "in parts": one(A[:-5] + A[-5:] + field(7, field(1, field(1, 1) + field(2, 1)))),
    "part of nothing": table([[(b"", header()), (b"\0\1a\0\1", A), (b"a", A)]]),
    # text
    "text of 2^40 strings": one(entry([1 << 40], DATA, dtype=tf.STRING)),
    "text of 100 strings in 16 bytes": one(entry([100], DATA, dtype=tf.STRING)),
    "text with wrong lengths": one(entry([2], DATA, dtype=tf.STRING)),
    "text with lengths of 11 bytes": one(entry([1], LONG, dtype=tf.STRING)),
    # names
    "name ../x": one(name=b"../x"),
    "name a/../b": one(name=b"a/../b"),
    "name absolute": one(name=b"/etc/passwd"),
    "name backslash": one(name=b"a\\b"),
    "name NUL": one(name=b"a\0b"),
    "name newline": one(name=b"a\nb"),
    "name right-to-left": one(name="a\u202eb".encode()),
    "name not UTF-8": one(name=b"a\xff"),
    "name 513 bytes": one(name=b"x" * 513),
    "names equal but for case": two(entry([2], DATA[:8]), entry([2], DATA[8:], offset=8), (b"A", b"a")),
}


@pytest.mark.parametrize("name", INDEX)
def test_C05_hostile_index_is_refused(name: str, tmp_path: Path) -> None:
    path = tf.write(tmp_path / "m", INDEX[name], DATA)
    with deeds() as seen, pytest.raises(VitrailError) as caught:
        tensorflow.read(tmp_path / "m")
    files = [str(path), str(tmp_path), "m.data-00000-of-00001"]
    assert seen in ([("open", at) for at in files[:n]] for n in (1, 2, 3))
    assert caught.value.code in ("V201", "V202", "V206")
    assert caught.value.what.isprintable()
    assert len(str(caught.value)) < 3000
    assert caught.value.hint


def test_C05_list_is_broad() -> None:
    assert len(INDEX) >= 95
    assert len(set(INDEX.values())) == len(INDEX)


def test_C05_each_item_is_wrong_in_its_place_only(tmp_path: Path) -> None:
    tf.write(tmp_path / "m", GOOD, DATA)
    assert bytes(tensorflow.read(tmp_path / "m")[0]["a"].data) == DATA
    assert raw(BODY) != GOOD
    tf.write(tmp_path / "m", raw(BODY), DATA)
    assert bytes(tensorflow.read(tmp_path / "m")[0]["a"].data) == DATA


def test_C09_data_files_are_named_by_the_prefix_alone(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(DATA)
    tf.write(tmp_path / "m", one(name=b"x/m.data-00000-of-00001"))
    with pytest.raises(VitrailError) as caught:
        tensorflow.read(tmp_path / "m")
    assert caught.value.code == "V702"
    assert "m.data-00000-of-00001" in caught.value.what


def _link_out(data: Path) -> None:
    data.rename(data.parent.parent / "secret")
    data.symlink_to("../secret")


def _link_inside(data: Path) -> None:
    data.rename(data.with_name("other"))
    data.symlink_to("other")


def _link_to_nothing(data: Path) -> None:
    data.unlink()
    data.symlink_to("absent")


def _link_loop(data: Path) -> None:
    data.unlink()
    data.symlink_to(data.name)


def _link_to_a_device(data: Path) -> None:
    data.unlink()
    data.symlink_to("/dev/zero")


def _hard_link(data: Path) -> None:
    os.link(data, data.parent.parent / "secret")


def _pipe(data: Path) -> None:
    data.unlink()
    os.mkfifo(data)


def _folder(data: Path) -> None:
    data.unlink()
    data.mkdir()


def _missing(data: Path) -> None:
    data.unlink()


def _beyond_the_limit(data: Path) -> None:
    os.truncate(data, (64 << 30) + 1)  # sparse


FOLDERS = {
    f.__name__.strip("_"): f
    for f in (
        _link_out, _link_inside, _link_to_nothing, _link_loop, _link_to_a_device, _hard_link, _pipe, _folder, _missing,
        _beyond_the_limit,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_C09_a_data_file_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    index = tf.write(tmp_path / "m" / "m", GOOD, DATA)
    data = index.with_name("m.data-00000-of-00001")
    FOLDERS[name](data)
    with deeds() as seen, pytest.raises(VitrailError) as caught:
        tensorflow.read(tmp_path / "m" / "m")
    assert caught.value.code in ("V202", "V702") and caught.value.hint
    assert {what for event, what in seen if event == "open"} <= {str(index), str(index.parent), data.name}


def test_C09_links_of_a_hub_cache_lead_into_its_one_store(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    index = tf.write(tmp_path / "blobs" / "m", GOOD, DATA)
    for path in (index, index.with_name("m.data-00000-of-00001")):
        (tmp_path / "snapshot" / path.name).symlink_to(f"../blobs/{path.name}")
    assert bytes(tensorflow.read(tmp_path / "snapshot" / "m")[0]["a"].data) == DATA
    (tmp_path / "blobs" / "m.data-00000-of-00001").rename(tmp_path / "secret")
    (tmp_path / "snapshot" / "m.data-00000-of-00001").unlink()
    (tmp_path / "snapshot" / "m.data-00000-of-00001").symlink_to("../secret")
    with pytest.raises(VitrailError, match="is a link"):
        tensorflow.read(tmp_path / "snapshot" / "m")


def test_C11_each_file_is_opened_once(tmp_path: Path) -> None:
    index = tf.write(tmp_path / "m", GOOD, DATA)
    for path in (tmp_path / "m", index):
        with deeds() as seen:
            read_tensors(path)
        assert seen == [("open", str(index)), ("open", str(tmp_path)), ("open", "m.data-00000-of-00001")]


@pytest.mark.parametrize("name", list(INDEX)[::4])
def test_C10_wrong_hash_stops_before_the_table(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sstable, "read", lambda file: pytest.fail("parsed"))
    tf.write(tmp_path / "m", INDEX[name], DATA)
    with pytest.raises(VitrailError, match=r"SHA-256|limit"):
        tensorflow.read(tmp_path / "m", sha256="0" * 64)


# What is accepted on purpose, and why.
ACCEPTED: dict[str, tuple[bytes, bytes, str]] = {
    "hole between tensors": (
        two(entry([1], DATA[:4]), entry([1], DATA[8:12], offset=8)), DATA, "TensorFlow can align tensors",
    ),
    "bytes behind the last": (one(entry([1], DATA[:4])), DATA, "the same"),
    "empty tensors share a place": (two(entry([0], b""), entry([0, 3], b"")), b"", "they have no bytes"),
    "no tensors": (table([[(b"", header())]]), b"", "an empty checkpoint is one"),
    "dimension with a name": (
        one(field(2, field(2, field(1, 4) + field(2, b"x"))) + without(2)), DATA, "protobuf has it",
    ),
    "zeros written out": (one(field(3, 0) + field(4, 0) + A), DATA, "other writers of protobuf do"),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
def test_C05_accepted_on_purpose(name: str, tmp_path: Path) -> None:
    index, data, _ = ACCEPTED[name]
    tf.write(tmp_path / "m", index, data)
    tensors, notes = tensorflow.read(tmp_path / "m")
    assert not notes
    assert all(tensor.nbytes == 0 or bytes(tensor.data) in DATA for tensor in tensors.values())


STRINGS, STRINGS_CRC = tf.text([b"abc", b"de"])
MANY = [
    (b"", header()),
    (b"bias", entry([4], DATA)),
    (b"graph", entry([2], b"", dtype=tf.STRING, offset=16, size=len(STRINGS))[:-5] + tf.crc_field(STRINGS_CRC)),
    (b"layer/kernel", entry([2, 1], DATA[:8], offset=16 + len(STRINGS))),
]
SEED = table([MANY[:2], MANY[2:]])
SEED_DATA = DATA + STRINGS + DATA[:8]


def mended(body: bytes) -> bytes:
    """The table with right checksums on its blocks, as far as it can still be followed: mutants reach further."""
    out = bytearray(body)
    at = 0
    for size in (len(block(MANY[:2])), len(block(MANY[2:])), 8):
        if at + size + 5 <= len(out):
            struct.pack_into("<I", out, at + size + 1, masked(crc32c(bytes(out[at : at + size + 1]))))
        at += size + 5
    end = len(out) - 48 - 5
    if end < at:
        return body
    struct.pack_into("<I", out, end + 1, masked(crc32c(bytes(out[at : end + 1]))))
    return bytes(out)
