"""The pixel loops, as Python and as machine code, against Pillow's calls and NumPy's lookups: the same bits."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.data.augment.perform import GRADED, MOVED, WHOLE, operate
from vitrail.pictures import kernels, loops
from vitrail.pictures.operations import flip_batch, pad_crop_batch
from vitrail.pictures.policy import CIFAR10, Policy
from vitrail.pictures.resize import resize

PLAIN = kernels.Kernels(
    kernels.weigh,
    kernels.resampler(3),
    kernels.look_up,
    kernels.look_up_planes,
    kernels.mirrorer(3),
    kernels.pad_crop,
    kernels.Augmenting(
        loops.pack,
        {name: loops.mover(taps) for name, taps in loops.TAPS.items()},
        loops.blend,
        loops.blend_grey,
        loops.blend_smooth,
        loops.grey_sums,
        loops.histogram,
        loops.exchange,
    ),
)
SUPPORTS = {"bilinear": 1.0, "bicubic": 2.0}
sides = st.integers(1, 60)


@pytest.fixture(params=["python", "compiled"])
def ways(request: pytest.FixtureRequest) -> kernels.Kernels:
    """The loops, both ways."""
    if request.param == "python":
        return PLAIN
    compiled = kernels.ready(augment=True)
    assert compiled is not None
    return compiled


@pytest.fixture(autouse=True)
def not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the loops are held against goes through Pillow and NumPy."""
    monkeypatch.setattr(kernels, "loaded", lambda: None)


def resized(
    ways: kernels.Kernels, pixels: np.ndarray, size: tuple[int, int], name: str, window: tuple[int, int, int, int]
) -> np.ndarray:
    top, left, height, width = window
    out = np.empty((height, width, 3), np.uint8)
    across = ways.weigh(pixels.shape[1], size[1], left, left + width, SUPPORTS[name])
    down = ways.weigh(pixels.shape[0], size[0], top, top + height, SUPPORTS[name])
    ways.resample(pixels, *across, *down, out)
    return out


def _same_as_pillow(ways: kernels.Kernels, shape: tuple[int, int], size: tuple[int, int], seed: int) -> None:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (*shape, 3), np.uint8)
    if seed % 3 == 0:
        pixels = (pixels > 127).astype(np.uint8) * 255  # overshoot: clipping after each pass counts
    if seed % 2:
        pixels = pixels[::-1, ::2] if shape[1] > 1 else pixels[::-1]
    top, left = (int(random.integers(0, side)) for side in size)
    window = (top, left, int(random.integers(1, size[0] - top + 1)), int(random.integers(1, size[1] - left + 1)))
    for name in ("bilinear", "bicubic"):
        if pixels.shape[:2] == size:
            continue
        whole = resize(pixels, size, name)  # type: ignore[arg-type]
        expected = whole[window[0] : window[0] + window[2], window[1] : window[1] + window[3]]
        assert np.array_equal(resized(ways, pixels, size, name, window), expected), (pixels.shape, size, window)
        assert np.array_equal(resize(pixels, size, name, window=window), expected)  # type: ignore[arg-type]


@settings(max_examples=25, deadline=None)
@given(sides, sides, sides, sides, st.integers(0, 2**32 - 1))
def test_resampling_in_python(height: int, width: int, tall: int, wide: int, seed: int) -> None:
    _same_as_pillow(PLAIN, (height, width), (min(tall, 20), min(wide, 20)), seed)


def test_resampling_compiled(ways: kernels.Kernels) -> None:
    if ways is PLAIN:
        return
    random = np.random.default_rng(1)
    for seed in range(400):
        shape, size = random.integers(1, 300, 2).tolist(), random.integers(1, 260, 2).tolist()
        _same_as_pillow(ways, (shape[0], shape[1]), (size[0], size[1]), seed)


def test_pixels_that_may_not_be_written_are_taken(ways: kernels.Kernels) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    pixels.flags.writeable = False
    assert np.array_equal(resized(ways, pixels, (4, 5), "bicubic", (0, 0, 4, 5)), resize(pixels, (4, 5), "bicubic"))


def test_normalising(ways: kernels.Kernels) -> None:
    policy = Policy(size=(9, 7), mean=CIFAR10.mean, std=CIFAR10.std)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3), np.uint8)
    out = np.empty((3, 3, 9, 7), np.float32)
    ways.look_up(pixels, policy.table(), out)
    assert np.array_equal(out, policy.normalise(pixels))
    apart = np.empty_like(out)
    ways.look_up_planes(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)), policy.table(), apart)
    assert np.array_equal(out, apart)


