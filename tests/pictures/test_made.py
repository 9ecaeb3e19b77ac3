"""A thousand made pictures and the odd ones of the world: one file, one tensor, as recorded.

Here a spread of them; `tests/oracles/run pillow` does all of them under four versions of Pillow, `make prove` under
the one at hand. To record anew, which only a new definition of the tensor may ask for:
`python -m tests.pictures.test_made`.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.pictures.made import catalogue, flat, jpeg, png, webp
from tests.pictures.made.draw import Draw
from vitrail.pictures.decode import decode
from vitrail.pictures.policy import INTERPOLATIONS, MODES

GOLDEN = Path(__file__).parent / "golden_made.json"
QUICK = [number for number in range(3, catalogue.COUNT, 7) if number not in catalogue.WHOLE]


def recorded() -> list[tuple[str, str]]:
    """(name, hashes) of every picture, by its number."""
    return list(json.loads(GOLDEN.read_text()).items())


def test_B06_a_thousand_pictures_are_recorded() -> None:
    rows = recorded()
    assert [name for name, _ in rows] == [catalogue.made(number).name for number in range(catalogue.COUNT)]
    assert len({hashes.split()[0] for _, hashes in rows}) == catalogue.COUNT  # no two files are equal
    assert not any(hashes.split()[1].startswith("V") for _, hashes in rows)


def test_B06_the_pictures_cover_what_is_allowed() -> None:
    pictures = [catalogue.made(number) for number in range(catalogue.COUNT)]
    kinds = [picture.kind for picture in pictures]
    jpegs = [kind for kind in kinds if isinstance(kind, jpeg.Jpeg)]
    assert {(kind.coding, kind.sampling) for kind in jpegs} == {(c, s) for c in jpeg.CODINGS for s in jpeg.SAMPLINGS}
    assert {(kind.coding, kind.colour) for kind in jpegs} == {(c, s) for c in jpeg.CODINGS for s in jpeg.COLOURS}
    assert {kind.restart > 0 for kind in jpegs} == {False, True}
    pngs = [kind for kind in kinds if isinstance(kind, png.Png)]
    assert {(kind.colour, kind.depth, kind.interlaced) for kind in pngs} == {
        (*kind, interlaced) for kind in png.KINDS for interlaced in (False, True)
    }
    assert {kind.colour for kind in pngs if kind.transparent} == {png.GREY, png.RGB, png.PALETTE}
    webps = [kind for kind in kinds if isinstance(kind, webp.WebP)]
    assert {kind.lossy for kind in webps} == {None, *range(10)}
    assert {(kind.lossy is None, kind.alpha) for kind in webps} == {
        (a, b) for a in (False, True) for b in (False, True)
    }
    assert {kind.bits for kind in kinds if isinstance(kind, flat.Gif)} == set(range(1, 9))
    assert {kind.kind for kind in kinds if isinstance(kind, flat.Bmp)} == set(flat.BMP_KINDS)
    assert all(count >= 60 for count in Counter(picture.orientation for picture in pictures).values())
    ways = Counter((picture.policy.mode, picture.policy.interpolation) for picture in pictures)
    assert set(ways) == {(mode, way) for mode in MODES for way in INTERPOLATIONS}
    sides = {side for picture in pictures for side in (picture.height, picture.width)}
    assert min(sides) == 1 and max(sides) == 4000 and len(sides) > 300


@pytest.mark.parametrize("number", QUICK)
def test_B06_a_made_picture_gives_the_recorded_tensor(number: int, tmp_path: Path) -> None:
    picture = catalogue.made(number)
    name, hashes = recorded()[number]
    data = picture.data()
    path = tmp_path / "picture"
    path.write_bytes(data)
    assert (name, hashes) == (picture.name, f"{catalogue.digest(data)} {catalogue.prepared(picture.policy, data)}")
    assert np.array_equal(picture.policy.pixels(path), picture.policy.pixels(data))


@pytest.mark.prove
def test_B06_every_made_picture_gives_the_recorded_tensor() -> None:
    assert [catalogue.row(number) for number in range(catalogue.COUNT)] == recorded()


@pytest.mark.parametrize("sampling", jpeg.SAMPLINGS)
@pytest.mark.parametrize("colour", jpeg.COLOURS)
def test_every_coding_of_a_jpeg_gives_the_same_pixels(colour: str, sampling: str) -> None:
    """The encoder is right: the same coefficients, however they are coded, are the same picture."""
    kinds = [jpeg.Jpeg(colour, sampling, coding, restart, 0) for coding in jpeg.CODINGS for restart in (0, 3)]
    first, *others = [decode(jpeg.encode(Draw("one"), 41, 67, kind)) for kind in kinds]
    assert all(np.array_equal(first, other) for other in others)
    assert len(np.unique(first)) > 100


if __name__ == "__main__":
    rows = dict(catalogue.row(number) for number in range(catalogue.COUNT))
    GOLDEN.write_text(json.dumps(rows, indent=0) + "\n")
