"""Tar and zip read in place and unpacked: equal to what the standard library reads of honest archives."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.archive_files import END, PACKERS, header, member, pax, tar_of, walked, wrongly_read, zip_of
from vitrail.errors import DataError, SystemFault, WeightsError
from vitrail.formats import tar
from vitrail.formats.archives import archive_kind
from vitrail.formats.extract import Limits, extract
from vitrail.formats.ranges import ranges
from vitrail.formats.zip_files import zip_files

FILES = {
    "a.txt": b"one",
    "b/c.bin": bytes(range(256)) * 40,
    "b/empty": b"",
    "b/d/" + "x" * 120: b"long",
    "ü/é.jpg": b"u",
}


def listed(data: bytes, path: Path) -> dict[str, bytes]:
    path.write_bytes(data)
    with ranges(path).opened() as read:
        return {one.name: read(one.start, one.size) for one in tar.members(read, path) if one.kind == "file"}


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_style_of_tar_gives_its_members(tmp_path: Path, style: int) -> None:
    files = {name: data for name, data in FILES.items() if style != tarfile.USTAR_FORMAT or len(name) < 100}
    assert listed(tar_of(files, style), tmp_path / "x.tar") == files


@given(
    st.dictionaries(st.text("abcé/", min_size=1, max_size=140).map(lambda t: "f" + t + "x"), st.binary(max_size=1500))
)
def test_tar_and_zip_agree_with_the_standard_library(files: dict[str, bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        assert listed(tar_of(files, tarfile.GNU_FORMAT), Path(folder) / "x.tar") == files
        (Path(folder) / "x.zip").write_bytes(zip_of(files))
        found = zip_files(ranges(Path(folder) / "x.zip"))
        assert {name: found.read(index) for index, name in enumerate(found.names)} == files


def test_sizes_in_base_256_and_in_pax(tmp_path: Path) -> None:
    wide = b"\x80" + struct.pack(">Q", 5).rjust(11, b"\0")
    data = (
        header(b"wide", wide)
        + b"hello".ljust(512, b"\0")
        + pax((b"size", b"3"))
        + header(b"pax")
        + b"abc".ljust(512, b"\0")
    )
    assert listed(data + END, tmp_path / "x.tar") == {"wide": b"hello", "pax": b"abc"}


def test_old_tars_and_prefixes(tmp_path: Path) -> None:
    data = member(b"old", b"v7", kind=b"\0", magic=bytes(8)) + member(b"name", b"p", prefix=b"some/folder")
    data += member(b"dir/", b"", kind=b"\0", magic=bytes(8))
    assert listed(data + END, tmp_path / "x.tar") == {"old": b"v7", "some/folder/name": b"p"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_stored_and_deflated(tmp_path: Path, method: int) -> None:
    (tmp_path / "x.zip").write_bytes(zip_of(FILES, method))
    found = zip_files(ranges(tmp_path / "x.zip"))
    assert {name: found.read(i) for i, name in enumerate(found.names)} == FILES
    assert found.sizes.tolist() == [len(data) for data in FILES.values()]


def test_zip_as_a_stream_wrote_it(tmp_path: Path) -> None:
    class Unseekable(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.data += bytes(data)  # type: ignore[call-overload]
            return len(bytes(data))  # type: ignore[call-overload]

    out = Unseekable()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.txt", b"later" * 100)
    (tmp_path / "x.zip").write_bytes(out.data)
    assert zip_files(ranges(tmp_path / "x.zip")).read(0) == b"later" * 100


def test_foreign_names_are_bytes(tmp_path: Path) -> None:
    found = listed(member(b"caf\xe9.jpg", b"x") + END, tmp_path / "x.tar")
    assert [os.fsencode(name) for name in found] == [b"caf\xe9.jpg"]


def test_members_are_read_by_many_threads(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    files = {f"{i}.bin": random.bytes(3000) for i in range(50)}
    (tmp_path / "x.zip").write_bytes(zip_of(files))
    found = zip_files(ranges(tmp_path / "x.zip"))
    assert not wrongly_read(lambda index: found.read(index) == files[found.names[index]], 50)


def test_B15_a_file_that_changed_is_never_read_as_another(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(zip_of({"a": b"1" * 100}))
    found = zip_files(ranges(path))
    path.write_bytes(zip_of({"a": b"2" * 100}) + b"")
    os.utime(path, ns=(1, 1))
    with pytest.raises(WeightsError, match="changed"):
        found.read(0)


def test_kinds_are_told_by_content(tmp_path: Path) -> None:
    plain = tar_of(FILES)
    for ending, pack in PACKERS.items():
        (tmp_path / "x").write_bytes(pack(plain))
        expected = {"tar": "tar", "tar.gz": "gzip", "tar.xz": "xz", "tar.bz2": "bzip2"}[ending]
        assert archive_kind(tmp_path / "x") == expected
    for data, kind in ((zip_of(FILES), "zip"), (zip_of({}), "zip"), (b"PAR1", "parquet"), (b"", None), (b"text", None)):
        (tmp_path / "x").write_bytes(data)
        assert archive_kind(tmp_path / "x") == kind


@pytest.mark.parametrize("ending", [*PACKERS, "zip"])
def test_extraction_gives_what_was_packed(tmp_path: Path, ending: str) -> None:
    (tmp_path / "x").write_bytes(zip_of(FILES) if ending == "zip" else PACKERS[ending](tar_of(FILES)))
    seen: list[tuple[int, int]] = []
    done = extract(tmp_path / "x", tmp_path / "out", progress=lambda *at: seen.append(at))
    assert walked(tmp_path / "out") == FILES
    assert (done.files, done.bytes) == (len(FILES), sum(map(len, FILES.values())))
    assert seen and all(a <= b for a, b in seen)


def test_several_streams_of_gzip_follow_each_other(tmp_path: Path) -> None:
    data = tar_of({"big.bin": np.random.default_rng(0).bytes(300_000)})
    (tmp_path / "x").write_bytes(b"".join(PACKERS["tar.gz"](data[i : i + 7000]) for i in range(0, len(data), 7000)))
    extract(tmp_path / "x", tmp_path / "out")
    assert walked(tmp_path / "out") == {"big.bin": np.random.default_rng(0).bytes(300_000)}


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(tar_of(FILES))
    (tmp_path / "out").mkdir()
    with pytest.raises(SystemFault):
        extract(tmp_path / "x", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_no_archive_is_refused_with_a_way_out(tmp_path: Path) -> None:
    for data in (b"hello", b"\x28\xb5\x2f\xfd" + bytes(600), b"PAR1"):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(DataError) as caught:
            extract(tmp_path / "x", tmp_path / "out")
        assert caught.value.code == "V402" and caught.value.hint


def test_room_is_looked_at_before_it_is_gone(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(tar_of(FILES))
    with pytest.raises(SystemFault, match=r"No space left on device: it needs [0-9,]+ bytes") as caught:
        extract(tmp_path / "x", tmp_path / "out", limits=Limits(reserve=1 << 60))
    assert caught.value.code == "V701" and "-" not in caught.value.what.partition(": ")[2]
    assert not (tmp_path / "out").exists()
