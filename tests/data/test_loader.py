"""Batches are pure functions of their number; augmentation draws depend on (seed, epoch, index) alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitrail.data.augment.crops import box_in, random_boxes, shapes
from vitrail.data.augment.draws import Draws
from vitrail.data.batches import TrainBatch
from vitrail.data.configs import Augment, Data, Erase, Jitter, PadCrop, RandomResizedCrop
from vitrail.data.loader import TrainLoader, evaluation_batches
from vitrail.data.order import balanced_order, epoch_order, epoch_samples, split
from vitrail.data.scan import find_bad
from vitrail.data.sources import Source, open_source
from vitrail.errors import DataError, PictureError
from vitrail.pictures.policy import CIFAR10, Policy

POLICY = Policy(size=(16, 16), mean=CIFAR10.mean, std=CIFAR10.std)
AUGMENTS = {
    "none": Augment(),
    "pad": Augment(crop=PadCrop(padding=3), flip=0.5),
    "resized": Augment(crop=RandomResizedCrop(scale=(0.3, 1.0)), flip=0.5),
    "recipe": Augment(
        crop=RandomResizedCrop(scale=(0.5, 1.0), interpolation="random"),
        flip=0.5,
        vertical_flip=0.2,
        auto="rand-m9-mstd0.5-inc1",
        erase=Erase(probability=0.5, mode="pixel", count=2),
    ),
    "jitter": Augment(auto="3a", jitter=Jitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1)),
}


GOLDEN_ORDER = [16, 18, 27, 20, 28, 12, 24, 17, 26, 13, 10, 14, 23, 29, 21, 11, 15, 19, 25, 22]


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source(Data(root="digits"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Source:
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir()
        for index in range(12):
            size = (int(random.integers(10, 40)), int(random.integers(10, 40)), 3)
            Image.fromarray(random.integers(0, 256, size, np.uint8)).save(root / name / f"{index:02d}.png")
    return open_source(Data(root=str(root)))


def _loader(source: Source, augment: Augment, workers: int = 0, seed: int = 0) -> TrainLoader:
    return TrainLoader(source, POLICY, augment, Data(batch=5, workers=workers), seed)


@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS.keys())
@pytest.mark.parametrize("which", ["digits", "folder"])
def test_A09_workers_and_start_change_nothing(which: str, augment: Augment, request: pytest.FixtureRequest) -> None:
    source = request.getfixturevalue(which)
    loader = _loader(source, augment)
    stop = 2 * loader.steps_per_epoch if which == "folder" else 6
    whole = list(loader.iterate(0, stop))
    for workers in (1, 2, 4):
        for start in (0, 1, stop - 2):
            again = list(replace(loader, data=replace(loader.data, workers=workers)).iterate(start, stop))
            assert [b.step for b in again] == list(range(start, stop))
            for one, other in zip(whole[start:], again, strict=True):
                assert (one.indices == other.indices).all() and one.epoch == other.epoch
                assert one.images.tobytes() == other.images.tobytes()
                assert (one.labels == source.labels[one.indices]).all()


def test_a_sample_does_not_depend_on_its_batch(digits: Source) -> None:
    augment = AUGMENTS["pad"]
    small = {
        int(i): image
        for b in _loader(digits, augment).iterate(0, 20)
        for i, image in zip(b.indices, b.images, strict=True)
    }
    large = next(iter(TrainLoader(digits, POLICY, augment, Data(batch=64, workers=0), 0).iterate(0, 1)))
    for index, image in zip(large.indices, large.images, strict=True):
        assert int(index) not in small or (small[int(index)] == image).all()
    assert len(set(small) & set(large.indices.tolist())) == 64


@pytest.mark.parametrize("augment", AUGMENTS.values(), ids=AUGMENTS.keys())
def test_batched_and_single_augmentation_agree(digits: Source, augment: Augment) -> None:
    per_epoch = len(digits.training) // 5
    for start in (0, per_epoch - 2):  # the second time across the end of an epoch
        batched = list(_loader(digits, augment).iterate(start, start + 4))
        single = list(_loader(replace(digits, memory=None), augment).iterate(start, start + 4))
        for one, other in zip(batched, single, strict=True):
            assert (one.step, one.epoch) == (other.step, other.epoch)
            assert (one.indices == other.indices).all() and (one.labels == other.labels).all()
            assert one.images.tobytes() == other.images.tobytes()


@pytest.mark.parametrize("source", ["digits", "folder"])
@pytest.mark.parametrize("sampling", ["shuffle", "balanced"])
def test_a_picture_that_comes_again_is_drawn_anew(
    source: str, sampling: Literal["shuffle", "balanced"], request: pytest.FixtureRequest
) -> None:
    opened = request.getfixturevalue(source)
    data = Data(batch=6, workers=0, repeats=3, sampling=sampling)
    batches = list(TrainLoader(opened, POLICY, AUGMENTS["resized"], data, 0).iterate(0, 3))
    assert [len(set(batch.indices.tolist())) for batch in batches] == [2, 2, 2]
    for batch in batches:
        for start in (0, 3):
            a, b, c = batch.images[start : start + 3]
            assert not ((a == b).all() and (b == c).all())
    again = list(TrainLoader(opened, POLICY, AUGMENTS["resized"], replace(data, workers=2), 0).iterate(1, 3))
    assert all((one.images == other.images).all() for one, other in zip(batches[1:], again, strict=True))


def test_epochs_differ_and_cover(folder: Source) -> None:
    loader = _loader(folder, AUGMENTS["resized"])
    per_epoch = loader.steps_per_epoch
    assert per_epoch == len(folder.training) // 5
    epochs = [np.concatenate([b.indices for b in loader.iterate(e * per_epoch, (e + 1) * per_epoch)]) for e in (0, 1)]
    for epoch in epochs:
        assert len(set(epoch.tolist())) == len(epoch) and set(epoch.tolist()) <= set(folder.training.tolist())
    assert epochs[0].tolist() != epochs[1].tolist()
    assert sorted(epoch_order(folder.training, seed=0, epoch=0).tolist()) == folder.training.tolist()


def test_too_large_a_batch_is_refused(folder: Source) -> None:
    with pytest.raises(DataError, match="more than the 20 pictures"):
        list(TrainLoader(folder, POLICY, Augment(), Data(batch=21), 0).iterate(0, 1))


@pytest.mark.parametrize("batch", [1, 7, 359, 1000])
def test_evaluation_covers_each_picture_once(digits: Source, batch: int) -> None:
    batches = list(evaluation_batches(digits, digits.held_out, POLICY, batch=batch, workers=2))
    assert np.concatenate([b.indices for b in batches]).tolist() == digits.held_out.tolist()
    one = POLICY.normalise(POLICY.pixels(digits.read(int(digits.held_out[0])))[None])
    assert (batches[0].images[0] == one[0]).all()


def test_bad_pictures_are_found_and_counted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(4):
            Image.new("RGB", (20, 20), (index, 0, 0)).save(tmp_path / name / f"{index}.jpg")
    whole_file = (tmp_path / "a" / "1.jpg").read_bytes()
    (tmp_path / "a" / "1.jpg").write_bytes(whole_file[: len(whole_file) // 2])
    (tmp_path / "b" / "2.jpg").write_bytes(b"")
    (tmp_path / "b" / "3.jpg").write_text("hello")
    source = open_source(Data(root=str(tmp_path)))
    bad = find_bad(source, workers=2, folder=tmp_path / "kept")
    assert [(one.name, one.error.code) for one in bad] == [
        ("a/1.jpg", "V302"),
        ("b/2.jpg", "V301"),
        ("b/3.jpg", "V301"),
    ]
    (batch,) = evaluation_batches(source, np.arange(8), POLICY, batch=8, workers=0)
    assert [one.index for one in batch.bad] == [1, 6, 7]
    assert (batch.images[1] == POLICY.normalise(np.zeros((1, 16, 16, 3), np.uint8))[0]).all()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**40), st.integers(0, 1000))
def test_random_boxes_lie_inside(rows: int, columns: int, seed: int, index: int) -> None:
    crop = RandomResizedCrop(scale=(0.08, 1.0))
    draws = Draws(seed, 1, np.array([index]))
    top, left, height, width = random_boxes((rows, columns), crop, draws)[0].tolist()
    assert box_in((rows, columns), crop, shapes(crop, draws)[0]) == (top, left, height, width)
    assert top >= 0 and left >= 0 and height >= 1 and width >= 1
    assert top + height <= rows and left + width <= columns


def test_random_boxes_have_the_stated_distribution() -> None:
    crop = RandomResizedCrop(scale=(0.25, 0.75), ratio=(0.8, 1.25))
    boxes = random_boxes((200, 200), crop, Draws(3, 0, np.arange(3000)))
    area = boxes[:, 2] * boxes[:, 3] / 200**2
    aspect = np.log(boxes[:, 3] / boxes[:, 2])
    assert abs(area.mean() - 0.5) < 0.01 and abs(area.std() - 0.5 / 12**0.5) < 0.01
    assert abs(aspect.mean()) < 0.01 and aspect.min() > np.log(0.8) - 0.02 and aspect.max() < np.log(1.25) + 0.02


def test_B17_the_plain_order_is_frozen() -> None:
    indices = np.arange(10, 30)
    plain = epoch_samples(Data(), indices, np.zeros(30, np.int64), seed=5, epoch=2)
    assert plain.indices.tolist() == plain.keys.tolist() == epoch_order(indices, seed=5, epoch=2).tolist()
    assert plain.indices.tolist() == GOLDEN_ORDER


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 5), st.booleans(), st.integers(0, 1 << 40))
def test_an_epoch_keeps_its_length_and_every_key_is_another(
    count: int, classes: int, repeats: int, balanced: bool, seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, classes, 2 * count)
    indices = np.sort(np.random.default_rng(seed + 1).permutation(2 * count)[:count])
    data = Data(repeats=repeats, sampling="balanced" if balanced else "shuffle")
    samples = epoch_samples(data, indices, labels, seed=seed, epoch=3)
    assert len(samples.indices) == len(samples.keys) == count and set(samples.indices) <= set(indices)
    assert len(set(samples.keys.tolist())) == count and (samples.keys % (2 * count) == samples.indices).all()
    times = np.bincount(samples.indices)
    if not balanced:
        assert set(times[times > 0].tolist()) <= {repeats, count % repeats or repeats}


def test_balanced_sampling_shows_each_class_equally_often() -> None:
    labels = np.repeat(np.arange(4), [3, 90, 7, 0])
    indices = np.arange(100)
    seen = np.zeros(100, int)
    for epoch in range(6):
        order = balanced_order(indices, labels, seed=1, epoch=epoch)
        per_class = np.bincount(labels[order], minlength=4)
        assert sorted(per_class.tolist()) == [0, 33, 33, 34]
        times = np.bincount(order, minlength=100)
        seen += times
        for label in (0, 1, 2):
            assert np.ptp(times[labels == label]) <= 1
    assert (seen > 0).mean() > 0.9
    assert balanced_order(indices, labels, seed=1, epoch=0).tolist() != order.tolist()


def test_split_takes_its_part_of_each_class() -> None:
    labels = np.repeat(np.arange(4), [2, 5, 10, 100])
    held = split(labels, 4, part=0.2, seed=5, classes=list("abcd"))
    assert np.bincount(labels[held]).tolist() == [1, 1, 2, 20]


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Source, set[int]]:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(10):
            pixels = np.full((9, 9, 3), 20 * index, np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.png")
    source = open_source(Data(root=str(tmp_path)))
    bad = {int(source.training[3]), int(source.training[9])}
    for index in bad:
        (tmp_path / source.title(index)).write_bytes(b"\x89PNG\r\n\x1a\n no more")
    return source, bad


@pytest.mark.parametrize("workers", [0, 3])
def test_B01_a_bad_picture_is_skipped_replaced_or_ends_training(damaged: tuple[Source, set[int]], workers: int) -> None:
    source, bad = damaged
    epoch = len(source.training) // 4

    def batches(on_bad: Literal["error", "skip", "replace"]) -> list[TrainBatch]:
        loader = TrainLoader(source, POLICY, Augment(), Data(batch=4, workers=workers, on_bad=on_bad), 0)
        return list(loader.iterate(0, epoch))

    skipped = batches("skip")
    assert {one.index for batch in skipped for one in batch.bad} == bad
    assert sorted(np.concatenate([b.indices for b in skipped])) == sorted({*source.training.tolist()} - bad)
    replaced = batches("replace")
    assert {one.index for batch in replaced for one in batch.bad} == bad
    assert all(len(batch.labels) == 4 for batch in replaced)
    for batch in (*skipped, *replaced):
        assert (batch.labels == source.labels[batch.indices]).all() and not bad & {*batch.indices.tolist()}
        assert len(batch.images) == len(batch.labels)
    with pytest.raises(PictureError, match=source.title(min(bad)).replace(".", "[.]") + "|" + source.title(max(bad))):
        batches("error")


def test_B01_a_batch_of_bad_pictures_alone_is_refused(damaged: tuple[Source, set[int]]) -> None:
    source, bad = damaged
    alone = replace(source, training=np.array(sorted(bad)))
    for on_bad in ("skip", "replace"):
        loader = TrainLoader(alone, POLICY, Augment(), Data(batch=2, workers=0, on_bad=on_bad), 0)
        with pytest.raises(DataError, match="cannot be read"):
            list(loader.iterate(0, 1))