def test_crops_and_flips(ways: kernels.Kernels) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (20, 9, 7, 3), np.uint8)
    tops, lefts = random.integers(0, 9, (2, 20))
    planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    apart = np.empty_like(planes)
    ways.pad_crop(planes, tops, lefts, 4, apart)
    assert np.array_equal(apart.transpose(0, 2, 3, 1), pad_crop_batch(pixels, tops, lefts, 4))
    out = np.empty_like(pixels)
    ways.mirror(pixels[0], out[0])
    assert np.array_equal(out[0], pixels[0, :, ::-1])


PLACES = [0.0, 0.5, 1.0, -1.0, -0.5, 1e-300, -1e-17, 3.0 - 2**-51, 2.9999999999999996, 90.0, 180.0, 270.0, 1000.0]


def _augmented_alike(ways: kernels.Kernels, height: int, width: int, seed: int) -> None:
    """Every operation by the loops and by Pillow and NumPy."""
    random = np.random.default_rng(seed)
    planes = random.integers(0, 256, (2, 3, height, width), np.uint8)
    if seed % 3 == 0:
        planes = (planes > 127).astype(np.uint8) * 255  # overshoot: cutting counts
    if seed % 4 == 1:
        planes[:] = planes[:, :, :1, :1]  # of one value: whatever is rounded below it shows
    fill = tuple(random.integers(0, 256, 3).tolist())
    for name in (*WHOLE, *GRADED, *MOVED):
        if name in ("posterize", "solarize", "solarize_add", "gaussian_blur", "hue"):
            continue  # by NumPy or Pillow alone
        scale = {"rotate": 200.0, "translate_x": 1.2 * width, "translate_y": 1.2 * height}.get(name, 2.5)
        arguments = random.uniform(-scale, scale, 2) if name in MOVED else random.uniform(0.0, scale, 2)
        if name in MOVED and seed % 2:
            arguments[0] = PLACES[int(random.integers(len(PLACES)))]
        for sampling in ("bilinear", "bicubic", "nearest") if name in MOVED else ("bilinear",):
            with pytest.MonkeyPatch.context() as patch:
                expected = operate(planes, name, arguments, sampling, fill)  # type: ignore[arg-type]
                patch.setattr(kernels, "loaded", lambda: ways)
                got = operate(planes, name, arguments, sampling, fill)  # type: ignore[arg-type]
            assert np.array_equal(got, expected), (name, sampling, planes.shape, arguments.tolist())


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_augmenting_in_python(height: int, width: int, seed: int) -> None:
    _augmented_alike(PLAIN, height, width, seed)


def test_augmenting_compiled(ways: kernels.Kernels) -> None:
    if ways is PLAIN:
        return
    random = np.random.default_rng(2)
    for seed in range(120):
        height, width = (random.integers(1, 12, 2) if seed % 3 else random.integers(1, 150, 2)).tolist()
        _augmented_alike(ways, height, width, seed)


@pytest.mark.prove
def test_augmenting_thousands_compiled() -> None:
    compiled = kernels.ready(augment=True)
    assert compiled is not None
    random = np.random.default_rng(3)
    for seed in range(3_000):
        height, width = (random.integers(1, 40, 2) if seed % 5 else random.integers(1, 300, 2)).tolist()
        _augmented_alike(compiled, height, width, seed)


def test_a_loader_that_asks_for_them_gets_the_same_bits(monkeypatch: pytest.MonkeyPatch, ways: kernels.Kernels) -> None:
    policy = Policy(size=(16, 12), crop=0.8, mean=CIFAR10.mean, std=CIFAR10.std)
    pictures = [np.random.default_rng(i).integers(0, 256, (20 + i, 31 - i, 3), np.uint8) for i in range(4)]
    plain = policy.normalise(np.stack([policy.pixels(picture) for picture in pictures]))
    batch = np.stack([policy.pixels(picture) for picture in pictures])
    which = np.array([True, False, True, False])
    mirrored = flip_batch(batch, which)
    cropped = pad_crop_batch(batch, np.arange(4), np.arange(4), 2)
    monkeypatch.setattr(kernels, "loaded", lambda: ways)
    assert np.array_equal(policy.normalise(np.stack([policy.pixels(picture) for picture in pictures])), plain)
    assert np.array_equal(flip_batch(batch, which), mirrored)
    assert np.array_equal(pad_crop_batch(batch, np.arange(4), np.arange(4), 2), cropped)


def test_without_numba_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_compiled", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert kernels.ready() is None


def test_where_no_machine_code_can_be_kept_it_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def compile_(kept: bool) -> kernels.Kernels:
        asked.append(kept)
        if kept:
            raise RuntimeError("no locator available")
        return PLAIN

    monkeypatch.setattr(kernels, "_compiled", None)
    monkeypatch.setattr(kernels, "_compile", compile_)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert kernels.ready() is PLAIN
    assert asked == [True, False]
