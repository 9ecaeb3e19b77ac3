"""Packing: shards that hold what the source held, whole after any stop, the same bytes each time."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.formats.archive_files import damaged_zip
from tests.pictures.jpegs import jpeg, scene
from vitrail.data import pack
from vitrail.data.configs import Data
from vitrail.data.sources import open_source
from vitrail.errors import DataError, UsageError, VitrailError
from vitrail.pictures.decode import decode
from vitrail.verbs.data_pack import data_pack
from vitrail.verbs.show import show


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for part, count in (("train", 7), ("val", 3)):
        for name in ("cat", "dög 1"):
            (root / part / name).mkdir(parents=True)
            for index in range(count):
                place = root / part / name / f"{index} a.b.jpg"
                place.write_bytes(jpeg(60 + 20 * index, 90, sampling="4:2:0", seed=index))
    Image.fromarray(scene(99, 80)).save(root / "train" / "cat" / "z.png")
    return root


def members(folder: Path, part: str) -> list[tuple[str, bytes]]:
    found = []
    for shard in sorted(folder.glob(f"{part}-*.tar")):
        with tarfile.open(shard) as archive:
            found += [(one.name, archive.extractfile(one).read()) for one in archive]  # type: ignore[union-attr]
    return found


def test_shards_hold_every_picture_in_order(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "PER_SHARD", 4)
    done = data_pack(str(photos), tmp_path / "out", short=64)
    assert done.packed.counts == {"train": 15, "val": 6}
    assert (tmp_path / "out" / "classes.txt").read_text().splitlines() == ["cat", "dög 1"]
    source = open_source(Data(root=str(photos)))
    for part, indices in (("train", source.training), ("val", source.held_out)):
        found = members(tmp_path / "out", part)
        assert len(found) == 2 * len(indices)
        for (name, picture), (label_name, label), index in zip(found[::2], found[1::2], indices, strict=True):
            assert name.endswith(".jpg") and label_name == name[:-4] + ".cls" and "." not in name[:-4]
            assert name.isascii() and name.isprintable() and int(name[:8]) == index
            assert int(label) == source.labels[index]
            original, packed = source.read(int(index)), decode(picture)
            if min(original.shape[:2]) <= 64 and source.title(int(index)).endswith("jpg"):
                assert np.array_equal(original, packed)
            else:
                assert min(packed.shape[:2]) == 64
    manifest = json.loads((tmp_path / "out" / "shards.json").read_text())
    assert [row["name"] for row in manifest["shards"]["train"]] == [f"train-{n:06d}.tar" for n in range(4)]
    assert manifest["pictures"] == {"train": 15, "val": 6} and manifest["psnr"]["unchanged"] == 4
    assert done.psnr is not None and 25 < done.psnr[1] <= done.psnr[0] < 60


def test_a_stopped_packing_goes_on_to_the_same_bytes(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "PER_SHARD", 4)
    data_pack(str(photos), tmp_path / "whole", short=64)

    def stop(done: int, total: int) -> None:
        if done > 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data_pack(str(photos), tmp_path / "out", short=64, progress=stop)
    assert not (tmp_path / "out" / "shards.json").exists()
    with pytest.raises(DataError, match="was stopped"):
        open_source(Data(root=str(tmp_path / "out")))
    (tmp_path / "out" / "train-000001.tar").write_bytes(b"damaged meanwhile")
    again = data_pack(str(photos), tmp_path / "out", short=64, workers=0)
    files = [path.name for path in sorted((tmp_path / "whole").iterdir())]
    assert files == [path.name for path in sorted((tmp_path / "out").iterdir())]
    for name in files:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert again.to_json()["pictures"] == {"train": 15, "val": 6}


def test_other_contents_are_never_mixed(photos: Path, tmp_path: Path) -> None:
    data_pack(str(photos), tmp_path / "out", short=64)
    with pytest.raises(UsageError, match="packed otherwise"):
        data_pack(str(photos), tmp_path / "out", short=65)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    with pytest.raises(UsageError, match="not empty"):
        data_pack(str(photos), tmp_path / "mine")
    with pytest.raises(VitrailError, match="quality 101"):
        data_pack(str(photos), tmp_path / "new", quality=101)


def test_bad_pictures_are_named_or_left_out(photos: Path, tmp_path: Path) -> None:
    (photos / "train" / "cat" / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="1 of 16 pictures"):
        data_pack(str(photos), tmp_path / "out")
    done = data_pack(str(photos), tmp_path / "more", on_bad="skip")
    assert done.packed.counts == {"train": 15, "val": 6} and len(done.packed.bad) == 1
    assert done.packed.bad[0].endswith("cat/bad.jpg")


def test_B15_a_damaged_member_or_a_file_that_is_gone_is_left_out(photos: Path, tmp_path: Path) -> None:
    (photos / "train" / "cat" / "gone.jpg").symlink_to("nowhere.jpg")
    done = data_pack(str(photos), tmp_path / "out", on_bad="skip")
    assert done.packed.bad == ("train/cat/gone.jpg",)
    files = [path for path in photos.rglob("*.*") if path.is_file()]
    assert done.to_json()["source_bytes"] == sum(path.stat().st_size for path in files)
    (tmp_path / "x.zip").write_bytes(damaged_zip({f"{c}/{i}.jpg": jpeg(60, 90, seed=i) for c in "ab" for i in (1, 2)}))
    with pytest.raises(DataError, match="1 of 4 pictures") as caught:
        data_pack(str(tmp_path / "x.zip"), tmp_path / "error")
    assert "--on-bad skip" in caught.value.hint
    assert data_pack(str(tmp_path / "x.zip"), tmp_path / "zip", on_bad="skip").packed.bad == ("a/1.jpg",)


def test_nothing_is_packed_into_its_source_or_from_nothing(photos: Path, tmp_path: Path) -> None:
    for inside in (photos / "packed", photos / "train" / ".." / "new"):
        with pytest.raises(UsageError, match="among the pictures"):
            data_pack(str(photos), inside)
        assert not inside.exists()
    (tmp_path / "bad" / "a").mkdir(parents=True)
    (tmp_path / "bad" / "a" / "1.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="no picture of"):
        data_pack(str(tmp_path / "bad"), tmp_path / "out", on_bad="skip")


def test_what_was_packed_is_shown_as_data_and_not_as_a_bundle(photos: Path, tmp_path: Path) -> None:
    data_pack(str(photos), tmp_path / "out", short=64)
    assert show(str(tmp_path / "out")).what == "data"


def test_a_drawn_split_is_left_to_be_drawn_again(photos: Path, tmp_path: Path) -> None:
    done = data_pack(str(photos / "train"), tmp_path / "out", short=64)
    assert done.packed.counts == {"train": 15}


def test_what_was_packed_opens_as_the_same_source(photos: Path, tmp_path: Path) -> None:
    data_pack(str(photos), tmp_path / "out", short=64)
    before, after = (open_source(Data(root=str(place))) for place in (photos, tmp_path / "out"))
    assert after.name == "shards" and after.classes == before.classes
    assert np.array_equal(after.labels[after.training], before.labels[before.training])
    assert np.array_equal(after.labels[after.held_out], before.labels[before.held_out])
    for old, new in zip((*before.training, *before.held_out), (*after.training, *after.held_out), strict=True):
        assert min(after.read(int(new)).shape[:2]) == min(64, *before.read(int(old)).shape[:2])


def test_a_drawn_split_is_drawn_the_same_again(photos: Path, tmp_path: Path) -> None:
    data_pack(str(photos / "train"), tmp_path / "out", short=64)
    before, after = (open_source(Data(root=str(place)), seed=3) for place in (photos / "train", tmp_path / "out"))
    assert np.array_equal(before.held_out, after.held_out) and np.array_equal(before.labels, after.labels)
