"""Hostile npz files: each item is a typed refusal, under watch; what is accepted, NumPy reads alike."""

from __future__ import annotations

import io
import os
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vitrail.errors import SystemFault, VitrailError
from vitrail.formats import held, npz
from vitrail.formats.stored import DTYPES

FLOATS = bytes(range(24))


def npy(
    descr: str = "'<f4'",
    fortran: str = "False",
    shape: str = "(2, 3)",
    data: bytes = FLOATS,
    *,
    version: bytes = b"\1\0",
) -> bytes:
    return with_header(f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}", data, version=version)


def with_header(
    text: str | bytes, data: bytes = FLOATS, *, version: bytes = b"\1\0", length: int | None = None
) -> bytes:
    raw = (text if isinstance(text, bytes) else text.encode()) + b"\n"
    size = len(raw) if length is None else length
    return b"\x93NUMPY" + version + size.to_bytes(2 if version == b"\1\0" else 4, "little") + raw + data


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", method) as archive:
        warnings.simplefilter("ignore")  # a name twice
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return target.getvalue()


def one(content: bytes | None = None, name: str = "w.npy", method: int = zipfile.ZIP_STORED) -> bytes:
    return zipped((name, npy() if content is None else content), method=method)


class Canary:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch canary",)


def patched(data: bytes, at: int, form: str, value: int) -> bytes:
    field = struct.pack(form, value)
    return data[:at] + field + data[at + len(field) :]


def central(data: bytes) -> int:
    return data.index(b"PK\x01\x02")


GOOD = one()
DEFLATED = one(method=zipfile.ZIP_DEFLATED)
PICKLE = pickle.dumps(Canary())
BIG = 1 << 20


def bomb(count: int, *, told: int | None = None) -> bytes:
    """An array of `count` zero bytes, deflated a thousand times smaller; header and directory may tell fewer."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    size = count if told is None else told
    head = npy("'|u1'", "False", f"({size},)", b"")
    packed = deflate.compress(head)
    crc, left = zlib.crc32(head), count
    while left:
        piece = bytes(min(left, BIG))
        packed, crc, left = packed + deflate.compress(piece), zlib.crc32(piece, crc), left - len(piece)
    packed += deflate.flush()
    fields = struct.pack("<HHHHIIIHH", 0, 8, 0, 33, crc, len(packed), len(head) + size, 5, 0)
    local = b"PK\x03\x04\x14\0" + fields + b"w.npy" + packed
    entry = b"PK\x01\x02\x14\x03\x14\0" + fields + bytes(14) + b"w.npy"
    end = b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 1, 1, len(entry), len(local), 0)
    return local + entry + end


def compressed(change: Callable[[bytes], bytes]) -> bytes:
    """A deflated member whose packed bytes are changed, the directory in accord with the new length."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = npy()
    packed = change(deflate.compress(content) + deflate.flush())
    fields = struct.pack("<HHHHIIIHH", 0, 8, 0, 33, zlib.crc32(content), len(packed), len(content), 5, 0)
    local = b"PK\x03\x04\x14\0" + fields + b"w.npy" + packed
    entry = b"PK\x01\x02\x14\x03\x14\0" + fields + bytes(14) + b"w.npy"
    return local + entry + b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 1, 1, len(entry), len(local), 0)


