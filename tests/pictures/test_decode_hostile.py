"""Pictures made to do harm: each gives pixels or a typed refusal, within its bounds and without a warning."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.pictures import hostile, work
from tests.pictures.costs import LARGEST
from tests.pictures.hostile import ENDINGS, GIF, HEAD, HOSTILE, IDAT, JPEG, PHOTO, PNG, SEEDS, saved, sized
from tests.pictures.mutants import READERS, attacked
from vitrail.errors import PictureError
from vitrail.pictures import decode as decoding
from vitrail.pictures.decode import decode
from vitrail.pictures.limits import MAX_PIXELS
from vitrail.pictures.policy import HALF, Policy

ENTRIES = ("bytes", "path")


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as escaped:
        warnings.simplefilter("always")
        yield
    assert [str(warning.message) for warning in escaped] == []


def refusal(picture: bytes | Path) -> PictureError | None:
    """The typed refusal of a picture; None when it gives pixels. Any other exception fails the test."""
    try:
        pixels = decode(picture)
    except PictureError as error:
        return error
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    return None


def verdict(picture: bytes | Path) -> str:
    """`ok`, or the code of the refusal; the refusal names the picture and a way out."""
    error = refusal(picture)
    if error is None:
        return "ok"
    assert (f"picture of {len(picture)} bytes" if isinstance(picture, bytes) else f"`{picture}`") in error.what
    assert error.hint
    return error.code


# ---------------------------------------------------------------- every item of the list


def test_B01_the_list_has_every_number() -> None:
    assert {int(name.split()[0]) for name in HOSTILE} == set(range(1, 16))  # 16 and 17 are no bytes: tests below


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("name", HOSTILE)
def test_B01_hostile_pictures_have_one_verdict(name: str, entry: str, tmp_path: Path) -> None:
    make, expected = HOSTILE[name]
    data = make()
    if entry == "bytes":
        assert verdict(data) == expected
        return
    for ending in ENDINGS:
        path = tmp_path / f"picture{ending}"
        path.write_bytes(data)
        assert verdict(path) == expected
        path.unlink()


@pytest.mark.parametrize("size", [(224, 224), (1, 1)])
def test_B01_a_picture_smaller_than_the_crop_is_prepared(size: tuple[int, int]) -> None:
    policy = Policy(size=size, crop=0.875, mean=HALF.mean, std=HALF.std)
    assert policy.pixels(HOSTILE["11 PNG of 2 x 2"][0]()).shape == (*size, 3)


def _shrink(path: Path) -> None:
    os.truncate(path, len(PNG) // 2)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more" * 1000)


def _replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(JPEG)
    other.replace(path)


def _remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("change", "expected"),
    [(_shrink, "V302"), (_empty, "V301"), (_grow, "ok"), (_replace, "ok"), (_remove, "ok")],
)
def test_B01_a_file_that_changes_while_it_is_opened(
    change: Callable[[Path], None], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the question for its size and the read: the bytes are those of one file, whole or refused."""
    path = tmp_path / "picture.png"
    path.write_bytes(PNG)
    fstat = os.fstat

    def late(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        if path.exists() and (status.st_ino, status.st_dev) == (path.stat().st_ino, path.stat().st_dev):
            change(path)
        return status

    monkeypatch.setattr(decoding.os, "fstat", late)
    assert verdict(path) == expected


@pytest.mark.parametrize("name", READERS)
def test_B01_mutants_give_pixels_or_a_typed_refusal(name: str, tmp_path: Path) -> None:
    """2,200 of them, 200 for each seed; at length in `tests/pictures/campaign.py`."""
    tally = attacked(name, 200, tmp_path)
    assert not tally.findings, tally.findings
    assert tally.mutants == 200
    assert tally.refused.total() > 20


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF\0\0\0\0WEBPVP8 "]),
    st.binary(max_size=300),
)
def test_B01_any_bytes_after_a_magic(magic: bytes, rest: bytes) -> None:
    assert verdict(magic + rest) in {"ok", "V302", "V303", "V305"}


# ---------------------------------------------------------------- memory, in a process of its own


