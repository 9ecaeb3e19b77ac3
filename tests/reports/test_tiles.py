"""Pictures in reports: whole squares for pixels, proportions kept, bytes a function of the pixels."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from vitrail.reports.tiles import fit, png


def test_a_small_picture_is_enlarged_by_whole_squares() -> None:
    image = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (8, 5, 3), dtype=np.uint8)
    out = fit(image, 192)
    assert out.shape == (192, 120, 3)
    assert (out[::24, ::24] == image).all()
    assert (out[23::24, 23::24] == image).all()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((400, 200), (100, 50)), ((101, 1000), (10, 100)), ((3, 4000), (1, 100)), ((100, 7), (100, 7))],
)
def test_a_large_picture_keeps_its_proportions(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fit(np.full((*shape, 3), 77, np.uint8), 100).tolist() == np.full((*expected, 3), 77).tolist()


def test_grey_is_shown_as_grey() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    out = fit(image, 4)
    assert (out == image).all()
    assert out.shape == (3, 4, 3)


def test_png_holds_the_pixels_and_nothing_else() -> None:
    image = np.random.Generator(np.random.PCG64(2)).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    data = png(image)
    assert data == png(image)
    with Image.open(BytesIO(data)) as read:
        assert read.info == {}
        assert (np.asarray(read) == image).all()
