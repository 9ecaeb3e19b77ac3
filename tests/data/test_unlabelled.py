"""Pictures without a look at labels: the same ones whatever holds them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.formats.archive_files import tar_of
from vitrail.data.sources.unlabelled import Pictures, open_pictures
from vitrail.errors import DataError, PictureError


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (5, 4), (value, 0, 7)).save(out, "PNG")
    return out.getvalue()


FILES = {"a/2.png": png(2), "a/10.png": png(1), "b.jpeg": png(3), "c/d/0.PNG": png(4), "notes.txt": b"x"}
ORDER = ["a/10.png", "a/2.png", "b.jpeg", "c/d/0.PNG"]


def folder(place: Path) -> Path:
    for name, data in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    return place


def values(found: Pictures) -> list[int]:
    return [int(found.read(index)[0, 0, 0]) for index in range(found.count)]


def test_folders_and_archives_by_the_bytes_of_their_paths(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar_of(FILES))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    prints = set()
    for place in (folder(tmp_path / "x"), tmp_path / "x.tar", tmp_path / "x.zip"):
        found = open_pictures(str(place))
        assert [found.title(index) for index in range(found.count)] == ORDER
        assert values(found) == [1, 2, 3, 4]
        assert found.notes == (f"passed over: 1 file in `{place}` without a picture's ending",)
        prints.add(found.fingerprint)
    assert len(prints) == 1


def test_tars_in_a_folder_with_labels_or_without(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "0.tar").write_bytes(tar_of({"k1.png": png(1), "k1.cls": b"0", "k2.png": png(2)}))
    (tmp_path / "t" / "1.tar").write_bytes(tar_of({"k0.png": png(3)}))
    found = open_pictures(str(tmp_path / "t"))
    assert [found.title(index) for index in range(found.count)] == ["0.tar/k1.png", "0.tar/k2.png", "1.tar/k0.png"]
    assert values(found) == [1, 2, 3]
    assert values(open_pictures(str(tmp_path / "t" / "{0..1}.tar"))) == [1, 2, 3]


def test_parquet_without_a_column_of_labels(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    (tmp_path / "p").mkdir()
    for number, rows in enumerate(([1, 2, None, 3], [], [4])):
        table = pyarrow.table({"image": pyarrow.array([None if v is None else png(v) for v in rows], pyarrow.binary())})
        parquet.write_table(table, tmp_path / "p" / f"{number}.parquet", row_group_size=2)
    found = open_pictures(str(tmp_path / "p"))
    titles = ["0.parquet:0", "0.parquet:1", "0.parquet:2", "0.parquet:3", "2.parquet:0"]
    assert [found.title(index) for index in range(found.count)] == titles
    with pytest.raises(PictureError, match=r"0\.parquet:2"):
        found.read(2)
    assert [int(found.read(index)[0, 0, 0]) for index in (0, 1, 3, 4)] == [1, 2, 3, 4]


def test_sources_with_labels_are_pictures_too(tmp_path: Path) -> None:
    place = folder(tmp_path / "x")
    (place / "list.csv").write_text("path,label\nb.jpeg,one\na/2.png,two\n")
    found = open_pictures(str(place / "list.csv"))
    assert [found.title(index) for index in range(found.count)] == ["b.jpeg", "a/2.png"] and values(found) == [3, 2]
    np.savez(tmp_path / "a.npz", x_train=np.full((3, 4, 4, 3), 9, np.uint8), y_train=np.arange(3))
    assert values(open_pictures(str(tmp_path / "a.npz"))) == [9, 9, 9]


def test_a_fingerprint_sees_names_and_sizes(tmp_path: Path) -> None:
    place = folder(tmp_path / "x")
    before = open_pictures(str(place)).fingerprint
    (place / "notes.txt").write_text("longer notes")
    assert open_pictures(str(place)).fingerprint == before
    (place / "b.jpeg").write_bytes(png(3) + b"x")
    second = open_pictures(str(place)).fingerprint
    (place / "b.jpeg").rename(place / "b2.jpeg")
    assert len({before, second, open_pictures(str(place)).fingerprint}) == 3


@pytest.mark.parametrize(("name", "code"), [("empty", "V401"), ("absent", "V402"), ("file.txt", "V402")])
def test_places_without_pictures(tmp_path: Path, name: str, code: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(DataError) as caught:
        open_pictures(str(tmp_path / name))
    assert caught.value.code == code and caught.value.hint
