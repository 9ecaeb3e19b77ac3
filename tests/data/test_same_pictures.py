"""The same pictures from class folders, zip, tar, shards and Parquet: equal batches to the last bit."""

from __future__ import annotations

import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.formats.archive_files import tar_of, walked, zip_of
from vitrail.data.configs import Augment, Data, RandomResizedCrop
from vitrail.data.loader import TrainLoader, evaluation_batches
from vitrail.data.sources import Source, open_source
from vitrail.pictures.policy import Policy

SOME, ALL = (30, 10), (1000, 1000)  # pictures of a class to train on and to hold out
POLICY = Policy(size=(48, 48), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


@pytest.fixture(scope="module", params=[SOME, pytest.param(ALL, marks=pytest.mark.prove)], ids=["some", "all"])
def folders(request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny-ImageNet-20: some pictures of each class, or all."""
    training, held_out = request.param
    place = tmp_path_factory.mktemp("tiny")
    of_class: dict[str, list[tarfile.TarInfo]] = defaultdict(list)
    with tarfile.open(shared / "data" / "photos" / "tinyimagenet20.tar") as tar:
        for member in sorted((member for member in tar if member.isfile()), key=lambda member: member.name):
            of_class[member.name.rpartition("/")[0]].append(member)
        for folder, members in of_class.items():
            for member in members[: training if "/train/" in folder else held_out]:
                tar.extract(member, place, filter="data")
    return place / "tinyimagenet20"


def _ordered(root: Path) -> dict[str, bytes]:
    return dict(sorted(walked(root).items(), key=lambda item: item[0].encode()))


def _shards(root: Path, out: Path) -> Path:
    out.mkdir()
    names = sorted(path.name for path in (root / "train").iterdir())
    for part, size in (("train", 170), ("val", 90)):
        files = [(path, data) for path, data in _ordered(root).items() if path.startswith(part)]
        for number, start in enumerate(range(0, len(files), size)):
            members: dict[str, bytes] = {}
            for index, (path, data) in enumerate(files[start : start + size]):
                members |= {
                    f"{start + index:06d}.jpg": data,
                    f"{start + index:06d}.cls": b"%d" % names.index(path.split("/")[1]),
                }
            (out / f"{part}-{number:06d}.tar").write_bytes(tar_of(members))
    (out / "classes.txt").write_text("\n".join(names) + "\n")
    return out


def _parquet(root: Path, out: Path) -> Path:
    import pyarrow
    from pyarrow import parquet

    out.mkdir()
    for part in ("train", "val"):
        files = [(path, data) for path, data in _ordered(root).items() if path.startswith(part)]
        columns = {
            "image": [{"bytes": data, "path": path.rpartition("/")[2]} for path, data in files],
            "label": [path.split("/")[1] for path, _ in files],
        }
        parquet.write_table(pyarrow.table(columns), out / f"{part}-0.parquet", row_group_size=64)
    return out


def _written(out: Path, pack: Callable[[Mapping[str, bytes]], bytes], root: Path) -> Path:
    out.write_bytes(pack({f"tinyimagenet20/{path}": data for path, data in walked(root).items()}))
    return out


MAKE: dict[str, Callable[[Path, Path], Path]] = {
    "stored zip": lambda root, out: _written(out, lambda files: zip_of(files, zipfile.ZIP_STORED), root),
    "deflated zip": lambda root, out: _written(out, zip_of, root),
    "tar": lambda root, out: _written(out, tar_of, root),
    "shards": _shards,
    "parquet": _parquet,
}


def _batches(source: Source, workers: int) -> list[np.ndarray]:
    augment = Augment(crop=RandomResizedCrop(), flip=0.5)
    loader = TrainLoader(source, POLICY, augment, Data(batch=64, workers=workers), 3)
    found = [array for batch in loader.iterate(0, 3) for array in (batch.images, batch.labels)]
    for batch in evaluation_batches(source, source.held_out[:64], POLICY, batch=32, workers=workers):
        found += [batch.images, batch.labels]
    return found


@pytest.mark.parametrize("container", MAKE)
def test_first_batches_are_bit_equal(folders: Path, tmp_path: Path, container: str) -> None:
    plain = open_source(Data(root=str(folders)))
    packed = open_source(Data(root=str(MAKE[container](folders, tmp_path / "packed"))))
    assert packed.classes == plain.classes and packed.own_split
    assert (packed.labels == plain.labels).all() and (packed.held_out == plain.held_out).all()
    expected, found = _batches(plain, 0), _batches(packed, 2)
    assert len(found) == len(expected) == 10
    assert all(np.array_equal(one, other) for one, other in zip(expected, found, strict=True))
    if container in ("tar", "stored zip", "deflated zip"):
        assert packed.fingerprint == plain.fingerprint  # the same pictures, however they are packed
