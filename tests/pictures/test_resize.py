"""Resizing against Pillow 12's bytes, and against a plain NumPy writing of the same arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vitrail.pictures.decode import decode
from vitrail.pictures.policy import INTERPOLATIONS, Interpolation
from vitrail.pictures.resize import resize

FRACTION_BITS = 22


def _triangle(x: float) -> float:
    return max(0.0, 1.0 - abs(x))


def _cubic(x: float) -> float:
    x, a = abs(x), -0.5
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2.0 else 0.0


def _sinc(x: float) -> float:
    return 1.0 if x == 0.0 else math.sin(x * math.pi) / (x * math.pi)


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / 3) if -3.0 <= x < 3.0 else 0.0


def _hamming(x: float) -> float:
    x = abs(x)
    if x == 0.0:
        return 1.0
    return 0.0 if x >= 1.0 else math.sin(x * math.pi) / (x * math.pi) * (0.54 + 0.46 * math.cos(x * math.pi))


def _box(x: float) -> float:
    return 1.0 if -0.5 < x <= 0.5 else 0.0


FILTERS: dict[str, tuple[Callable[[float], float], float]] = {
    "box": (_box, 0.5),
    "bilinear": (_triangle, 1.0),
    "hamming": (_hamming, 1.0),
    "bicubic": (_cubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}


def _one_axis(pixels: NDArray[np.uint8], out: int, interpolation: str) -> NDArray[np.uint8]:
    """The first axis of (N, ...) resized to `out`: the definition, written down without Pillow."""
    count = pixels.shape[0]
    if out == count:
        return pixels
    if interpolation == "nearest":
        places, place = [], count / out * 0.5
        for _ in range(out):
            places.append(min(int(place), count - 1))
            place += count / out  # summed, so its rounding belongs to the definition
        return pixels[places]
    weigh, support = FILTERS[interpolation]
    scale = count / out
    stretch = max(scale, 1.0)
    rows = []
    for i in range(out):
        centre = (i + 0.5) * scale
        low = max(int(centre - support * stretch + 0.5), 0)
        high = min(int(centre + support * stretch + 0.5), count)
        weights = [weigh((j - centre + 0.5) * (1.0 / stretch)) for j in range(low, high)]
        total = 0.0
        for weight in weights:
            total += weight
        normal = [weight * (1.0 / total) if total else weight for weight in weights]
        fixed = np.array([int(math.copysign(0.5, w) + w * (1 << FRACTION_BITS)) for w in normal], np.int64)
        sums = np.tensordot(fixed, pixels[low:high].astype(np.int64), 1) + (1 << (FRACTION_BITS - 1))
        rows.append((sums >> FRACTION_BITS).clip(0, 255).astype(np.uint8))
    return np.stack(rows)


def plain_resize(pixels: NDArray[np.uint8], size: tuple[int, int], interpolation: str) -> NDArray[np.uint8]:
    across = _one_axis(pixels.transpose(1, 0, 2), size[1], interpolation).transpose(1, 0, 2)
    return _one_axis(across, size[0], interpolation)


def test_equals_pillow_12_to_the_byte(shared: Path) -> None:
    reference = shared / "reference"
    vectors = np.load(reference / "preprocess_horizontal_first.npz", allow_pickle=False)
    names = [name for name in vectors.files if name != "meta"]
    assert len(names) == 116
    for name in names:
        _, picture, rest = name.split("/")
        interpolation, _, size = rest.rpartition("_")
        width, height = map(int, size.split("x"))
        expected = vectors[name] if vectors[name].ndim == 3 else vectors[name][:, :, None]
        pixels = decode(reference / "pictures" / f"{picture}.png", channels=expected.shape[2])
        assert np.array_equal(resize(pixels, (height, width), interpolation), expected), name


sides = st.integers(1, 80)


@settings(max_examples=120, deadline=None)
@given(sides, sides, sides, sides, st.sampled_from(INTERPOLATIONS), st.sampled_from([1, 3]), st.integers(0, 2**32 - 1))
def test_equals_the_arithmetic_written_without_pillow(
    height: int, width: int, tall: int, wide: int, interpolation: Interpolation, channels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, channels), np.uint8)
    if seed % 3 == 0:
        pixels = (pixels > 127).astype(np.uint8) * 255  # overshoot, so that clipping after each pass counts
    resized = resize(pixels, (tall, wide), interpolation)
    assert resized.shape == (tall, wide, channels)
    assert resized.dtype == np.uint8
    assert np.array_equal(resized, plain_resize(pixels, (tall, wide), interpolation))


def test_a_tall_picture_goes_horizontal_first() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (97, 33, 3), np.uint8)
    expected = plain_resize(pixels, (20, 30), "bicubic")
    down_first = _one_axis(pixels, 20, "bicubic").transpose(1, 0, 2)
    other = _one_axis(down_first, 30, "bicubic").transpose(1, 0, 2)
    assert not np.array_equal(expected, other)
    assert np.array_equal(resize(pixels, (20, 30), "bicubic"), expected)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_flat_pictures_stay_flat(interpolation: Interpolation) -> None:
    for value in (0, 1, 127, 254, 255):
        pixels = np.full((13, 7, 1), value, np.uint8)
        assert (resize(pixels, (5, 31), interpolation) == value).all()


def test_views_with_any_strides_are_taken() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    view = pixels[::-1, ::2]
    assert np.array_equal(resize(view, (9, 9), "bicubic"), resize(np.ascontiguousarray(view), (9, 9), "bicubic"))
