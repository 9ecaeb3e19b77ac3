"""Promise B12: the list HR in tar, tar.gz, tar.xz, tar.bz2 and zip. Nothing comes to lie outside, nothing is left."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.formats.archive_files import END, PACKERS, header, member, pax, tar_of, walked, zip_of
from tests.hostile.deeds import deeds
from vitrail.errors import DataError, VitrailError
from vitrail.formats import extract as extraction
from vitrail.formats.extract import Limits, extract

Lay = Callable[[], bytes]
GOOD = member(b"good.txt", b"good")

# What every tar must refuse, and a word of the refusal.
TARS: dict[str, tuple[Lay, str]] = {
    "../x": (lambda: GOOD + member(b"../x", b"1") + END, "../x"),
    "a/../../x": (lambda: GOOD + member(b"a/../../x", b"1") + END, "a/../../x"),
    "absolute": (lambda: GOOD + member(b"/tmp/vitrail-was-here", b"1") + END, "/tmp/vitrail-was-here"),
    "drive": (lambda: GOOD + member(b"C:\\x", b"1") + END, "C:"),
    "backslash": (lambda: GOOD + member(b"..\\x", b"1") + END, "..\\x"),
    "symlink out, then through it": (
        lambda: GOOD + member(b"out", kind=b"2", link=b"/tmp") + member(b"out/x", b"1") + END, "`out`"),
    "hard link out": (lambda: GOOD + member(b"pw", kind=b"1", link=b"/etc/passwd") + member(b"pw", b"1") + END, "`pw`"),
    "symlink chain of 4096 bytes": (
        lambda: b"".join(member(b"d" * 90 + b"%d" % i, kind=b"2", link=b"d" * 90 + b"%d" % (i + 1)) for i in range(50))
        + member(b"x", b"1") + END, "is a link"),
    "link to the destination": (lambda: member(b"me", kind=b"2", link=b".") + END, "`me`"),
    "trailing-slash symlink": (lambda: member(b"me/", kind=b"2", link=b"/tmp") + END, "`me/`"),
    "character device": (lambda: GOOD + member(b"null", kind=b"3") + END, "`null`"),
    "block device": (lambda: GOOD + member(b"disk", kind=b"4") + END, "`disk`"),
    "FIFO": (lambda: GOOD + member(b"fifo", kind=b"6") + END, "`fifo`"),
    "unknown kind": (lambda: GOOD + member(b"odd", kind=b"V") + END, "`odd`"),
    "name twice": (lambda: GOOD + member(b"good.txt", b"other") + END, "good.txt"),
    "file, then folder": (lambda: member(b"a", b"1") + member(b"a/b", b"1") + END, "`a`"),
    "folder, then file": (lambda: member(b"a/b", b"1") + member(b"a", b"1") + END, "`a`"),
    "case pair": (lambda: member(b"A", b"1") + member(b"a", b"1") + END, "`a`"),
    "case pair of folders": (lambda: member(b"A/x", b"1") + member(b"a/y", b"1") + END, "`a`"),
    "newline": (lambda: member(b"a\nerror: forged", b"1") + END, "a\\nerror"),
    "NUL in a pax path": (lambda: pax((b"path", b"a\0b")) + header(b"x") + END, "NUL"),
    "escape sequence": (lambda: member(b"\x1b[2Jx", b"1") + END, "\\x1b"),
    "bytes that are no text": (lambda: member(b"caf\xe9", b"1") + END, "caf"),
    "no name": (lambda: member(b"", b"1") + END, "no name"),
    "name of 256 bytes": (lambda: pax((b"path", b"x" * 256)) + header() + END, "too long"),
    "path of 5000 bytes": (lambda: pax((b"path", b"x/" * 2500 + b"y")) + header() + END, "name"),
    "depth of 1000": (lambda: pax((b"path", b"a/" * 1000 + b"y")) + header() + END, "deep"),
    "size above the data": (lambda: header(b"big", 5000) + b"x" * 512, "cut off"),
    "size of 2^33": (lambda: header(b"big", (1 << 33) - 1) + END, "big"),
    "negative size": (lambda: header(b"neg", b"\xff" * 12) + END, "size of -1"),
    "negative size in pax": (lambda: pax((b"size", b"-5")) + header(b"neg") + END, "`neg`"),
    "size of 2^90": (lambda: header(b"big", b"\x80" + b"\x7f" * 11) + END, "size of"),
    "size no number": (lambda: header(b"big", b"0000009x000\0") + END, "size"),
    "checksum wrong": (lambda: GOOD + header(b"x", checksum=b"000000\0 ") + END, "checksum"),
    "truncated in the header": (lambda: (GOOD + GOOD)[:1300], "cut off"),
    "truncated between members": (lambda: GOOD, "cut off"),
    "truncated in the end": (lambda: GOOD + bytes(512), "alone"),
    "other bytes after the end": (lambda: GOOD + END + member(b"hidden", b"1") + END, "other bytes"),
    "sparse 8 EiB": (lambda: member(b"sparse", b"1", kind=b"S") + END, "sparse"),
    "sparse by pax": (lambda: pax((b"GNU.sparse.realsize", b"9223372036854775807")) + header(b"s") + END, "sparse"),
    "pax header of 1 GB": (lambda: header(b"pax", 1 << 30, kind=b"x") + END, "1073741824"),
    "long name of 1 GB": (lambda: header(b"long", 1 << 30, kind=b"L") + END, "1073741824"),
    "pax without an end": (lambda: member(b"pax", b"99 path=x", kind=b"x") + END, "pax header"),
    "pax path twice": (lambda: pax((b"path", b"a"), (b"path", b"b")) + header() + END, "twice"),
    "two pax headers": (lambda: pax((b"path", b"a")) + pax((b"path", b"b")) + header() + END, "two pax"),
    "two long names": (lambda: member(b"L", b"a", kind=b"L") * 2 + header() + END, "long name"),
    "pax path and long name": (
        lambda: member(b"L", b"a\0", kind=b"L") + pax((b"path", b"b")) + header() + END, "two long names"),
    "pax for all members": (lambda: pax((b"path", b"../x"), kind=b"g") + GOOD + END, "global"),
    "long name for none": (lambda: member(b"L", b"a\0", kind=b"L") + END, "after"),
    "folder with bytes": (lambda: member(b"d", b"x" * 10, kind=b"5") + END, "`d`"),
}  # fmt: skip


def _zip(files: Mapping[str, bytes], **change: int) -> bytes:
    """A zip whose entries are changed: external=mode << 16, method in both headers, flags in both headers."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, change.get("mode", 0o100644) << 16
            archive.writestr(info, data)
    raw = bytearray(out.getvalue())
    for magic, flags, method in ((b"PK\3\4", 6, 8), (b"PK\1\2", 8, 10)):
        at = raw.find(magic)
        while at >= 0:
            struct.pack_into("<H", raw, at + flags, change.get("flags", 0))
            struct.pack_into("<H", raw, at + method, change.get("method", 0))
            at = raw.find(magic, at + 1)
    return bytes(raw)


