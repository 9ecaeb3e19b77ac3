"""Augmentation's operations against their plain meaning, one picture at a time."""

from __future__ import annotations

import numpy as np
import pytest

from vitrail.pictures.operations import crop_resize, flip, flip_batch, pad_crop_batch
from vitrail.pictures.resize import resize

BATCH = np.random.default_rng(0).integers(0, 256, (6, 9, 7, 3), np.uint8)


def test_the_crop_comes_before_the_filter() -> None:
    pixels = BATCH[0].copy()
    before = crop_resize(pixels, (2, 1, 5, 4), (8, 8), "bicubic")
    pixels[:2], pixels[7:], pixels[:, :1], pixels[:, 5:] = 0, 255, 0, 255  # all around the box
    assert np.array_equal(crop_resize(pixels, (2, 1, 5, 4), (8, 8), "bicubic"), before)
    assert np.array_equal(before, resize(BATCH[0, 2:7, 1:5], (8, 8), "bicubic"))


@pytest.mark.parametrize("box", [(-1, 0, 3, 3), (0, 0, 10, 3), (0, 5, 3, 3)])
def test_a_box_outside_the_picture_is_our_bug(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(AssertionError):
        crop_resize(BATCH[0], box, (4, 4), "bilinear")


def test_flips() -> None:
    assert np.array_equal(flip(BATCH[0]), BATCH[0][:, ::-1])
    which = np.array([True, False, False, True, True, False])
    flipped = flip_batch(BATCH, which)
    for picture, result, turned in zip(BATCH, flipped, which, strict=True):
        assert np.array_equal(result, flip(picture) if turned else picture)
    assert np.array_equal(flip_batch(flipped, which), BATCH)


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_pad_and_crop_moves_each_picture_by_its_own_corner(padding: int) -> None:
    rng = np.random.default_rng(padding)
    tops, lefts = rng.integers(0, 2 * padding + 1, (2, len(BATCH)))
    moved = pad_crop_batch(BATCH, tops, lefts, padding)
    assert moved.shape == BATCH.shape
    for picture, result, top, left in zip(BATCH, moved, tops, lefts, strict=True):
        padded = np.pad(picture, ((padding, padding), (padding, padding), (0, 0)))
        assert np.array_equal(result, padded[top : top + 9, left : left + 7])
    still = np.full(len(BATCH), padding)
    assert np.array_equal(pad_crop_batch(BATCH, still, still, padding), BATCH)


def test_a_corner_outside_the_padding_is_our_bug() -> None:
    zeros = np.zeros(len(BATCH), np.int64)
    with pytest.raises(AssertionError):
        pad_crop_batch(BATCH, zeros, zeros + 9, 4)
