"""Every operation of augmentation equals Pillow's, which timm calls, and the recorded pictures of timm 1.0.31."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from vitrail.data.augment.levels import LEVELS, TURNING, At
from vitrail.data.augment.perform import GRADED, MOVED, WHOLE, operate
from vitrail.pictures import kernels
from vitrail.pictures.operations import as_pixels, as_planes, crop_resize, resized_boxes
from vitrail.pictures.operations.planes import Planes
from vitrail.pictures.operations.tones import posterize

FILL = (12, 200, 99)
SAMPLINGS = {"nearest": 0, "bilinear": 2, "bicubic": 3}


@pytest.fixture(params=["numpy", "compiled"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without loops, and with compiled ones."""
    loops = None
    if request.param == "compiled":
        loops = kernels.ready(augment=True)
        assert loops is not None
    monkeypatch.setattr(kernels, "loaded", lambda: loops)


def moved(matrix: Callable[[float], tuple[float, ...]]) -> Callable[..., Image.Image]:
    def by_pillow(image: Image.Image, argument: float, way: Image.Resampling, fill: object) -> Image.Image:
        return image.transform(image.size, Image.Transform.AFFINE, matrix(argument), way, fillcolor=fill)

    return by_pillow


PILLOW: dict[str, Callable[..., Image.Image]] = {
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "invert": lambda image, _: ImageOps.invert(image),
    "posterize": lambda image, bits: ImageOps.posterize(image, int(bits)),
    "solarize": lambda image, threshold: ImageOps.solarize(image, int(threshold)),
    "solarize_add": lambda image, add: image.point(
        [min(255, v + int(add)) if v < 128 else v for v in range(256)] * len(image.getbands())
    ),
    "colour": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
    "desaturate": lambda image, amount: ImageEnhance.Color(image).enhance(min(1.0, max(0.0, 1.0 - amount))),
    "gaussian_blur": lambda image, radius: image.filter(ImageFilter.GaussianBlur(radius)),
    "rotate": lambda image, angle, way, fill: image.rotate(angle, way, fillcolor=fill),
    "shear_x": moved(lambda factor: (1, factor, 0, 0, 1, 0)),
    "shear_y": moved(lambda factor: (1, 0, 0, factor, 1, 0)),
    "translate_x": moved(lambda pixels: (1, 0, pixels, 0, 1, 0)),
    "translate_y": moved(lambda pixels: (1, 0, 0, 0, 1, pixels)),
}
EDGES: dict[str, list[float]] = {  # arguments at which something changes, beside those that are drawn
    "posterize": [1, 4, 8],
    "solarize": [0, 1, 128, 255, 256],
    "solarize_add": [0, 55, 110, 128],
    "rotate": [0, 90, 180, 270, -90, -30],
    "translate_x": [0, 1, -1, 0.5, 14.4, 1000, -1000],
    "translate_y": [0, 1, -1, 0.5, 14.4, 1000, -1000],
}
REACH = {
    "posterize": (1, 8), "solarize": (0, 256), "solarize_add": (0, 128), "gaussian_blur": (0.1, 2.0),
    "rotate": (-30, 30), "shear_x": (-0.4, 0.4), "shear_y": (-0.4, 0.4), "translate_x": (-40, 40),
    "translate_y": (-40, 40), "desaturate": (-0.2, 1.2),
}  # fmt: skip
WHOLE_NUMBERS = ("posterize", "solarize", "solarize_add")


def to_image(planes: Planes) -> Image.Image:
    return Image.fromarray(planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0)))


def from_image(image: Image.Image) -> Planes:
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def pictures() -> list[Planes]:
    """Noise, little contrast, ramps and one value, of several shapes, grey and coloured, as planes (C, H, W)."""
    random = np.random.default_rng(1)
    found = []
    for height, width in ((1, 1), (2, 3), (5, 2), (17, 40), (48, 36)):
        ramp = (np.add.outer(np.arange(height) * 3, np.arange(width) * 2) % 256).astype(np.uint8)
        for channels in (1, 3):
            shape = (channels, height, width)
            found += [random.integers(0, 256, shape, np.uint8), random.integers(100, 140, shape, np.uint8)]
            found += [np.broadcast_to(ramp, shape).copy(), np.full(shape, 77, np.uint8)]
    return found


@pytest.mark.parametrize("operation", PILLOW)
def test_operations_are_pillows(operation: str) -> None:
    random = np.random.default_rng(len(operation))
    low, high = REACH.get(operation, (0.0, 2.0))
    drawn = random.uniform(low, high, 6)
    arguments = [*EDGES.get(operation, [0.0, 1.0]), *(np.round(drawn) if operation in WHOLE_NUMBERS else drawn)]
    arguments = arguments[:1] if operation in WHOLE else arguments
    for picture in pictures():
        fill = FILL[: len(picture)]
        for argument in arguments:
            for sampling, way in SAMPLINGS.items() if operation in MOVED else ((None, None),):
                got = operate(picture[None], operation, np.array([argument]), sampling, fill)  # type: ignore[arg-type]
                more = () if way is None else (Image.Resampling(way), fill[0] if len(fill) == 1 else fill)
                wanted = from_image(PILLOW[operation](to_image(picture), float(argument), *more))
                assert got.dtype == np.uint8 and np.array_equal(got[0], wanted), (picture.shape, argument, sampling)


def test_every_operation_of_the_table_is_here() -> None:
    assert {row.operation for row in LEVELS.values()} <= set(PILLOW)
    assert {*WHOLE, *GRADED, *MOVED} == {*PILLOW, "hue"} and set(MOVED) == set(TURNING)
    for row in LEVELS.values():
        assert (row.argument is None) == (row.operation in WHOLE)