@pytest.fixture(scope="module")
def costs() -> dict[str, dict[str, Any]]:
    """What every item took in a child: {name: {verdict, pixels, bytes, seconds}}."""
    done = subprocess.run([sys.executable, "-m", "tests.pictures.costs"], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def test_B01_every_item_stays_within_its_memory(costs: dict[str, dict[str, Any]]) -> None:
    assert costs.keys() == HOSTILE.keys()
    for name, cost in costs.items():
        assert cost["verdict"] == HOSTILE[name][1], name
        assert cost["bytes"] <= work.allowed(cost["pixels"]), (name, cost)


@pytest.mark.prove
@pytest.mark.parametrize("kind", LARGEST)
def test_B01_the_largest_pictures_stay_within_their_memory(kind: str) -> None:
    command = [sys.executable, "-m", "tests.pictures.costs", kind]
    cost = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert cost["verdict"] == "ok"
    assert cost["bytes"] <= work.allowed(cost["pixels"], LARGEST[kind][1], cost["file"]), cost


@pytest.mark.prove
@pytest.mark.parametrize("name", READERS)
def test_B01_mutants_at_length(name: str, tmp_path: Path) -> None:
    tally = attacked(name, READERS[name].full, tmp_path)
    assert not tally.findings, tally.findings
    assert tally.mutants == READERS[name].full


BEYOND = [name for name, (_, expected) in HOSTILE.items() if expected == "V303"]


@pytest.mark.parametrize("name", BEYOND)
def test_B02_what_is_beyond_a_limit_costs_nothing(name: str, costs: dict[str, dict[str, Any]]) -> None:
    assert costs[name]["bytes"] <= 8 << 20


# ---------------------------------------------------------------- the pixel limit


def test_B02_the_limit_can_be_lowered() -> None:
    assert decode(PNG, max_pixels=120 * 90).shape == (90, 120, 3)
    with pytest.raises(PictureError, match="120 x 90 pixels, the limit is 10799") as caught:
        decode(PNG, max_pixels=120 * 90 - 1)
    assert caught.value.code == "V303"


@pytest.mark.parametrize("form", work.SIZED)
def test_B02_the_pixel_limit_is_exact(form: str) -> None:
    draw = random.Random(form)
    for _ in range(20):
        _around_the_limit(form, draw)


@pytest.mark.prove
@pytest.mark.parametrize("form", work.SIZED)
def test_B02_a_thousand_sizes_around_the_limit(form: str) -> None:
    draw = random.Random(form)
    for _ in range(1000):
        _around_the_limit(form, draw)


def _around_the_limit(form: str, draw: random.Random) -> None:
    height, width = work.size_around(MAX_PIXELS, draw, most=work.SIZED[form])
    data = work.header(form, height, width)
    stated = decoding.header_of(data, "x")
    assert (stated.height, stated.width) == (height, width)
    if height * width > MAX_PIXELS:
        assert verdict(data) == "V303"
    else:
        decoding._check_size(stated.width, stated.height, "x", MAX_PIXELS)


@pytest.mark.parametrize("count", [0, 1])
def test_B02_a_jpeg_has_at_most_1000_pixels_a_byte(count: int) -> None:
    data = sized(JPEG, 4000, 2500)
    assert verdict(data + b"x" * (10_000 - len(data) - count)) == ("V303" if count else "V302")


# ---------------------------------------------------------------- named decoders only

WRITERS = [
    "AVIF", "DDS", "DIB", "EPS", "ICO", "JPEG2000", "MSP", "PALM", "PCX", "PDF", "PPM", "QOI", "SGI",
    "SPIDER", "TGA", "TIFF", "XBM",
]  # fmt: skip


@pytest.mark.parametrize("form", WRITERS)
def test_B03_what_pillow_writes_besides_is_refused_uncalled(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mode = {"MSP": "1", "XBM": "1", "PALM": "1", "SPIDER": "F"}.get(form, "RGB")
    Image.init()
    data = saved(PHOTO.convert(mode), form)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("Pillow was asked"))
    assert verdict(data) == "V301"


def test_B03_the_refusal_says_what_it_is_and_how_to_convert() -> None:
    for form, words in (("TIFF", "it is TIFF"), ("JPEG2000", "it is JPEG 2000"), ("PDF", "it is PDF")):
        error = refusal(saved(PHOTO, form))
        assert error is not None
        assert words in error.what
        assert "convert others first" in error.hint
    for brand, word in ((b"avif", "AVIF"), (b"heic", "HEIC"), (b"mp42", "a video")):
        error = refusal(b"\0\0\0\x18ftyp" + brand + b"\0" * 9)
        assert error is not None and word in error.what


def test_B03_no_other_plugin_is_ever_called(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    called = []

    def spy(form: str) -> Callable[..., Any]:
        def factory(*_: object) -> None:
            called.append(form)
            raise SyntaxError

        return factory

    allowed = {"JPEG", "PNG", "WEBP", "BMP", "GIF"}
    for form in set(Image.OPEN) - allowed:
        monkeypatch.setitem(Image.OPEN, form, (spy(form), None))
    for make, expected in HOSTILE.values():
        if expected in ("V301", "V302"):
            verdict(make())
    assert len(Image.OPEN) > 20
    assert called == []


# ---------------------------------------------------------------- cut pictures


def _cuts(data: bytes, lengths: Iterator[int] | range | list[int], entry: Callable[[bytes], bytes | Path]) -> int:
    """Each cut is refused, or bit-equal where only an end mark is missing: how many there were."""
    whole, count = decode(data), 0
    for length in lengths:
        count += 1
        picture = entry(data[:length])
        error = refusal(picture)
        if error is not None:
            assert error.code in ("V301", "V302", "V303"), (length, str(error))
        else:
            assert np.array_equal(decode(picture), whole), f"{length} of {len(data)} bytes"
            assert length >= len(data) - 4, "only an end mark may be missing"
    return count


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("name", work.FILES)
def test_B04_a_cut_picture_is_refused_or_whole(name: str, entry: str, tmp_path: Path) -> None:
    data = work.FILES[name]()
    step = max(len(data) // 16, 1)
    lengths = [*range(step, len(data), step), *range(max(len(data) - 12, 0), len(data))]
    assert _cuts(data, lengths, bytes if entry == "bytes" else lambda cut: _file(tmp_path, cut)) >= 16


def _file(folder: Path, data: bytes) -> Path:
    (folder / "cut").write_bytes(data)
    return folder / "cut"


@pytest.mark.prove
@pytest.mark.parametrize("name", work.FILES)
def test_B04_every_cut_of_twenty_files(name: str) -> None:
    data = work.FILES[name]()
    assert _cuts(data, range(len(data)), bytes) == len(data)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"restart_marker_rows": 2}, {"restart_marker_blocks": 7}])
