"""Crops of JPEG files: read fast or exactly, by any number of threads, in any order: the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from tests.pictures.jpegs import SAMPLINGS, jpeg
from vitrail.data.configs import Augment, Data, RandomResizedCrop
from vitrail.data.loader import TrainLoader
from vitrail.data.sources import Source, open_source
from vitrail.errors import PictureError
from vitrail.pictures import kernels
from vitrail.pictures.policy import IMAGENET, Policy

POLICY = Policy(size=(64, 64), mean=IMAGENET.mean, std=IMAGENET.std)
AUGMENT = Augment(crop=RandomResizedCrop(), flip=0.5)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Source:
    root = tmp_path_factory.mktemp("photos")
    for label, name in enumerate(("a", "b")):
        (root / name).mkdir()
        for index in range(9):
            kind = SAMPLINGS[(index + label) % len(SAMPLINGS)]
            (root / name / f"{index}.jpg").write_bytes(jpeg(96 + 8 * index, 120 - 4 * index, sampling=kind, seed=index))
    return open_source(Data(root=str(root)))


def loader(source: Source, decode: Literal["fast", "exact"], workers: int = 0) -> TrainLoader:
    return TrainLoader(source, POLICY, AUGMENT, Data(batch=4, workers=workers, decode=decode), 0)


def test_no_crop_is_twice_as_large_so_fast_is_exact(photos: Source) -> None:
    exact, fast = (list(loader(photos, way).iterate(0, 9)) for way in ("exact", "fast"))  # type: ignore[arg-type]
    for one, other in zip(exact, fast, strict=True):
        assert one.images.tobytes() == other.images.tobytes()


@pytest.mark.parametrize("side", [16, 64])
def test_B06_workers_and_start_change_nothing(photos: Source, side: int) -> None:
    policy = replace(POLICY, size=(side, side))
    whole = list(replace(loader(photos, "fast"), policy=policy).iterate(0, 9))
    for workers, start in ((1, 4), (2, 0), (4, 7)):
        again = list(replace(loader(photos, "fast", workers), policy=policy).iterate(start, 9))
        for one, other in zip(whole[start:], again, strict=True):
            assert one.images.tobytes() == other.images.tobytes()


def test_compiled_loops_change_nothing(photos: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = kernels.ready()
    assert compiled is not None
    ways = []
    for found in (None, compiled):
        monkeypatch.setattr(kernels, "loaded", lambda found=found: found)
        ways.append([batch.images for batch in loader(photos, "fast").iterate(0, 4)])
    assert all(np.array_equal(one, other) for one, other in zip(*ways, strict=True))


@pytest.mark.parametrize("decode", ["fast", "exact"])
def test_B15_a_picture_cut_during_the_run_is_named(tmp_path: Path, decode: Literal["fast", "exact"]) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(5):
            (tmp_path / name / f"{index}.jpg").write_bytes(jpeg(96, 96, seed=index))
    source = open_source(Data(root=str(tmp_path)))
    batches = loader(source, decode).iterate(0, 100)
    next(batches), next(batches)
    for path in tmp_path.glob("*/*.jpg"):
        path.write_bytes(path.read_bytes()[:-300] + b"\xff\xd9")
    with pytest.raises(PictureError, match=r"\.jpg` is truncated or damaged"):
        next(batches)