def test_a_picture_does_not_depend_on_its_batch() -> None:
    random = np.random.default_rng(5)
    batch = random.integers(0, 256, (7, 3, 20, 24), np.uint8)
    for operation in (*WHOLE, *GRADED, *MOVED):
        low, high = REACH.get(operation, (0.0, 0.5))
        arguments = random.uniform(low, high, len(batch)).round(1)
        whole = operate(batch, operation, arguments, "bicubic", FILL)
        alone = [operate(batch[i : i + 1], operation, arguments[i : i + 1], "bicubic", FILL)[0] for i in range(7)]
        assert np.array_equal(whole, np.stack(alone)), operation


def test_posterize_to_no_bits_keeps_one() -> None:
    """timm 1.0.31 hands 0 bits to Pillow, whose version 13 refuses them and ends the run."""
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    for bits in (-2.0, 0.0, 1.0):
        assert np.array_equal(posterize(ramp, np.array([bits])), ramp & 128)
    increasing = LEVELS["PosterizeIncreasing"]
    assert increasing.argument is not None and increasing.argument(At(1.0, 1.0, 0.0, 32, 32)) == 0


def test_hue_turns_around() -> None:
    red, green, blue = np.eye(3, dtype=np.uint8)[:, :, None, None] * np.uint8(255)
    third = 85 / 255
    for start, end in ((red, green), (green, blue), (blue, red)):
        assert np.array_equal(operate(start[None], "hue", np.array([third]), None, FILL)[0], end)
    picture = np.random.default_rng(0).integers(0, 256, (2, 3, 9, 9), np.uint8)
    # 0.5 and -0.5 are 127 steps forth and back, and 8 bits of hue lose something on the way
    assert not np.array_equal(operate(picture, "hue", np.array([0.5, 0.0]), None, FILL)[0], picture[0])
    grey = picture[:, :1]
    assert np.array_equal(operate(grey, "hue", np.array([0.3, -0.3]), None, FILL), grey)


def argument_of(name: str, magnitude: float, sign: float, constant: float) -> float:
    row = LEVELS[name]
    if row.argument is None:
        return 0.0
    found = row.argument(At(magnitude / 10, sign, 0.0, height=40, width=48))
    return found * constant / int(40 * 0.45) if name in ("TranslateX", "TranslateY") else found


def test_arguments_and_pictures_of_timm(shared: Path) -> None:
    vectors = np.load(shared / "reference" / "augment_vectors.npz", allow_pickle=False)
    meta = json.loads(str(vectors["meta"]))
    planes = as_planes(vectors["picture"][None])
    compared = 0
    for key in (name for name in vectors.files if name.startswith("op/")):
        _, name, magnitude, sign, *sampling = key.split("/")
        given = meta["op_args"][f"{name}/{magnitude}/{sign}"]
        mine = argument_of(
            name, float(magnitude[1:]), -1.0 if sign == "neg" else 1.0, meta["hparams"]["translate_const"]
        )
        argument = given[0] if given else 0.0
        if name.startswith("Translate") and name.endswith("Rel"):
            mine /= 48 if "X" in name else 40
        assert mine == pytest.approx(argument, abs=1e-12), key
        if name.endswith("Rel"):
            argument *= 48 if "X" in name else 40
        operation = LEVELS[name].operation
        way = sampling[0] if sampling else "bicubic"
        got = operate(planes, operation, np.array([argument]), way, meta["fillcolor"])
        assert np.array_equal(as_pixels(got)[0], vectors[key]), key
        compared += 1
    assert compared > 120


def test_whole_runs_of_timm(shared: Path) -> None:
    vectors = np.load(shared / "reference" / "augment_vectors.npz", allow_pickle=False)
    meta = json.loads(str(vectors["meta"]))
    for number, run in enumerate(meta["randaugment"]):
        ends = []
        for sampling in ("bilinear", "bicubic"):  # which of the two was drawn is not recorded
            planes = as_planes(vectors["picture"][None])
            for name, arguments, _ in run["applied"]:
                argument = np.array([arguments[0] if arguments else 0.0])
                planes = operate(planes, LEVELS[name].operation, argument, sampling, meta["fillcolor"])  # type: ignore[arg-type]
            ends.append(np.array_equal(as_pixels(planes)[0], vectors[f"randaugment/{number}"]))
        assert any(ends), run


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_many_small_crops_are_the_single_ones(data: st.DataObject) -> None:
    height, width = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    size = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    random = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    pixels = random.choice(np.array([0, 1, 127, 128, 254, 255], np.uint8), (3, height, width, 3))
    tall, wide = random.integers(1, height + 1, 3), random.integers(1, width + 1, 3)
    boxes = np.stack([random.integers(0, height - tall + 1), random.integers(0, width - wide + 1), tall, wide], axis=1)
    ways = data.draw(st.lists(st.sampled_from(["bilinear", "bicubic"]), min_size=3, max_size=3))
    got = as_pixels(resized_boxes(as_planes(pixels), boxes, size, ways))
    for picture, box, way, result in zip(pixels, boxes.tolist(), ways, got, strict=True):
        assert np.array_equal(result, crop_resize(picture, tuple(box), size, way))


def test_other_filters_and_larger_pictures_take_the_other_way() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 90, 70, 3), np.uint8)
    boxes = np.array([[3, 5, 40, 30], [0, 0, 90, 70]])
    got = as_pixels(resized_boxes(as_planes(pixels), boxes, (24, 20), ["lanczos", "bicubic"]))
    for picture, box, way, result in zip(pixels, boxes.tolist(), ("lanczos", "bicubic"), got, strict=True):
        assert np.array_equal(result, crop_resize(picture, tuple(box), (24, 20), way))  # type: ignore[arg-type]