def test_B04_a_cut_jpeg_that_was_given_an_end_is_refused(mode: str, options: dict[str, Any]) -> None:
    jpeg = saved(PHOTO.convert(mode), "JPEG", quality=90, **options)
    for cut in range(1, 16):
        assert verdict(jpeg[: len(jpeg) * cut // 16] + b"\xff\xd9") == "V302", cut


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_B04_true_grey_is_no_damage(options: dict[str, Any]) -> None:
    for value in range(124, 133):
        for size in ((1, 1), (8, 8), (33, 17), (120, 90)):
            for mode in ("RGB", "L", "CMYK"):
                flat = Image.new(mode, size, value if mode == "L" else (value,) * len(mode))
                assert verdict(saved(flat, "JPEG", **options)) == "ok"


# ---------------------------------------------------------------- chatter


TIFFS = [saved(PHOTO, "TIFF", compression=how) for how in ("raw", "tiff_lzw", "tiff_deflate", "jpeg")]


@pytest.mark.parametrize("number", range(200))
def test_B05_decoders_say_nothing_on_the_terminal(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    """A mutant of TIFF, of which Pillow's decoder prints, and one of what is allowed."""
    verdict(work.mutant(TIFFS[number % len(TIFFS)], number))
    verdict(work.mutant(SEEDS[number % len(SEEDS)], number))
    assert capfd.readouterr() == ("", "")


def test_B05_nor_of_any_hostile_picture(capfd: pytest.CaptureFixture[str]) -> None:
    for make, _ in HOSTILE.values():
        verdict(make())
    assert capfd.readouterr() == ("", "")


@pytest.mark.prove
def test_B05_decoders_say_nothing_at_length(capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(5000):
        verdict(work.mutant(TIFFS[number % len(TIFFS)], number))
        verdict(work.mutant(SEEDS[number % len(SEEDS)], number))
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------- work


@pytest.mark.parametrize("kind", work.WORK)
def test_B19_work_is_bounded_before_decoding(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each bound the header is read, one step beyond it is refused, and Pillow is never asked."""
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("Pillow was asked"))
    make, limit = work.WORK[kind]
    decoding.header_of(make(limit), "x")
    for more in (1, 2, limit):
        assert verdict(make(limit + more)) == "V303"


@pytest.mark.parametrize("number", range(20))
def test_B19_scans_times_pixels_are_bounded(number: int) -> None:
    work.check_scans(random.Random(number))


@pytest.mark.prove
def test_B19_a_thousand_pictures_of_many_scans() -> None:
    rng = random.Random(1919)
    assert sum(work.check_scans(rng) for _ in range(1000)) >= 100


@pytest.mark.parametrize("data", [pytest.param(GIF[:-1] + GIF[13:], id="gif"), pytest.param(HEAD + IDAT, id="png")])
def test_B19_of_several_frames_one_is_read(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    opened = Image.open

    def watched(file: io.BytesIO, **options: Any) -> Image.Image:
        image = opened(file, **options)
        monkeypatch.setattr(image, "seek", lambda frame: seen.append(frame))
        return image

    monkeypatch.setattr(Image, "open", watched)
    verdict(data)
    assert seen == []


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("rows", [0, 1, 8, 9, 89, 90])
def test_a_png_whose_coded_pixels_end_early_in_good_form_is_refused(rows: int, interlaced: int) -> None:
    """Pillow leaves the missing rows black and says nothing."""
    head = bytearray(HEAD)
    head[16:33] = struct.pack(">IIBBBBB", 120, 90, 8, 2, 0, 0, interlaced) + bytes(4)
    head[29:33] = struct.pack(">I", zlib.crc32(head[12:29]))
    passes = ((15, 12), (15, 12), (30, 11), (30, 23), (60, 22), (60, 45), (120, 45)) if interlaced else ((120, 90),)
    coded = b"".join(b"\0" + bytes([9] * 3 * across) for across, down in passes for _ in range(down))
    share = len(coded) * rows // 90
    file = bytes(head) + hostile.chunk(b"IDAT", zlib.compress(coded[:share])) + hostile.END
    if rows == 90:
        assert (decode(file) == 9).all()
        return
    with pytest.raises(PictureError) as caught:
        decode(file)
    assert caught.value.code == "V302"
