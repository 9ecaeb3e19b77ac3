"""simplejpeg in Pillow's place: the same pixels, the same refusals, for every kind of JPEG."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.pictures.jpegs import OPTIONS, SAMPLINGS, jpeg
from vitrail.errors import PictureError
from vitrail.pictures import turbo
from vitrail.pictures.decode import decode, opened
from vitrail.pictures.jpeg import cut_below, read_jpeg

SIZES = [(8, 8), (1, 1), (61, 77), (64, 96), (97, 33), (33, 130)]


@pytest.fixture
def pillow_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Decodes with simplejpeg out of the way."""

    def decoded(data: bytes) -> NDArray[np.uint8] | str:
        with monkeypatch.context() as patch:
            patch.setattr(turbo, "decoder", lambda: None)
            return verdict(data)

    return decoded


def verdict(data: bytes) -> NDArray[np.uint8] | str:
    try:
        return decode(data)
    except PictureError as error:
        return re.sub("0x[0-9a-f]+", "", f"{error.code} {error.what}")  # an address in Pillow's words


def same(one: NDArray[np.uint8] | str, other: NDArray[np.uint8] | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return isinstance(one, str) and isinstance(other, str) and one == other
    return np.array_equal(one, other)


def test_the_two_decoders_agree_here() -> None:
    assert turbo.decoder() is not None


def test_a_decoder_that_gives_other_pixels_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import simplejpeg

    real = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *a, **k: real(*a, fastupsample=True, fastdct=True, **k))
    assert turbo.decoder.__wrapped__() is None


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_same_pixels_as_pillow(sampling: str, option: str) -> None:
    for seed, (height, width) in enumerate(SIZES):
        if (sampling, option) == ("4:1:1", "progressive") and height % 16:
            continue  # its scans would say otherwise than its frame
        header = read_jpeg(jpeg(height, width, sampling=sampling, option=option, seed=seed), "x")
        for scale in turbo.SCALES:
            pixels = turbo.decoded(header, scale=scale)
            assert pixels is not None, (height, width, scale)
            if scale <= min(height, width):
                assert np.array_equal(pixels, turbo.by_pillow(header, scale)), (height, width, scale)


@pytest.mark.parametrize("option", ["plain", "restarts", "optimised"])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_rows_left_out_change_no_other_row(sampling: str, option: str) -> None:
    for seed in range(4):
        header = read_jpeg(jpeg(131, 77, sampling=sampling, option=option, seed=seed), "x")
        for scale in turbo.SCALES:
            whole = turbo.decoded(header, scale=scale)
            assert whole is not None
            for rows in range(scale, 132, 7):
                part = turbo.decoded(header, scale=scale, rows=rows)
                assert part is not None and len(part) <= len(whole)
                assert np.array_equal(part[: rows // scale], whole[: rows // scale]), (scale, rows)
        assert cut_below(header, 20).height < 131


def test_several_scans_are_always_decoded_whole() -> None:
    header = read_jpeg(jpeg(131, 77, option="progressive"), "x")
    part = turbo.decoded(header, rows=8)
    assert part is not None and part.shape == (131, 77, 3)


def test_real_photographs(shared: Path, pillow_alone: Any) -> None:
    fast = 0
    with tarfile.open(shared / "data" / "photos" / "imagenet_samples90.tar") as archive:
        for member in archive:
            if member.isfile() and member.name.lower().endswith((".jpeg", ".jpg")):
                data = archive.extractfile(member).read()  # type: ignore[union-attr]
                fast += turbo.decoded(opened(data, "x")) is not None
                assert same(verdict(data), pillow_alone(data)), member.name
    assert fast >= 88  # of 90; one is CMYK


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_B04_cut_anywhere_the_verdict_is_the_same(sampling: str, option: str, pillow_alone: Any) -> None:
    data = jpeg(61, 77, sampling=sampling, option=option)
    for length in range(2, len(data), 61):
        for tail in (b"", b"\xff\xd9"):
            cut = data[:length] + tail
            assert same(verdict(cut), pillow_alone(cut)), (length, tail)


def mutants(seed: int, count: int) -> Iterator[bytes]:
    random = np.random.default_rng(seed)
    for number in range(count):
        kind, option = SAMPLINGS[number % len(SAMPLINGS)], list(OPTIONS)[number // len(SAMPLINGS) % len(OPTIONS)]
        data = bytearray(jpeg(33, 50, sampling=kind, option=option, seed=number % 50))
        for _ in range(int(random.integers(1, 5))):
            at = int(random.integers(2, len(data)))
            choice = random.integers(3)
            if choice == 0:
                data[at] ^= 1 << int(random.integers(8))
            elif choice == 1:
                del data[at : at + int(random.integers(1, 9))]
            else:
                data[at:at] = random.bytes(int(random.integers(1, 9)))
        yield bytes(data)


def test_B01_mutants_have_one_verdict(pillow_alone: Any) -> None:
    for data in mutants(0, 400):
        assert same(verdict(data), pillow_alone(data)), data.hex()


@pytest.mark.prove
def test_B01_many_mutants_have_one_verdict(pillow_alone: Any) -> None:
    for data in mutants(1, 50_000):
        assert same(verdict(data), pillow_alone(data)), data.hex()
