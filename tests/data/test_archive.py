"""A zip or a tar is a tree of files: the same paths, sizes and bytes as the folder that was packed."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.formats.archive_files import END, PACKERS, header, member, tar_of, zip_of
from vitrail.data.configs import Data
from vitrail.data.sources import is_data, open_source
from vitrail.data.sources.archive import archive_tree, is_archive
from vitrail.errors import DataError, PictureError

FILES = {"b/2.jpg": b"two", "a/1.jpg": b"one", "a/Z.jpg": b"big", "list.csv": b"path,label\n"}

PACK: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "stored zip": lambda files: zip_of(files, zipfile.ZIP_STORED),
    "deflated zip": zip_of,
    "pax tar": tar_of,
    "GNU tar": lambda files: tar_of(files, tarfile.GNU_FORMAT),
}


@pytest.mark.parametrize("pack", PACK)
@pytest.mark.parametrize("lead", ["", "photos/", "./photos/v1/"])
def test_an_archive_is_a_tree(tmp_path: Path, pack: str, lead: str) -> None:
    place = tmp_path / "x"
    place.write_bytes(
        PACK[pack]({lead + name: data for name, data in FILES.items()} | {"__MACOSX/._a": b"", ".x": b""})
    )
    tree = archive_tree(place)
    assert is_archive(place) and tree.place == str(place)
    assert list(tree.paths) == ["a/1.jpg", "a/Z.jpg", "b/2.jpg", "list.csv"]
    assert tree.sizes.tolist() == [3, 3, 3, 11]
    assert [tree.picture(index) for index in range(4)] == [FILES[path] for path in tree.paths]
    assert tree.read("list.csv", limit=100) == b"path,label\n"
    assert bool(tree.notes) == bool(lead)


def test_one_folder_of_pictures_is_a_class_and_no_top(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(tar_of({"cat/1.jpg": b"1", "cat/2.jpg": b"2"}))
    assert list(archive_tree(tmp_path / "x").paths) == ["cat/1.jpg", "cat/2.jpg"]
    (tmp_path / "x").write_bytes(tar_of({"set/1.jpg": b"1", "set/list.csv": b"2"}))
    assert list(archive_tree(tmp_path / "x").paths) == ["1.jpg", "list.csv"]


@pytest.mark.parametrize("ending", [ending for ending in PACKERS if ending != "tar"])
def test_a_compressed_tar_is_refused_with_the_command_that_unpacks_it(tmp_path: Path, ending: str) -> None:
    place = tmp_path / f"x.{ending}"
    place.write_bytes(PACKERS[ending](tar_of(FILES)))
    with pytest.raises(DataError) as caught:
        archive_tree(place)
    assert caught.value.code == "V402" and f"--keep {place}" in caught.value.hint


def _link() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("a/link.jpg")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


HOSTILE = {
    "tar: a symbolic link": member(b"a.jpg", kind=b"2", link=b"/etc/passwd") + END,
    "tar: a hard link": member(b"a.jpg", kind=b"1", link=b"b") + END,
    "tar: a device": member(b"a.jpg", kind=b"3") + END,
    "tar: twice": member(b"a.jpg", b"1") + member(b"./a.jpg", b"2") + END,
    "tar: upwards": member(b"../a.jpg", b"1") + END,
    "tar: absolute": member(b"/a.jpg", b"1") + END,
    "tar: cut": member(b"a.jpg", b"1"),
    "tar: longer than the file": header(b"a.jpg", (1 << 33) - 1) + END,
    "zip: a symbolic link": _link(),
    "zip: upwards": zip_of({"../a.jpg": b"1"}),
    "zip: cut": zip_of(FILES)[:-5],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_B12_what_does_not_stand_is_refused_before_the_first_picture(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_bytes(HOSTILE[name])
    with pytest.raises(DataError) as caught:
        archive_tree(tmp_path / "x")
    assert caught.value.code == "V404" and caught.value.hint and str(tmp_path / "x") in caught.value.what


def test_B15_a_damaged_member_is_a_bad_picture_of_that_name(tmp_path: Path) -> None:
    data = bytearray(zip_of({"a/1.jpg": b"first" * 10, "a/2.jpg": b"other" * 10}, zipfile.ZIP_STORED))
    data[data.index(b"first") + 3] ^= 1
    (tmp_path / "x").write_bytes(data)
    tree = archive_tree(tmp_path / "x")
    with pytest.raises(PictureError, match=r"a/1\.jpg"):
        tree.picture(0)
    assert tree.picture(1) == b"other" * 10


def _png(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (value, 0, 0)).save(out, "PNG")
    return out.getvalue()


_CLASSES = {f"{name}/{i}.png": _png(10 * i) for name in ("cat", "dog") for i in range(3)}
LAYOUTS = {
    "folder": _CLASSES,
    "train and val": {f"{part}/{path}": data for part in ("train", "val") for path, data in _CLASSES.items()},
    "imagenet": {f"train/{path}": data for path, data in _CLASSES.items()}
    | {"val/a.png": _png(1), "val/b.png": _png(2), "val/val_label.txt": b"a.png cat\nb.png dog\n"},
    "table": {f"images/{i}.png": _png(i) for i in range(6)}
    | {"labels.csv": b"path,label\n" + b"".join(b"images/%d.png,%d\n" % (i, i % 2) for i in range(6))},
}  # fmt: skip


@pytest.mark.parametrize("pack", ["deflated zip", "pax tar"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_folders_opens_inside_an_archive(tmp_path: Path, layout: str, pack: str) -> None:
    (tmp_path / "x").write_bytes(PACK[pack]({f"set/{path}": data for path, data in LAYOUTS[layout].items()}))
    for path, data in LAYOUTS[layout].items():
        (tmp_path / "set" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / path).write_bytes(data)
    plain, packed = (open_source(Data(root=str(tmp_path / name))) for name in ("set", "x"))
    assert (packed.name, packed.classes, packed.fingerprint) == (plain.name, plain.classes, plain.fingerprint)
    assert packed.held_out.tolist() == plain.held_out.tolist() and is_data(str(tmp_path / "x"))
    assert all((packed.read(i) == plain.read(i)).all() for i in range(len(plain.labels)))