def _renamed(old: bytes, new: bytes, *, first: bool) -> bytes:
    data = zip_of({"good.txt": b"good", old.decode(): b"1"})
    at = data.find(old) if first else data.rfind(old)
    return data[:at] + new + data[at + len(old) :]


def _two() -> bytes:
    import warnings

    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    return out.getvalue()


def _overlapping() -> bytes:
    """Two members on the same deflated bytes (D. Fifield, "A better zip bomb", 2019)."""
    data = zip_of({"a": b"x" * 3000, "b": b"x" * 3000})
    second = data.rfind(b"PK\1\2")
    return data[: second + 42] + struct.pack("<I", 0) + data[second + 46 :]


def _sized(size: int) -> bytes:
    data = bytearray(zip_of({"a": b"x" * 3000}))
    struct.pack_into("<I", data, 22, size)
    struct.pack_into("<I", data, data.rfind(b"PK\1\2") + 24, size)
    return bytes(data)


def _bomb() -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(deflate.compress(bytes(1 << 20)) for _ in range(40)) + deflate.flush()
    crc = 0
    for _ in range(40):
        crc = zlib.crc32(bytes(1 << 20), crc)
    sizes = (crc, len(packed), 40 << 20)
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, *sizes, 1, 0) + b"a" + packed
    central = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 0, *sizes, 1, 0, 0, 0, 0, 0, 0) + b"a"
    return local + central + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(central), len(local), 0)


