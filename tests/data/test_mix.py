"""Mixup and cutmix against the recorded numbers and whole runs of timm 1.0.31."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.data.configs import Mix
from vitrail.data.mix import Mixing, Mixings, apply, cut, cut_within, draw


@pytest.mark.parametrize(
    ("size", "share", "low", "high", "corrected"),
    [
        (32, 0.5, 5, 27, 0.52734375),
        (32, 0.3, 3, 29, 0.33984375),
        (32, 0.9, 11, 21, 0.90234375),
        (224, 0.5, 33, 191, 0.5024713),
        (224, 0.3, 19, 206, 0.3030732),
        (224, 0.9, 77, 147, 0.90234375),
    ],
)
def test_boxes_of_timm(size: int, share: float, low: int, high: int, corrected: float) -> None:
    mixing = cut(share, (size, size), 0.5, 0.5)
    assert mixing.box == (low, high, low, high)
    assert mixing.share == pytest.approx(corrected, abs=1e-7)


def test_targets_of_timm() -> None:
    images = torch.arange(2.0).reshape(2, 1, 1, 1)
    mixed, targets = apply(Mixing(0.7, None), images, torch.tensor([0, 2]), 3)
    smoothed = targets * 0.9 + 0.1 / 3
    assert torch.allclose(
        smoothed, torch.tensor([[0.663333, 0.033333, 0.303333], [0.303333, 0.033333, 0.663333]]), atol=1e-6
    )
    assert mixed.flatten().tolist() == pytest.approx([0.3, 0.7])


@pytest.fixture
def recorded(shared: Path) -> tuple[Mapping[str, np.ndarray], dict[str, Any]]:
    vectors = np.load(shared / "reference" / "augment_vectors.npz", allow_pickle=False)
    return vectors, json.loads(str(vectors["meta"]))


def smoothed(targets: torch.Tensor, smoothing: float) -> torch.Tensor:
    return targets * (1 - smoothing) + smoothing / targets.shape[1]


def test_recorded_targets_and_images(recorded: tuple[Mapping[str, np.ndarray], dict[str, Any]]) -> None:
    vectors, meta = recorded
    images, labels = torch.tensor(vectors["mix/images"]), torch.tensor(vectors["mix/labels"])
    for share in (1.0, 0.73, 0.5, 0.2):
        mixed, targets = apply(Mixing(share), images, labels, meta["num_classes"])
        for smoothing in (0.0, 0.1):
            wanted = torch.tensor(vectors[f"mix/target_lam{share:g}_smooth{smoothing:g}"])
            assert torch.allclose(smoothed(targets, smoothing), wanted, atol=1e-7)
        if share == 0.73:
            assert torch.allclose(mixed, torch.tensor(vectors["mix/mixup_images_lam0.73"]), atol=1e-7)
    for number, row in enumerate(meta["cutmix_bbox"]):
        mixing = Mixing(row["corrected_lam"], tuple(row["bbox_yl_yh_xl_xh"]))
        mixed, _ = apply(mixing, images, labels, meta["num_classes"])
        assert torch.equal(mixed, torch.tensor(vectors[f"mix/cutmix_images_{number}"]))
        again, _ = apply((mixing,) * 4, images, labels, meta["num_classes"])
        assert torch.equal(mixed, again)
        random = np.random.RandomState(row["numpy_seed"])
        assert boxed(random, row["lam"], row["minmax"]) == mixing


def boxed(random: np.random.RandomState, share: float, minmax: list[float] | None) -> Mixing:
    """The box that timm draws next in a picture of 16 x 16, by our own arithmetic."""
    if minmax is None:
        row, column = random.randint(0, 16), random.randint(0, 16)
        return cut(share, (16, 16), (row + 0.5) / 16, (column + 0.5) / 16)
    least, most = (int(16 * part) for part in minmax)
    tall, wide = random.randint(least, most), random.randint(least, most)
    top, left = random.randint(0, 16 - tall + 1), random.randint(0, 16 - wide + 1)
    draws = []
    for side, start in ((tall, top), (wide, left)):
        draws += [(side - least + 0.5) / (most - least), (start + 0.5) / (16 - side + 1)]
    return cut_within((minmax[0], minmax[1]), (16, 16), draws)


def drawn_by_timm(run: dict[str, Any]) -> Mixings:
    """What timm draws for a batch of four with its generator, in its order."""
    random = np.random.RandomState(run["numpy_seed"])
    mixup, cutmix, mode = run["mixup_alpha"], run["cutmix_alpha"], run.get("mode", "batch")
    if mode == "batch":
        random.rand()
        cutting = cutmix > 0 and (mixup == 0 or random.rand() < 0.5)
        alpha = cutmix if cutting else mixup
        share = float(random.beta(alpha, alpha))
        return boxed(random, share, None) if cutting else Mixing(share)
    count = 4 if mode == "elem" else 2
    cutting_each = random.rand(count) < 0.5
    shares = np.where(cutting_each, random.beta(cutmix, cutmix, count), random.beta(mixup, mixup, count))
    random.rand(count)
    each = tuple(
        boxed(random, float(np.float32(share)), None) if cutting else Mixing(float(np.float32(share)))
        for share, cutting in zip(shares, cutting_each, strict=True)
    )
    return each if mode == "elem" else each + each[::-1]


@pytest.mark.parametrize("number", range(5))
def test_whole_runs_of_timm(recorded: tuple[Mapping[str, np.ndarray], dict[str, Any]], number: int) -> None:
    vectors, meta = recorded
    run = meta["mixup_runs"][number]
    images, labels = torch.tensor(vectors["mix/images"]), torch.tensor(vectors["mix/labels"])
    mixed, targets = apply(drawn_by_timm(run), images, labels, meta["num_classes"])
    assert torch.allclose(mixed, torch.tensor(vectors[f"mix/run{number}_images"]), atol=1e-6)
    wanted = torch.tensor(vectors[f"mix/run{number}_targets"])
    assert torch.allclose(smoothed(targets, run["label_smoothing"]), wanted, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 40), st.integers(1, 40), st.integers(0, 10_000),
    st.sampled_from(["batch", "pair", "elem"]), st.booleans(),
)  # fmt: skip
def test_every_batch_size_keeps_targets_whole(
    batch: int, rows: int, columns: int, step: int, mode: str, minmax: bool
) -> None:
    box = (0.2, 0.8) if minmax else None
    config = Mix(mixup=0.8, cutmix=0.0 if minmax else 1.0, cutmix_minmax=box, mode=mode)  # type: ignore[arg-type]
    mixings = draw(config, seed=1, step=step, epoch=0, shape=(batch, rows, columns))
    assert mixings == draw(config, seed=1, step=step, epoch=0, shape=(batch, rows, columns))
    if mixings is None:  # a box of no area
        return
    images = torch.randn(batch, 2, rows, columns)
    before = images.clone()
    mixed, targets = apply(mixings, images, torch.arange(batch) % 3, 3)
    assert torch.equal(images, before) and mixed.shape == images.shape
    assert torch.allclose(targets.sum(1), torch.ones(batch), atol=1e-6)
    if batch % 2:
        assert torch.allclose(mixed[batch // 2], images[batch // 2], atol=1e-5)
    each = mixings if isinstance(mixings, tuple) else (mixings,)
    assert len(each) == (1 if mode == "batch" else batch)
    for mixing in each:
        assert 0.0 <= mixing.share <= 1.0
        if mixing.box is not None:
            top, bottom, left, right = mixing.box
            assert 0 <= top <= bottom <= rows and 0 <= left <= right <= columns
            assert mixing.share == pytest.approx(1.0 - (bottom - top) * (right - left) / (rows * columns))
    if mode == "pair":
        assert each == each[::-1]


def test_switches() -> None:
    def kinds(config: Mix) -> list[Mixings | None]:
        return [draw(config, seed=0, step=step, epoch=0, shape=(4, 8, 8)) for step in range(2000)]

    cutting = [isinstance(k, Mixing) and k.box is not None for k in kinds(Mix(mixup=0.8, cutmix=1.0, switch=0.25))]
    assert abs(sum(cutting) / 2000 - 0.25) < 0.03
    some = kinds(Mix(mixup=0.8, probability=0.3))
    assert abs(sum(k is not None for k in some) / 2000 - 0.3) < 0.03
    each = [one for k in kinds(Mix(mixup=0.8, probability=0.3, mode="elem")) if isinstance(k, tuple) for one in k]
    assert len(each) == 8000 and abs(sum(one.share < 1.0 for one in each) / 8000 - 0.3) < 0.02
    assert draw(Mix(mixup=0.8, off_epoch=3), seed=0, step=9, epoch=3, shape=(4, 8, 8)) is None
    assert draw(Mix(mixup=0.8, off_epoch=3), seed=0, step=9, epoch=2, shape=(4, 8, 8)) is not None


def test_shares_are_those_of_their_beta() -> None:
    drawn = [draw(Mix(mixup=0.4), seed=3, step=step, epoch=0, shape=(2, 8, 8)) for step in range(4000)]
    shares = np.array([one.share for one in drawn if isinstance(one, Mixing)])
    assert abs(shares.mean() - 0.5) < 0.02
    assert abs(shares.var() - 1 / (4 * (2 * 0.4 + 1))) < 0.01  # of Beta(a, a)
