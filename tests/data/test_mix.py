"""Mixup and cutmix against the recorded numbers of timm 1.0.31."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.data.configs import Mix
from vitrail.data.mix import Mixing, apply, cut, draw


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


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 40), st.integers(0, 10_000))
def test_every_batch_size_keeps_targets_whole(batch: int, rows: int, columns: int, step: int) -> None:
    config = Mix(mixup=0.8, cutmix=1.0)
    mixing = draw(config, seed=1, step=step, epoch=0, size=(rows, columns))
    assert mixing == draw(config, seed=1, step=step, epoch=0, size=(rows, columns))
    assert mixing is not None and 0.0 <= mixing.share <= 1.0
    images = torch.randn(batch, 2, rows, columns)
    before = images.clone()
    mixed, targets = apply(mixing, images, torch.arange(batch) % 3, 3)
    assert torch.equal(images, before) and mixed.shape == images.shape
    assert torch.allclose(targets.sum(1), torch.ones(batch), atol=1e-6)
    if batch % 2:
        assert torch.allclose(mixed[batch // 2], images[batch // 2], atol=1e-5)
    if mixing.box is not None:
        top, bottom, left, right = mixing.box
        own = 1.0 - (bottom - top) * (right - left) / (rows * columns)
        assert mixing.share == pytest.approx(own)


def test_switches() -> None:
    kinds = [draw(Mix(mixup=0.8, cutmix=1.0, switch=0.25), seed=0, step=s, epoch=0, size=(8, 8)) for s in range(2000)]
    assert abs(sum(k is not None and k.box is not None for k in kinds) / 2000 - 0.25) < 0.03
    some = [draw(Mix(mixup=0.8, probability=0.3), seed=0, step=s, epoch=0, size=(8, 8)) for s in range(2000)]
    assert abs(sum(k is not None for k in some) / 2000 - 0.3) < 0.03
    assert draw(Mix(mixup=0.8, off_epoch=3), seed=0, step=9, epoch=3, size=(8, 8)) is None
    assert draw(Mix(mixup=0.8, off_epoch=3), seed=0, step=9, epoch=2, size=(8, 8)) is not None