ZIPS: dict[str, tuple[Lay, str]] = {
    "../x": (lambda: zip_of({"good.txt": b"good", "../x": b"1"}), "../x"),
    "absolute": (lambda: zip_of({"/tmp/vitrail-was-here": b"1"}), "/tmp/vitrail-was-here"),
    "drive": (lambda: zip_of({"C:x": b"1"}), "C:x"),
    "backslash": (lambda: _renamed(b"..!x", b"..\\x", first=True).replace(b"..!x", b"..\\x"), "..\\x"),
    "symlink": (lambda: _zip({"out": b"/tmp"}, mode=0o120777), "`out`"),
    "device": (lambda: _zip({"null": b""}, mode=0o020666), "`null`"),
    "FIFO": (lambda: _zip({"fifo": b""}, mode=0o010666), "`fifo`"),
    "folder that is a link": (lambda: _zip({"out/": b""}, mode=0o120777), "`out/`"),
    "name twice": (_two, "`a`"),
    "file, then folder": (lambda: zip_of({"a": b"1", "a/b": b"1"}), "`a`"),
    "case pair": (lambda: zip_of({"A": b"1", "a": b"1"}), "`a`"),
    "newline": (lambda: zip_of({"a\nb": b"1"}), "a\\nb"),
    "NUL": (lambda: _renamed(b"a!b", b"a\0b", first=True).replace(b"a!b", b"a\0b"), "NUL"),
    "bytes that are no text": (lambda: _renamed(b"caf!", b"caf\xe9", first=True).replace(b"caf!", b"caf\xe9"), "caf"),
    "no name": (lambda: zip_of({"": b"1"}), "without a name"),
    "depth of 1000": (lambda: zip_of({"a/" * 1000 + "y": b"1"}), "deep"),
    "overlapping": (_overlapping, "overlaps"),
    "two directories": (lambda: zip_of({"a": b"1"}) + zip_of({"b": b"1"}), "directory"),
    "local name differs": (lambda: _renamed(b"name.txt", b"nome.txt", first=True), "name.txt"),
    "central name differs": (lambda: _renamed(b"name.txt", b"nome.txt", first=False), "nome.txt"),
    "size above the data": (lambda: _sized(4000), "`a`"),
    "size below the data": (lambda: _sized(2000), "`a`"),
    "encrypted": (lambda: _zip({"a": b"1"}, flags=1), "encrypted"),
    "bzip2 inside": (lambda: _zip({"a": b"1"}, method=12), "method 12"),
    "lzma inside": (lambda: _zip({"a": b"1"}, method=14), "method 14"),
    "bomb": (_bomb, "more than 200 times"),
    "truncated": (lambda: zip_of({"a": b"x" * 3000})[:-30], "cut off"),
    "bytes after the end": (lambda: zip_of({"a": b"1"}) + b"x", "followed by other bytes"),
    "CRC wrong": (lambda: zip_of({"a": b"hello"}, zipfile.ZIP_STORED).replace(b"hello", b"jello"), "CRC"),
    "folder with bytes": (lambda: zip_of({"d/": b"1234"}), "`d/`"),
}  # fmt: skip

# What is wrong with the compression around a tar.
STREAMS: dict[str, tuple[Lay, str]] = {
    "bzip2 bomb": (lambda: bz2.compress(tar_of({"zeros": bytes(200_000_000)})), "more than 200 times"),
    "xz bomb": (lambda: lzma.compress(bytes(100_000_000), preset=1), "more than 200 times"),
    "gzip bomb": (lambda: PACKERS["tar.gz"](tar_of({"zeros": bytes(40 << 20)})), "more than 200 times"),
    "gzip truncated": (lambda: PACKERS["tar.gz"](tar_of({"a": random.Random(0).randbytes(9000)}))[:-20], "cut off"),
    "xz truncated": (lambda: PACKERS["tar.xz"](tar_of({"a": random.Random(0).randbytes(9000)}))[:-40], "cut off"),
    "gzip CRC": (lambda: PACKERS["tar.gz"](tar_of({"a": b"1"}))[:-8] + bytes(8), "compression is damaged"),
    "xz of a wanted GiB": (
        lambda: lzma.compress(b"x", lzma.FORMAT_XZ, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]),
        "compression is damaged",
    ),
    "gzip of text": (lambda: PACKERS["tar.gz"](b"hello"), "cut off"),
    "gzip, then text": (lambda: PACKERS["tar.gz"](tar_of({"a": b"1"})) + b"text", "compression is damaged"),
    "nested 42 times": (lambda: _nested(42), "checksum"),
}


