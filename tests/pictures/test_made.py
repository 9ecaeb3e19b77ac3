"""A thousand made pictures and the odd ones of the world: one file, one tensor, as recorded.

Here a spread of them; `tests/oracles/run pillow` does all of them under four versions of Pillow, `make prove` under
the one at hand. To record anew, which only a new definition of the tensor may ask for:
`python -m tests.pictures.test_made`.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from tests.pictures.made import catalogue, flat, jpeg, png, webp
from tests.pictures.made.draw import Draw
from vitrail.data.configs import Data
from vitrail.data.loader import evaluation_batches
from vitrail.data.sources import Source, open_source
from vitrail.pictures.decode import decode
from vitrail.pictures.policy import IMAGENET, INTERPOLATIONS, MODES, Policy

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


# ---------------------------------------------------------------- any worker count, any run, any process


POLICY = Policy(size=(48, 40), mode="pad", crop=0.9, mean=IMAGENET.mean, std=IMAGENET.std)


def _folder(place: Path, numbers: Iterable[int]) -> Source:
    for number in numbers:
        picture = catalogue.made(number)
        path = place / f"class{number % 3}" / f"{number:04d}.{type(picture.kind).__name__.lower()}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture.data())
    return open_source(Data(root=str(place)), split_it=False)


def _through_the_loader(source: Source, workers: int) -> str:
    batches = evaluation_batches(source, source.held_out, POLICY, batch=7, workers=workers)
    found = hashlib.sha256()
    for batch in batches:
        assert not batch.bad
        found.update(batch.images.tobytes())
    return found.hexdigest()


def _alone(source: Source) -> str:
    """Each by itself, from its bytes."""
    found = hashlib.sha256()
    for index in source.held_out:
        stored = source.picture(int(index))
        assert isinstance(stored, Path)
        found.update(POLICY.normalise(POLICY.pixels(stored.read_bytes())[None]).tobytes())
    return found.hexdigest()


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, str]:
    source = _folder(tmp_path_factory.mktemp("made"), QUICK[::2])
    return source, _alone(source)


@pytest.mark.parametrize("run", range(3))
@pytest.mark.parametrize("workers", [0, 2])
def test_B06_workers_and_runs_give_the_same_bytes(workers: int, run: int, spread: tuple[Source, str]) -> None:
    source, expected = spread
    assert len(source.held_out) == len(QUICK[::2]) >= 60
    assert _through_the_loader(source, workers) == expected


@pytest.mark.prove
def test_B06_workers_and_runs_with_every_picture(tmp_path: Path) -> None:
    source = _folder(tmp_path, range(catalogue.COUNT))
    expected = _alone(source)
    assert {_through_the_loader(source, workers) for workers in (0, 2) for _ in range(3)} == {expected}


@pytest.mark.parametrize("seed", ["0", "1"])
def test_B06_another_process_gives_the_same_bytes(seed: str) -> None:
    """Also where hashes of texts and the locale differ."""
    numbers = QUICK[::9]
    script = f"from tests.pictures.made.catalogue import row\nfor n in {numbers}: print(row(n)[1])"
    environment = {**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == [recorded()[number][1] for number in numbers]


# ---------------------------------------------------------------- the encoders are right


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
