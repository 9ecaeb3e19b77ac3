"""Parts of pictures: what is left out changes no pixel, and no verdict."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pictures.jpegs import OPTIONS, SAMPLINGS, jpeg, scene
from vitrail.errors import PictureError
from vitrail.pictures import turbo
from vitrail.pictures.decode import decode
from vitrail.pictures.part import Box, Parts
from vitrail.pictures.resize import resize


def read(parts: Parts, index: int, data: bytes | Path, box: Box, size: int, channels: int = 3) -> np.ndarray:
    return parts.read(index, data, lambda _: box, size=(size, size), channels=channels, name="x.jpg")


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("channels", [1, 3])
def test_parts_less_than_twice_as_large_are_the_whole_pictures_pixels(
    sampling: str, option: str, channels: int
) -> None:
    data = jpeg(128, 96, sampling=sampling, option=option)
    whole, parts = decode(data, channels=channels), Parts(1)
    for box in ((0, 0, 128, 96), (10, 20, 40, 50), (88, 46, 40, 50), (0, 0, 1, 1), (10, 20, 40, 50)):
        top, left, height, width = box
        part = read(parts, 0, data, box, 50, channels)
        assert np.array_equal(part, whole[top : top + height, left : left + width]), box


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_larger_parts_are_decoded_at_a_smaller_scale(mode: str) -> None:
    file = io.BytesIO()
    Image.fromarray(scene(64, 80)).resize((640, 512), Image.Resampling.BICUBIC).convert(mode).save(file, "JPEG")
    data, parts = file.getvalue(), Parts(1)
    whole = decode(data)
    for scale, box in ((2, (104, 200, 150, 140)), (4, (16, 32, 280, 290)), (8, (0, 0, 512, 640))):
        top, left, height, width = box
        part = read(parts, 0, data, box, 64)
        assert part.shape == (height // scale, width // scale, 3)
        exact = resize(whole[top : top + height, left : left + width], (64, 64), "bicubic").astype(int)
        assert np.abs(resize(part, (64, 64), "bicubic").astype(int) - exact).mean() < 3  # as two filters differ


def test_the_same_pixels_whatever_was_read_before_and_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for sampling in SAMPLINGS:
        for box in ((3, 5, 60, 70), (30, 20, 200, 220)):
            data, parts = jpeg(256, 256, sampling=sampling), Parts(1)
            first, again = (read(parts, 0, data, box, 64) for _ in range(2))
            with monkeypatch.context() as patch:
                patch.setattr(turbo, "decoder", lambda: None)
                alone = read(Parts(1), 0, data, box, 64)
            assert np.array_equal(first, again) and np.array_equal(first, alone), (sampling, box)


@pytest.mark.parametrize("option", OPTIONS)
def test_B04_a_cut_below_the_part_is_refused_all_the_same(option: str) -> None:
    whole = jpeg(128, 96, option=option)
    for tail in (b"", b"\xff\xd9"):
        for share in (0.3, 0.6, 0.9):
            cut = whole[: int(len(whole) * share)] + tail
            try:
                decode(cut)
            except PictureError as error:
                code = error.code
            else:
                continue  # a progressive picture that was given an end is whole, coarser
            with pytest.raises(PictureError) as caught:
                read(Parts(1), 0, cut, (0, 0, 8, 8), 8)
            assert caught.value.code == code


def test_a_file_that_changed_is_looked_through_again() -> None:
    parts, data = Parts(1), jpeg(128, 96)
    read(parts, 0, data, (0, 0, 8, 8), 8)
    with pytest.raises(PictureError):
        read(parts, 0, data[: len(data) * 2 // 3] + b"\xff\xd9", (0, 0, 8, 8), 8)


@pytest.mark.parametrize("turn", range(1, 9))
def test_boxes_are_of_the_turned_picture(turn: int) -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(scene(96, 160)).save(file, "JPEG", exif=exif)
    whole = decode(file.getvalue())
    sizes: list[tuple[int, int]] = []

    def choose(size: tuple[int, int]) -> Box:
        sizes.append(size)
        return 7, 9, 30, 20

    part = Parts(1).read(0, file.getvalue(), choose, size=(20, 20), channels=3, name="x")
    assert sizes == [whole.shape[:2]]
    assert np.array_equal(part, whole[7:37, 9:29])


def test_other_formats_are_decoded_whole(tmp_path: Path) -> None:
    for form in ("PNG", "BMP", "GIF", "WEBP"):
        place = tmp_path / "a"
        Image.fromarray(scene(40, 60)).save(place, form)
        assert np.array_equal(read(Parts(1), 0, place, (1, 2, 30, 40), 4), decode(place)[1:31, 2:42])
    cmyk = io.BytesIO()
    Image.fromarray(scene(40, 60)).convert("CMYK").save(cmyk, "JPEG")
    assert np.array_equal(read(Parts(1), 0, cmyk.getvalue(), (1, 2, 30, 40), 4), decode(cmyk.getvalue())[1:31, 2:42])