def _nested(times: int) -> bytes:
    data = b"inner"
    for _ in range(times):
        data = PACKERS["tar.gz"](data)
    return data


CASES = {
    **{f"{ending}: {name}": (lay, PACKERS[ending], word) for ending in PACKERS for name, (lay, word) in TARS.items()},
    **{f"zip: {name}": (lay, bytes, word) for name, (lay, word) in ZIPS.items()},
    **{f"stream: {name}": (lay, bytes, word) for name, (lay, word) in STREAMS.items()},
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder to unpack in; afterwards nothing but the archive may be in it, or anywhere around it."""
    (tmp_path / "inside").mkdir()
    yield tmp_path / "inside"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["inside"]
    assert sorted(entry.name for entry in (tmp_path / "inside").iterdir()) == ["archive"]
    assert not Path("/tmp/vitrail-was-here").exists()


@pytest.mark.parametrize("name", CASES)
def test_B12_is_refused_by_name_and_nothing_is_left(place: Path, name: str) -> None:
    lay, pack, word = CASES[name]
    (place / "archive").write_bytes(pack(lay()))
    descriptors = len(os.listdir("/proc/self/fd"))
    with deeds() as seen, pytest.raises(DataError) as caught:
        extract(place / "archive", place / "out")
    assert caught.value.code == "V404" and caught.value.hint
    assert caught.value.what.isprintable() and len(str(caught.value)) < 3000
    assert word in caught.value.what, caught.value.what
    assert not {event for event, _ in seen} & {
        "os.link",
        "os.symlink",
        "os.mknod",
        "os.mkfifo",
        "os.chmod",
        "os.system",
    }
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize("ending", [*PACKERS, "zip"])
def test_B12_modes_of_the_archive_are_not_taken(tmp_path: Path, ending: str) -> None:
    if ending == "zip":
        data = _zip({"tool": b"x", "d/y": b"y"}, mode=0o106777)
    else:
        data = PACKERS[ending](
            member(b"d/", b"", kind=b"5", mode=b"0007777") + member(b"d/tool", b"x", mode=b"0007777") + END
        )
    (tmp_path / "archive").write_bytes(data)
    extract(tmp_path / "archive", tmp_path / "out")
    for path in (tmp_path / "out").rglob("*"):
        assert path.stat().st_mode & 0o7777 & ~(0o755 if path.is_dir() else 0o644) == 0


@pytest.mark.parametrize("ending", [*PACKERS, "zip"])
def test_B12_the_number_of_members_is_limited(place: Path, ending: str) -> None:
    files = {f"{i}": b"" for i in range(200)}
    (place / "archive").write_bytes(zip_of(files) if ending == "zip" else PACKERS[ending](tar_of(files)))
    with pytest.raises(DataError, match="more than 100 members"):
        extract(place / "archive", place / "out", limits=Limits(members=100))


@pytest.mark.parametrize("ending", [*PACKERS, "zip"])
def test_B12_the_bytes_are_limited(place: Path, ending: str) -> None:
    files = {"a": b"x" * 600, "b": b"y" * 600}
    (place / "archive").write_bytes(zip_of(files) if ending == "zip" else PACKERS[ending](tar_of(files)))
    with pytest.raises(DataError, match=r"with `b` it holds 1,200 bytes, 1,000 may be"):
        extract(place / "archive", place / "out", limits=Limits(bytes=1000))


@pytest.mark.parametrize("ending", [*PACKERS, "zip"])
def test_B12_a_link_that_appears_on_the_way_is_not_followed(
    place: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Somebody puts links into the folder while it is filled."""
    outside = tmp_path_factory.mktemp("outside")
    files = {"a.txt": b"1", "d/b.txt": b"2"}
    (place / "archive").write_bytes(zip_of(files) if ending == "zip" else PACKERS[ending](tar_of(files)))
    make = os.mkdir

    def swapped(name: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        if name == "d":
            os.symlink(outside, name, dir_fd=dir_fd)
        else:
            make(name, mode, dir_fd=dir_fd)

    monkeypatch.setattr(extraction.os, "mkdir", swapped)
    with pytest.raises(VitrailError):
        extract(place / "archive", place / "out")
    assert list(outside.iterdir()) == []


def _mutant(data: bytes, draw: random.Random) -> bytes:
    """One to four changes: a byte, a number, a cut, a block that is moved, doubled or removed."""
    body = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at, kind = draw.randrange(len(body)), draw.randrange(6)
        if kind == 0:
            body[at] = draw.randrange(256)
        elif kind == 1:
            body[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            body[at : at + 8] = draw.choice([bytes(8), b"\xff" * 8, b"7777777\0", b"../../x\0", struct.pack("<Q", at)])
        elif kind == 3 and len(body) > 600:
            del body[at - at % 512 : at - at % 512 + 512]
        elif kind == 4:
            block = at - at % 512
            body[block:block] = body[block : block + 512]
        else:
            del body[draw.randrange(len(body) // 2, len(body)) :]
        if not body:
            body = bytearray(b"\0")
    return bytes(body)


SEEDS = {
    "tar": tar_of({"a.txt": b"one", "d/b.txt": b"two" * 300, "d/" + "x" * 150: b"three"}),
    "zip": zip_of({"a.txt": b"one", "d/b.txt": b"two" * 300, "d/c": b""}),
    "stored zip": zip_of({"a.txt": b"one", "d/b.txt": b"two" * 300}, zipfile.ZIP_STORED),
    "tar.gz": PACKERS["tar.gz"](tar_of({"a.txt": b"one", "d/b.txt": b"two" * 300})),
    "tar.xz": PACKERS["tar.xz"](tar_of({"a.txt": b"one", "d/b.txt": b"two" * 300})),
}


def _checksummed(data: bytes) -> bytes:
    """Every header's checksum made right again, so that mutants get past it."""
    body = bytearray(data)
    for at in range(0, len(body) - 511, 512):
        if body[at + 257 : at + 262] == b"ustar":
            body[at + 148 : at + 156] = b" " * 8
            body[at + 148 : at + 156] = b"%06o\0 " % sum(body[at : at + 512])
    return bytes(body)


def mutate(name: str, count: int, seed: int, root: Path) -> dict[str, int]:
    """Unpack so many mutants of a good archive; AssertionError for anything but a clean result or a typed refusal."""
    draw, tally = random.Random(f"{name}-{seed}"), {"unpacked": 0, "refused": 0}
    inside = root / "inside"
    inside.mkdir()
    for number in range(count):
        data = _mutant(SEEDS[name], draw)
        if name == "tar" and number % 2:
            data = _checksummed(data)
        (inside / "archive").write_bytes(data)
        try:
            extract(inside / "archive", inside / "out")
        except DataError as error:
            assert error.code in ("V402", "V404") and error.hint and error.what.isprintable(), (name, number)
            tally["refused"] += 1
        else:
            tally["unpacked"] += 1
            files = walked(inside / "out")
            assert all((inside / "out" / path).lstat().st_nlink == 1 for path in files), (name, number)
            assert not any(path.is_symlink() for path in (inside / "out").rglob("*")), (name, number)
            _clear(inside / "out")
        left = sorted(entry.name for entry in inside.iterdir())
        assert left == ["archive"] and [entry.name for entry in root.iterdir()] == ["inside"], (name, number, left)
    return tally


def _clear(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of folders, none of which must outlive a power loss."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.usefixtures("quick_disk")
@pytest.mark.parametrize("name", SEEDS)
def test_B12_mutants_are_unpacked_whole_or_refused(tmp_path: Path, name: str) -> None:
    tally = mutate(name, 150, 2, tmp_path)
    assert tally["refused"] > 20


@pytest.mark.prove
@pytest.mark.usefixtures("quick_disk")
@pytest.mark.parametrize("name", SEEDS)
def test_B12_50000_mutants(tmp_path: Path, name: str) -> None:
    print(name, mutate(name, 10_000, 3, tmp_path))


@pytest.mark.prove
@pytest.mark.usefixtures("quick_disk")
@pytest.mark.parametrize("ending", ["tar", "zip"])
def test_B12_a_million_members(tmp_path: Path, ending: str) -> None:
    files = {f"{i % 1000}/{i}": b"" for i in range(1_000_000)}
    (tmp_path / "archive").write_bytes(zip_of(files) if ending == "zip" else PACKERS[ending](tar_of(files)))
    assert extract(tmp_path / "archive", tmp_path / "out").files == 1_000_000
