"""Hostile safetensors files: each item is a typed refusal, under watch; mutants agree with the reference."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors as reference

from vitrail.errors import VitrailError
from vitrail.formats import safetensors
from vitrail.formats.stored import Stored


def whole(header: bytes | str, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(raw)) + raw + data


def one(
    name: str = '"a"', dtype: str = '"F32"', shape: str = "[1]", offsets: str = "[0,4]", data: bytes = bytes(4)
) -> bytes:
    return whole(f'{{{name}:{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}', data)


def two(first: str, second: str, data: bytes) -> bytes:
    entry = '"{}":{{"dtype":"F32","shape":[1],"data_offsets":{}}}'
    return whole("{" + entry.format("a", first) + "," + entry.format("b", second) + "}", data)


def meta(value: str) -> bytes:
    return whole('{"__metadata__":' + value + "}")


GOOD = one()
EMPTY = '"{}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
A = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'

ITEMS: dict[str, bytes] = {
    # the frame
    "empty": b"",
    "7 bytes": bytes(7),
    "length 0": struct.pack("<Q", 0) + bytes(8),
    "length 1": struct.pack("<Q", 1) + b"{}",
    "length of the file": struct.pack("<Q", len(GOOD)) + GOOD[8:],
    "length one too many": struct.pack("<Q", len(GOOD) - 7) + GOOD[8:],
    "length 100000001": struct.pack("<Q", 100_000_001) + GOOD[8:],
    "length 2^63": struct.pack("<Q", 1 << 63) + GOOD[8:],
    "length 2^64-1": b"\xff" * 8 + GOOD[8:],
    "header beyond the limit": whole(b"{" + b" " * (16 << 20) + b"}"),
    # the text
    "not UTF-8": one('"\xff"').replace("\xff".encode(), b"\xff\xfe"),
    "array": whole("[]"),
    "scalar": whole("12"),
    "text": whole('"abc"'),
    "blank before": whole(" " + GOOD[8:-4].decode(), bytes(4)),
    "newline after": whole(GOOD[8:-4].decode() + "\n", bytes(4)),
    "NUL after": whole(GOOD[8:-4].decode() + "\0", bytes(4)),
    "second object": whole("{}{}"),
    "byte order mark": whole(b"\xef\xbb\xbf{}"),
    "unclosed": whole('{"a":{"dtype":"F32"'),
    "comma at the end": whole('{"a":' + A + ",}", bytes(4)),
    "no colon": whole('{"a"' + A + "}", bytes(4)),
    "comment": whole('{/**/"a":' + A + "}", bytes(4)),
    "single quotes": whole(("{'a':" + A + "}").replace('"', "'"), bytes(4)),
    "100000 nestings": whole('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "nested objects": whole('{"a":' * 5000 + "1" + "}" * 5000),
    "300000 entries": whole("{" + ",".join(EMPTY.format(i) for i in range(300_000)) + "}"),
    "66000 entries": whole("{" + ",".join(EMPTY.format(i) for i in range(66_000)) + "}"),
    "number of 10^7 digits": one(shape="[" + "1" * 10_000_000 + "]"),
    "lone surrogate": one(r'"\ud800"'),
    "bad escape": one(r'"\x61"'),
    "raw control character": one('"a\tb"'),
    # keys
    "name twice, same range": whole('{"a":' + A + ',"a":' + A + "}", bytes(4)),
    "name twice, other range": whole('{"a":' + A + ',"a":' + A.replace("[0,4]", "[4,8]") + "}", bytes(8)),
    "name twice by escape": whole('{"a":' + A + ',"\\u0061":' + A + "}", bytes(4)),
    "dtype twice": whole('{"a":' + A.replace("{", '{"dtype":"F32",') + "}", bytes(4)),
    "key too much": whole('{"a":' + A.replace("{", '{"x":"y",') + "}", bytes(4)),
    "key missing": whole('{"a":{"dtype":"F32","shape":[1]}}', bytes(4)),
    "entry null": whole('{"a":null}'),
    "entry is a list": whole('{"a":[]}'),
    # ranges
    "overlap": two("[0,4]", "[2,6]", bytes(6)),
    "same range": two("[0,4]", "[0,4]", bytes(4)),
    "hole": two("[0,4]", "[8,12]", bytes(12)),
    "hole before": one(offsets="[4,8]", data=bytes(8)),
    "trailing byte": one() + b"\0",
    "cut off": one()[:-1],
    "begin after end": one(offsets="[4,0]"),
    "negative offset": one(offsets="[-4,0]"),
    "offset 2^63": one(offsets="[0,9223372036854775808]"),
    "float offset": one(offsets="[0,4.0]"),
    "exponent offset": one(offsets="[0,4e0]"),
    "text offset": one(offsets='["0","4"]'),
    "three offsets": one(offsets="[0,4,4]"),
    "one offset": one(offsets="[0]"),
    "true as offset": one(offsets="[false,4]"),
    # shapes
    "negative size": one(shape="[-1]"),
    "size 2^64": one(shape="[18446744073709551616]"),
    "product overflows to 4": one(shape="[4194305,4194305,211106198978564]"),
    "a million ones": one(shape="[" + "1," * 999_999 + "1]"),
    "rank 9": one(shape="[1,1,1,1,1,1,1,1,1]"),
    "zero hides 2^62": one(shape="[0,4611686018427387904]", offsets="[0,0]", data=b""),
    "leading zero": one(shape="[01]"),
    "NaN": one(shape="[NaN]"),
    "nested shape": one(shape="[[1]]"),
    "shape is a number": one(shape="1"),
    "too small for the shape": one(shape="[2]"),
    # types
    "unknown dtype": one(dtype='"F33"'),
    "8-bit float": one(dtype='"F8_E4M3"', offsets="[0,1]", data=bytes(1)),
    "sub-byte": one(dtype='"F4"', shape="[3]", offsets="[0,2]", data=bytes(2)),
    "lower case": one(dtype='"f32"'),
    "dtype is a number": one(dtype="32"),
    "BOOL 7": one(dtype='"BOOL"', offsets="[0,1]", data=b"\7"),
    # metadata
    "metadata number": meta("1"),
    "metadata null": meta("null"),
    "metadata nested": meta('{"a":{"b":"c"}}'),
    "metadata value number": meta('{"a":1}'),
    "metadata 10 MB": meta('{"a":"' + "x" * 10_000_000 + '"}'),
    "metadata escape sequence": meta(r'{"a":"\u001b[31m"}'),
    "metadata NUL": meta(r'{"a":"\u0000"}'),
    "metadata key twice": meta('{"a":"b","a":"c"}'),
    "metadata twice": whole('{"__metadata__":{},"__metadata__":{}}'),
    # names
    "name empty": one('""'),
    "name ..": one('".."'),
    "name ../x": one('"../x"'),
    "name a/../b": one('"a/../b"'),
    "name absolute": one('"/etc/passwd"'),
    "name backslash": one(r'"a\\b"'),
    "name NUL": one(r'"a\u0000b"'),
    "name newline": one(r'"a\nb"'),
    "name right-to-left": one('"a\\u202eb"'),
    "name 513 bytes": one('"' + "x" * 513 + '"'),
    "names equal but for case": two("[0,4]", "[4,8]", bytes(8)).replace(b'"b"', b'"A"'),
    # others' files
    "zip": b"PK\x03\x04" + bytes(60),
    "pickle": b"\x80\x02}q\x00.",
    "safetensors, then zip": one() + b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("name", ITEMS)
def test_C03_hostile_file_is_refused(
    name: str, tmp_path: Path, refused: Callable[[Callable[[Path], object], Path], VitrailError]
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(ITEMS[name])
    assert refused(safetensors.read, path).code in ("V201", "V202")


def test_C03_list_is_broad() -> None:
    assert len(ITEMS) >= 55
    assert len(set(ITEMS.values())) == len(ITEMS)


@pytest.mark.parametrize("name", [name for name in ITEMS if len(ITEMS[name]) < 100_000][:30])
def test_C10_wrong_hash_stops_before_the_header(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries: list[str] = []
    monkeypatch.setattr(safetensors, "parse", lambda file: entries.append(name))
    path = tmp_path / "x.safetensors"
    path.write_bytes(ITEMS[name])
    with pytest.raises(VitrailError, match="SHA-256"):
        safetensors.read(path, sha256="0" * 64)
    assert not entries


# What is accepted on purpose, and why.
ACCEPTED: dict[str, tuple[bytes, str]] = {
    "blanks after the header": (whole(GOOD[8:-4].decode() + "   ", bytes(4)), "the format pads with them"),
    "blanks inside": (whole('{ "a" :\t' + A.replace(",", " ,\n") + " }", bytes(4)), "indented JSON is JSON"),
    "other order of keys": (
        whole('{"a":{"data_offsets":[0,4],"shape":[1],"dtype":"F32"}}', bytes(4)),
        "JSON has no order",
    ),
    "empty tensors share an offset": (
        whole("{" + EMPTY.format("a") + "," + EMPTY.format("b") + "}"),
        "every file with two empty tensors does",
    ),
    "no tensors": (whole("{}"), "an empty state dict is one"),
    "NaN weights": (one(data=b"\xff\xff\xff\x7f"), "values are judged where weights are loaded, not here"),
    "markup in metadata": (meta('{"a":"<b>"}'), "text is text; who renders it escapes it"),
    "line breaks in metadata": (meta(r'{"a":"x\ny"}'), "indented JSON is kept there by real files"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_C03_accepted_on_purpose(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(ACCEPTED[name][0])
    agrees(path)


def agrees(path: Path) -> None:
    """We accept it: then the reference does, with the same names, types, shapes and bytes."""
    tensors, _ = safetensors.read(path)
    theirs = dict(reference.deserialize(path.read_bytes()))
    assert list(tensors) == sorted(theirs)
    for name, tensor in tensors.items():
        assert (tensor.dtype, list(tensor.shape), bytes(tensor.data)) == (
            theirs[name]["dtype"],
            theirs[name]["shape"],
            bytes(theirs[name]["data"]),
        )


SEED = safetensors.dumps(
    {
        "blocks.0.weight": Stored("F32", (2, 3), bytes(range(24))),
        "blocks.0.bias": Stored("BF16", (2,), bytes(4)),
        "index": Stored("I64", (1, 1), bytes(8)),
        "mask": Stored("BOOL", (3,), b"\0\1\0"),
        "nothing": Stored("U8", (0, 4), b""),
    },
    {"format": "pt", "note": "a\nb"},
)
SPLICES = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"0",
    b"9",
    b"-",
    b"\\u0041",
    b"\xff",
    b"1e3",
    b" ",
    b"null",
    b"F16",
]
