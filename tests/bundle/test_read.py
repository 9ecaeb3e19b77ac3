from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.bundle import tiny
from tests.bundle.test_manifest import edited
from vitrail.bundle import read
from vitrail.bundle.manifest import NAME, WEIGHTS
from vitrail.errors import BundleError, SystemFault

GRAPH = "engines/onnx-fp32/model.onnx"


def code_of(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        read.check(folder)
    return caught.value.code


def test_a_good_bundle_gives_its_bytes(tmp_path: Path) -> None:
    with read.check(tiny.bundle(tmp_path)) as opened:
        assert {name: opened.read(name) for name in opened.files} == {
            name: data for name, data in tiny.bundle_files().items() if name != NAME
        }
        assert opened.file(GRAPH).path().read_bytes() == tiny.bundle_files()[GRAPH]


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    tiny.bundle(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    with read.check(tmp_path):
        pass
    (tmp_path / WEIGHTS).write_bytes(b"x" * len(tiny.bundle_files()[WEIGHTS]))
    assert code_of(tmp_path) == "V502"
    assert len(os.listdir("/proc/self/fd")) == before


def test_unlisted_files_are_ignored(tmp_path: Path) -> None:
    tiny.bundle(tmp_path)
    (tmp_path / "README.md").write_text("mine")
    (tmp_path / "engines" / "left.onnx").write_text("over")
    with read.check(tmp_path) as opened:
        assert "README.md" not in opened.files
        with pytest.raises(BundleError):
            opened.read("README.md")


@pytest.mark.parametrize("name", sorted(tiny.bundle_files()))
def test_C10_one_flipped_bit_in_any_file_is_refused(tmp_path: Path, name: str) -> None:
    tiny.bundle(tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    for place in (0, len(data) // 2, len(data) - 1):
        data[place] ^= 1
        (tmp_path / name).write_bytes(data)
        assert code_of(tmp_path) == ("V501" if name == NAME else "V502")
        data[place] ^= 1


@pytest.mark.parametrize("name", sorted(tiny.bundle_files()))
def test_C10_a_cut_longer_or_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    tiny.bundle(tmp_path)
    data = (tmp_path / name).read_bytes()
    expected = "V501" if name == NAME else "V502"
    for other in (data[:-1], data + b"\0", b""):
        (tmp_path / name).write_bytes(other)
        assert code_of(tmp_path) == expected
    (tmp_path / name).unlink()
    assert code_of(tmp_path) == expected


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/hostname", "a/../x", "./x", "a//x", "a\\x", "a\nx", "engines", "", "engines/onnx-fp32/", "C:x\0"],
)
def test_C9_no_path_of_the_manifest_leads_out(tmp_path: Path, name: str) -> None:
    tiny.bundle(tmp_path / "b")
    (tmp_path / "x").write_bytes(b"secret")
    entry = {"size": 6, "sha256": "0" * 64}
    (tmp_path / "b" / NAME).write_bytes(edited(lambda v: v["files"].__setitem__(name, entry)))
    assert code_of(tmp_path / "b") == "V503"


def test_C9_links_of_every_kind_are_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    tiny.bundle(outside)
    for case, make in {
        "file": lambda b: (b / GRAPH).unlink() or (b / GRAPH).symlink_to(outside / GRAPH),
        "hard": lambda b: (b / GRAPH).unlink() or (b / GRAPH).hardlink_to(outside / GRAPH),
        "folder": lambda b: (b / "engines").rename(b / "old") and (b / "engines").symlink_to(b / "old"),
        "manifest": lambda b: (b / NAME).unlink() or (b / NAME).symlink_to(outside / NAME),
        "fifo": lambda b: (b / GRAPH).unlink() or os.mkfifo(b / GRAPH),
        "loop": lambda b: (b / GRAPH).unlink() or (b / GRAPH).symlink_to(b / GRAPH),
    }.items():
        folder = tiny.bundle(tmp_path / case)
        make(folder)
        assert code_of(folder) == "V503", case
        (outside / GRAPH).touch()


def test_C9_the_top_folder_may_be_a_link(tmp_path: Path) -> None:
    tiny.bundle(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    read.check(tmp_path / "link").close()


def test_C11_what_is_used_is_what_was_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (1 << 20, 0):  # kept in memory; read again through the held descriptor
        monkeypatch.setattr(read, "IN_MEMORY", limit)
        folder = tiny.bundle(tmp_path / str(limit))
        with read.check(folder) as opened:
            (folder / GRAPH).rename(folder / "gone")
            (folder / GRAPH).write_bytes(b"swapped")
            assert opened.read(GRAPH) == tiny.bundle_files()[GRAPH]


def test_C11_a_file_that_is_changed_in_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "IN_MEMORY", 0)
    folder = tiny.bundle(tmp_path)
    with read.check(folder) as opened:
        with (folder / GRAPH).open("r+b") as file:
            file.write(b"changed")
        with pytest.raises(BundleError) as caught:
            opened.read(GRAPH)
        assert caught.value.code == "V502"
        (folder / GRAPH).write_bytes(b"")
        with pytest.raises(BundleError):
            opened.read(GRAPH)


def test_C11_a_link_that_appears_after_the_look_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.bundle(tmp_path / "b")
    honest = read.disk.member

    def swapped(root: Path, name: str) -> Path:
        path = honest(root, name)
        if name == GRAPH:
            (folder / "engines").rename(tmp_path / "moved")
            (folder / "engines").symlink_to(tmp_path / "moved")
        return path

    monkeypatch.setattr(read.disk, "member", swapped)
    assert code_of(folder) == "V503"


@pytest.mark.parametrize("name", [GRAPH, NAME])
def test_V702_a_file_that_may_not_be_read_did_not_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder, honest = tiny.bundle(tmp_path), os.open

    def denied(path: str, *given: int, **options: int) -> int:  # not by chmod: root may read everything
        if path == Path(name).name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return honest(path, *given, **options)

    monkeypatch.setattr(read.os, "open", denied)
    with pytest.raises(SystemFault) as caught:
        read.check(folder)
    assert (caught.value.code, name in caught.value.what) == ("V702", True)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    assert code_of(tmp_path) == "V501"