ITEMS: dict[str, bytes] = {
    # not this format
    "empty": b"",
    "7 bytes": bytes(7),
    "text": b"<!DOCTYPE html>" + bytes(40),
    "a bare array": npy(),
    "a raw pickle under the name": PICKLE,
    "a pickle as a member": one(PICKLE),
    "a member that is no array": zipped(("w.npy", npy()), ("readme.txt", b"hello")),
    "an empty member": one(b""),
    "a folder": zipped(("w.npy", npy()), ("a/", b"")),
    # the zip
    "cut off": GOOD[:-1],
    "trailing byte": GOOD + b"\0",
    "leading bytes": b"#!/bin/sh\n" + GOOD,
    "comment": GOOD[:-2] + b"\1\0x",
    "bzip2": one(method=zipfile.ZIP_BZIP2),
    "lzma": one(method=zipfile.ZIP_LZMA),
    "method 99": patched(patched(GOOD, 8, "<H", 99), central(GOOD) + 10, "<H", 99),
    "encrypted": patched(patched(GOOD, 6, "<H", 1), central(GOOD) + 8, "<H", 1),
    "CRC wrong": GOOD.replace(FLOATS, FLOATS[::-1]),
    "CRC wrong, deflated": patched(patched(DEFLATED, 14, "<I", 1), central(DEFLATED) + 16, "<I", 1),
    "local name differs": GOOD.replace(b"w.npy", b"v.npy", 1),
    "local size differs": patched(GOOD, 22, "<I", 7),
    "local CRC differs": patched(GOOD, 14, "<I", 7),
    "local method differs": patched(GOOD, 8, "<H", 8),
    "central size differs": patched(GOOD, central(GOOD) + 24, "<I", 7),
    "stored with two sizes": patched(patched(GOOD, 22, "<I", 150), central(GOOD) + 24, "<I", 150),
    "size 4 GiB": patched(patched(GOOD, 22, "<I", 0xFFFFFFFE), central(GOOD) + 24, "<I", 0xFFFFFFFE),
    "zip64 sizes that are absent": patched(GOOD, central(GOOD) + 24, "<I", 0xFFFFFFFF),
    "zip64 locator to nowhere": GOOD[:-22] + b"PK\x06\x07" + bytes(16) + GOOD[-22:],
    "overlap": zipped(("a.npy", npy()), ("b.npy", npy())).replace(
        struct.pack("<I", len(GOOD[: central(GOOD)])) + b"b.npy", bytes(4) + b"b.npy"
    ),
    "local header inside a member": patched(GOOD, central(GOOD) + 42, "<I", 40),
    # deflate
    "1000 times 40 MiB": bomb(40 * BIG),
    "1000 times 4 MiB": bomb(4 * BIG),
    "bomb that tells a small size": bomb(40 * BIG, told=100),
    "more than it tells": compressed(lambda packed: packed).replace(
        struct.pack("<I", len(npy())), struct.pack("<I", len(npy()) - 4)
    ),
    "less than it tells": compressed(lambda packed: packed).replace(
        struct.pack("<I", len(npy())), struct.pack("<I", len(npy()) + 4)
    ),
    "deflate cut off": compressed(lambda packed: packed[:-3]),
    "deflate goes on": compressed(lambda packed: packed + b"\0"),
    "deflate twice": compressed(lambda packed: packed + packed),
    "deflate broken": compressed(lambda packed: b"\xff" + packed[1:]),
    "deflate with a zlib head": compressed(lambda packed: zlib.compress(npy())),
    "no deflated byte": compressed(lambda packed: b""),
    # names
    "name twice": zipped(("w.npy", npy()), ("w.npy", npy())),
    "names equal but for case": zipped(("w.npy", npy()), ("W.npy", npy())),
    "a member without the ending hides one": zipped(("w", npy()), ("w.npy", npy())),
    "a name with the ending twice hides one": zipped(("w.npy", npy()), ("w.npy.npy", npy())),
    "name ../x": one(name="../x.npy"),
    "name a/../b": one(name="a/../b.npy"),
    "name absolute": one(name="/etc/x.npy"),
    "name backslash": one(name="a\\b.npy"),
    "name newline": one(name="a\nb.npy"),
    "name of the ending alone": one(name=".npy"),
    "name of two points": one(name="...npy"),
    "name not UTF-8": one(name="é.npy").replace("é".encode(), b"\xff\xfe"),
    "name of 600 bytes": one(name="x" * 600 + ".npy"),
    # magic, version, length
    "magic wrong": one(b"\x93NUMPX" + npy()[6:]),
    "version 9.9": one(npy(version=b"\x09\x09")),
    "version 0.1": one(npy(version=b"\0\1")),
    "version 1.1": one(npy(version=b"\1\1")),
    "cut off in the magic": one(npy()[:7]),
    "cut off in the header": one(npy()[:40]),
    "header of 20 kB": one(with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }" + " " * 20_000)),
    "header of 4 GiB": one(with_header("{}", version=b"\2\0", length=0xFFFFFFFF)),
    "header of 4 GiB, deflated": one(with_header("{}", version=b"\2\0", length=0xFFFFFFFF), method=8),
    "header one byte longer than the member": one(with_header("{}", b"", length=4)),
    "header of no bytes": one(with_header(b"", length=0)),
    # the header's text
    "header a call": one(with_header("__import__('os').system('touch canary')")),
    "header with a call inside": one(npy(shape="(__import__('os').system('touch canary'),)")),
    "header of nested parentheses": one(with_header("(" * 3000 + ")" * 3000)),
    "shape of nested parentheses": one(npy(shape="(" * 3000 + ")" * 3000)),
    "header a list": one(with_header("['descr', '<f4']")),
    "header a set": one(with_header("{'descr', 'fortran_order', 'shape'}")),
    "header a call of dict": one(with_header("dict(descr='<f4', fortran_order=False, shape=(2, 3))")),
    "header without braces": one(with_header("'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)")),
    "header unclosed": one(with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), ")),
    "header goes on": one(with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } + {}")),
    "header in two lines": one(with_header("{'descr': '<f4',\n 'fortran_order': False, 'shape': (2, 3), }")),
    "header without its newline": one(npy().replace(b"}\n", b"} ")),
    "comment in the header": one(with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } # x")),
    "key missing": one(with_header("{'descr': '<f4', 'shape': (2, 3), }")),
    "key too much": one(with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'x': 1, }")),
    "key twice": one(with_header("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }")),
    "key by escape": one(with_header("{'\\x64escr': '<f4', 'fortran_order': False, 'shape': (2, 3), }")),
    "key bytes": one(with_header("{b'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }")),
    "no commas": one(with_header("{'descr': '<f4' 'fortran_order': False 'shape': (2, 3)}")),
    "10000 keys": one(with_header("{" + "'a': True, " * 900 + "}")),
    "NUL in the header": one(with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\0")),
    "not ASCII": one(with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (٢, ٣), }")),
    # types
    "objects": one(npy("'|O'", shape="()", data=PICKLE)),
    "objects of 8 bytes": one(npy("'|O8'", shape="()", data=PICKLE)),
    "records": one(npy("[('a', '<f4')]", shape="(6,)")),
    "records with objects": one(npy("[('a', '<f4'), ('b', '|O')]", shape="()", data=PICKLE)),
    "subarray": one(npy("('<f4', (3,))", shape="(2,)")),
    "nested records": one(npy("[('a', " * 300 + "'<f4'" + ")]" * 300, shape="(6,)")),
    "text elements": one(npy("'<U6'", shape="()")),
    "bytes elements": one(npy("'|S24'", shape="()")),
    "complex": one(npy("'<c8'", shape="(3,)")),
    "dates": one(npy("'<M8[ns]'", shape="(3,)")),
    "long double": one(npy("'<f16'", shape="(1,)", data=bytes(16))),
    "raw bytes of 3": one(npy("'|V3'", shape="(8,)")),
    "raw pairs, big-endian": one(npy("'>V2'", shape="(12,)")),
    "no byte order for 4 bytes": one(npy("'|f4'")),
    "native byte order": one(npy("'=f4'")),
    "no byte order": one(npy("'f4'")),
    "type by name": one(npy("'float32'")),
    "type empty": one(npy("''")),
    "type a number": one(npy("4")),
    "type None": one(npy("None")),
    "type of 9 kB": one(npy("'<f" + "4" * 9000 + "'")),
    "bool 7": one(npy("'|b1'", shape="(1,)", data=b"\7")),
    # shapes and lengths
    "negative size": one(npy(shape="(-2, -3)")),
    "product overflows to 6": one(npy(shape="(4194305, 4194305, 211106198978564)", data=FLOATS)),
    "size 2^64": one(npy(shape="(18446744073709551616,)")),
    "1 TiB of elements": one(npy(shape="(1099511627776,)")),
    "zero hides 2^62": one(npy(shape="(0, 4611686018427387904)", data=b"")),
    "size of 5000 digits": one(npy(shape="(" + "9" * 5000 + ",)")),
    "3000 ones": one(npy(shape="(" + "1," * 3000 + ")", data=bytes(4))),
    "rank 9": one(npy(shape="(1, 1, 1, 1, 1, 1, 1, 1, 1)", data=bytes(4))),
    "size a bool": one(npy(shape="(True, 6)")),
    "size a float": one(npy(shape="(2.0, 3)")),
    "size with an exponent": one(npy(shape="(2e0, 3)")),
    "size hexadecimal": one(npy(shape="(0x2, 3)")),
    "size with an underscore": one(npy(shape="(0_2, 3)")),
    "size with a leading zero": one(npy(shape="(02, 3)")),
    "size of Python 2": one(npy(shape="(2L, 3L)")),
    "shape a number": one(npy(shape="(6)")),
    "shape a list": one(npy(shape="[2, 3]")),
    "shape None": one(npy(shape="None")),
    "shape with a hole": one(npy(shape="(2,,3)")),
    "shape a comma": one(npy(shape="(,)", data=bytes(4))),
    "order a number": one(npy(fortran="0")),
    "order a text": one(npy(fortran="'False'")),
    "trailing bytes": one(npy(data=FLOATS + b"\0")),
    "missing bytes": one(npy(data=FLOATS[:-1])),
    "no elements": one(npy(data=b"")),
}


@pytest.mark.parametrize("name", ITEMS)
def test_C04_hostile_file_is_refused(
    name: str,
    tmp_path: Path,
    refused: Callable[[Callable[[Path], object], Path], VitrailError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # where a canary would appear
    path = tmp_path / "x.npz"
    path.write_bytes(ITEMS[name])
    assert refused(npz.read, path).code in ("V201", "V202")


def test_C04_list_is_broad() -> None:
    assert len(ITEMS) >= 100
    assert len(set(ITEMS.values())) == len(ITEMS)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("objects", "V202", "pickle"),
        ("records with objects", "V202", "records"),
        ("1000 times 40 MiB", "V202", "the limit is 200"),
        ("header of 4 GiB", "V202", "the limit is 10000"),
        ("bomb that tells a small size", "V201", "goes on after its end"),
        ("CRC wrong", "V201", "CRC"),
        ("name twice", "V202", "two members"),
        ("names equal but for case", "V202", "W.npy` are the same but for case"),
        ("a name with the ending twice hides one", "V202", "collide"),
        ("trailing bytes", "V201", "takes 24 bytes, not 25"),
        ("bzip2", "V202", "method 12"),
    ],
)
def test_C08_the_refusal_says_which_rule(name: str, code: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(ITEMS[name])
    with pytest.raises(VitrailError) as caught:
        npz.read(path)
    assert caught.value.code == code
    assert words in caught.value.what


def test_C07_many_members_together_are_bounded(
    tmp_path: Path, refused: Callable[[Callable[[Path], object], Path], VitrailError]
) -> None:
    rows = np.tile(np.arange(120, dtype="<u1"), 120 * 70).tobytes()  # shrinks about 190 times
    content = npy("'|u1'", shape=f"({len(rows)},)", data=rows)
    path = tmp_path / "x.npz"
    path.write_bytes(zipped(*((f"{i}.npy", content) for i in range(90)), method=zipfile.ZIP_DEFLATED))
    assert "become" in refused(npz.read, path).what


def test_C07_more_arrays_than_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "TENSORS", 1)
    path = tmp_path / "x.npz"
    path.write_bytes(zipped(("a.npy", npy()), ("b.npy", npy())))
    with pytest.raises(VitrailError, match="more than 1 arrays"):
        npz.read(path)


def test_A3_memory_that_does_not_suffice_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(size: int) -> bytearray:
        raise MemoryError

    monkeypatch.setattr(held, "bytearray", full, raising=False)
    path = tmp_path / "x.npz"
    path.write_bytes(DEFLATED)
    with pytest.raises(SystemFault, match="bytes of memory"):
        npz.read(path)


@pytest.mark.parametrize("name", [name for name in ITEMS if len(ITEMS[name]) < 100_000][::4])
def test_C10_wrong_hash_stops_before_the_directory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries: list[str] = []
    monkeypatch.setattr(npz, "parse", lambda file: entries.append(name))
    path = tmp_path / "x.npz"
    path.write_bytes(ITEMS[name])
    with pytest.raises(VitrailError, match="SHA-256"):
        npz.read(path, sha256="0" * 64)
    assert not entries


# What is accepted on purpose, and why.
ACCEPTED: dict[str, tuple[bytes, str]] = {
    "deflated": (DEFLATED, "numpy.savez_compressed writes so"),
    "big-endian": (one(npy("'>f4'")), "a file of a big-endian machine; the values are the same"),
    "Fortran order": (one(npy(fortran="True")), "how NumPy saves a transposed array"),
    "no arrays": (zipped(), "numpy.savez of nothing"),
    "NaN": (one(npy(data=b"\xff" * 24)), "values are judged where weights are loaded, not here"),
    "scalar": (one(npy(shape="()", data=bytes(4))), "a 0-d array"),
    "empty array": (one(npy(shape="(0, 3)", data=b"")), "an array without elements is one"),
    "other order of keys": (
        one(with_header("{'shape': (2, 3), 'descr': '<f4', 'fortran_order': True}")),
        "a dict has no order",
    ),
    "sizes after the bytes": (b"", "a zip that was written to a pipe"),
}


class Pipe(io.RawIOBase):
    """A target that cannot seek."""

    def __init__(self) -> None:
        self.taken = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.taken += memoryview(data)  # type: ignore[arg-type]
        return len(memoryview(data))  # type: ignore[arg-type]


def piped() -> bytes:
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        archive.writestr("w.npy", npy())
    return bytes(pipe.taken)


@pytest.mark.parametrize("name", ACCEPTED)
def test_C04_accepted_on_purpose(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(ACCEPTED[name][0] or piped())
    agrees(path)


def agrees(path: Path) -> None:
    """We accept it: then NumPy does, with the same names, types, shapes and bytes."""
    tensors = npz.read(path)
    with path.open("rb") as file, np.load(file, allow_pickle=False) as theirs:
        assert list(tensors) == theirs.files
        for name, tensor in tensors.items():
            array = theirs[name]
            if tensor.dtype == "BF16":
                assert array.dtype == np.dtype("V2")
            else:
                array = array.astype(array.dtype.newbyteorder("<"))
                assert array.dtype.str == DTYPES[tensor.dtype][1]
            assert (tensor.shape, bytes(tensor.data)) == (array.shape, array.tobytes())


def seeds() -> list[bytes]:
    target = io.BytesIO()
    np.savez(
        target,
        **{  # type: ignore[arg-type]
            "Transformer/kernel": np.arange(6, dtype="<f4").reshape(2, 3),
            "bias": np.arange(3, dtype=">f8"),
            "mask": np.array([True, False]),
            "half": np.arange(4, dtype="<u2").view("V2"),
        },
    )
    return [target.getvalue(), DEFLATED, GOOD]


SPLICES = [b"(", b")", b"'", b",", b"{", b"}", b" ", b"0", b"9", b"\n", b"True", b"|O", b">", b"PK\x01\x02", b"\0\0"]
