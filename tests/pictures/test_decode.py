"""The decoding rule, line by line, against Pillow's own answers and against plain arithmetic."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from tests.pictures.made import jpeg
from tests.pictures.made.draw import Draw
from tests.pictures.odd import GOLDEN, outcome, pictures
from vitrail.errors import PictureError
from vitrail.pictures import decode as decoding
from vitrail.pictures.decode import decode, from_array, from_pil, load

RNG = np.random.default_rng(0)
PHOTO = (np.add.outer(np.arange(40) * 3, np.arange(60) * 2)[:, :, None] + [0, 40, 90]).clip(0, 255).astype(np.uint8)
NOISE = RNG.integers(0, 256, (40, 60, 3), np.uint8)


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def exif(value: int, *, kind: int = 3, count: int = 1, order: str = "<", start: int = 8) -> bytes:
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(f"{order}IHHHIHHI", start, 1, 0x0112, kind, count, value, 0, 0)


def code(picture: Any) -> str:
    with pytest.raises(PictureError) as caught:
        load(picture)
    return caught.value.code


# ---------------------------------------------------------------- formats and modes


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_give_the_stored_pixels(form: str, options: dict[str, Any]) -> None:
    assert np.array_equal(decode(saved(Image.fromarray(NOISE), form, **options)), NOISE)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
def test_jpeg_is_decoded_as_pillow_does(mode: str, options: dict[str, Any]) -> None:
    data = saved(Image.fromarray(PHOTO).convert(mode), "JPEG", **options)
    assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_gif_gives_its_first_frame() -> None:
    frames = [Image.fromarray(NOISE).quantize(64), Image.new("P", (60, 40), 3)]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_the_content_counts_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(saved(Image.fromarray(NOISE), "PNG"))
    assert np.array_equal(decode(path), NOISE)
    assert np.array_equal(decode(str(path)), NOISE)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_shallow_grey_is_spread_to_0_to_255(depth: int) -> None:
    data = png(8 // depth, 1, depth, 0, b"\0" + bytes([0b11100100]))
    values = np.unpackbits(np.array([0b11100100], np.uint8)).reshape(-1, depth) @ (1 << np.arange(depth)[::-1])
    expected = values * 255 // (2**depth - 1)
    assert decode(data, channels=1)[0, :, 0].tolist() == expected.tolist()


@pytest.mark.parametrize("colour", [0, 2, 4, 6])
def test_B06_of_16_bits_the_high_byte_is_kept(colour: int) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    deep = RNG.integers(0, 65536, (5, 7, channels), np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    high = (deep >> 8).astype(np.uint8)
    expected = high[:, :, :3] if channels >= 3 else np.repeat(high[:, :, :1], 3, axis=2)
    assert np.array_equal(decode(png(7, 5, 16, colour, rows)), expected)


def test_16_bit_grey_that_pillow_itself_would_clip() -> None:
    data = png(2, 1, 16, 0, b"\0\x01\x00\xff\xff")
    assert decode(data, channels=1).ravel().tolist() == [1, 255]


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_alpha_is_dropped_and_colours_stay(form: str) -> None:
    rgba = np.dstack([NOISE, RNG.integers(1, 256, (40, 60), np.uint8)])
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    assert np.array_equal(decode(saved(Image.fromarray(rgba), form, **options)), NOISE)


def test_palette_with_transparency_gives_its_colours() -> None:
    image = Image.fromarray(NOISE).quantize(16)
    plain = np.asarray(image.convert("RGB"))
    for transparency in (3, bytes([0, 128, 255, 7])):
        data = saved(image, "PNG", transparency=transparency)
        assert np.array_equal(decode(data), plain)
        assert np.array_equal(from_pil(Image.open(io.BytesIO(data))), plain)
    assert np.array_equal(from_pil(image.convert("PA")), plain)


def test_grey_with_alpha_and_bilevel() -> None:
    grey = Image.fromarray(NOISE).convert("L")
    assert np.array_equal(decode(saved(grey.convert("LA"), "PNG"), channels=1)[:, :, 0], np.asarray(grey))
    bits = grey.point(lambda value: 255 * (value > 127)).convert("1")
    assert np.array_equal(decode(saved(bits, "PNG"), channels=1)[:, :, 0], np.asarray(bits) * np.uint8(255))


def test_colour_to_grey_is_pillows_l_and_grey_to_colour_repeats() -> None:
    every = np.stack(np.meshgrid(*[np.arange(0, 256, 5, dtype=np.uint8)] * 3), axis=-1).reshape(52, -1, 3)
    assert np.array_equal(from_array(every, 1)[:, :, 0], np.asarray(Image.fromarray(every).convert("L")))
    grey = NOISE[:, :, :1]
    assert np.array_equal(from_array(grey), np.dstack([grey] * 3))
    assert np.array_equal(from_array(grey[:, :, 0]), np.dstack([grey] * 3))


def test_the_result_is_contiguous_writable_and_own() -> None:
    for picture in (saved(Image.fromarray(NOISE), "PNG"), Image.fromarray(NOISE)):
        pixels = load(picture)
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable
    with_exif = saved(Image.fromarray(NOISE), "PNG", exif=exif(6))
    assert decode(with_exif).flags.c_contiguous


@pytest.mark.parametrize("mode", ["F", "I", "HSV", "LAB", "RGBa", "La"])
def test_kinds_without_a_rule_are_refused(mode: str) -> None:
    image = Image.new(mode, (4, 4))
    assert code(image) == "V305"


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.int32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
)
def test_arrays_without_a_rule_are_refused(array: NDArray[Any]) -> None:
    assert code(array) == "V305"


# ---------------------------------------------------------------- orientation


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_B06_exif_orientation(value: int, order: str, form: str) -> None:
    head = b"Exif\0\0" if form == "JPEG" else b""
    data = saved(Image.fromarray(PHOTO), form, exif=head + exif(value, order=order))
    image = Image.open(io.BytesIO(data))
    expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert expected.shape == ((60, 40, 3) if value >= 5 else (40, 60, 3))
    assert np.array_equal(decode(data), expected)
    assert np.array_equal(from_pil(Image.open(io.BytesIO(data))), expected)


@pytest.mark.parametrize(
    "block",
    [
        exif(0), exif(9), exif(6, kind=2), exif(6, count=2), exif(6, start=0), exif(6, start=2**31), exif(6, start=2),
        exif(6)[:12], exif(6)[:4], b"", b"MM*\0" + exif(6)[4:], b"\0" * 100,
        b"II*\0" + struct.pack("<IH", 8, 65535) + b"\0" * 50,
    ],
)  # fmt: skip
def test_broken_exif_counts_as_1(block: bytes) -> None:
    body = b"Exif\0\0" + block
    plain = saved(Image.fromarray(PHOTO), "JPEG")
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(decode(data), decode(plain))


def test_xmp_and_profiles_move_nothing() -> None:
    plain = saved(Image.fromarray(NOISE), "PNG")
    xmp = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b'<x tiff:Orientation="6"/>')
    bad_profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(b"no profile at all"))
    assert np.array_equal(decode(plain[:33] + xmp + bad_profile + plain[33:]), NOISE)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_profile_moves_no_pixel(form: str) -> None:
    """One that is right and far from sRGB: its curve and its primaries are ignored."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    plain, with_profile = (saved(Image.fromarray(PHOTO), form, icc_profile=block) for block in (None, profile))
    assert len(with_profile) > len(plain) + 100
    assert np.array_equal(decode(with_profile), decode(plain))


def test_gamma_moves_no_pixel() -> None:
    plain = saved(Image.fromarray(NOISE), "PNG")
    gamma = chunk(b"gAMA", struct.pack(">I", 100_000)) + chunk(b"cHRM", struct.pack(">8I", *range(1, 9)))
    assert np.array_equal(decode(plain[:33] + gamma + plain[33:]), NOISE)


@pytest.mark.parametrize("colour", ["cmyk", "ycck"])
def test_four_components_become_rgb_by_pillows_formula(colour: str) -> None:
    data = jpeg.encode(Draw(colour), 33, 47, jpeg.Jpeg(colour, "4:4:4", "baseline", 0, 0))
    image = Image.open(io.BytesIO(data))
    ink = 255 - np.asarray(image).astype(int)  # of C, M, Y, K, in Pillow's sense
    assert image.mode == "CMYK"
    product = ink[:, :, :3] * ink[:, :, 3:] + 128
    assert np.array_equal(decode(data), (product + (product >> 8) >> 8).astype(np.uint8))


# ---------------------------------------------------------------- opening


def test_B01_what_is_no_regular_file_is_named_and_nothing_hangs(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
        for name in ("folder.jpg", "fifo.png", "loop.png", "socket", "absent.jpg", "a\0b.png"):
            with pytest.raises(PictureError) as caught:
                decode(tmp_path / name)
            assert caught.value.code == "V304"
            assert name.replace("\0", "\\x00") in caught.value.what
    assert code("/dev/zero") == "V304"


def test_an_unreadable_file_is_named() -> None:
    """Root may read everything, and is nobody for as long."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "secret.png"
        path.write_bytes(saved(Image.fromarray(NOISE), "PNG"))
        Path(place).chmod(0o755)
        path.chmod(0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            assert code(path) == "V304"
        finally:
            os.seteuid(user)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(300 << 20)
    assert code(path) == "V303"


def test_bytes_beyond_the_limit_are_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(Image.fromarray(NOISE), "PNG")
    monkeypatch.setattr(decoding, "MAX_BYTES", len(data))
    assert np.array_equal(decode(data), NOISE)
    assert code(data + b"x") == "V303"


def test_a_file_name_forges_no_line(tmp_path: Path) -> None:
    path = tmp_path / "a\nerror[V000]: forged\x1b[31m.png"
    path.write_bytes(b"")
    with pytest.raises(PictureError) as caught:
        decode(path)
    assert "\n" not in caught.value.what
    assert "\x1b" not in str(caught.value)


# ---------------------------------------------------------------- Pillow is left as it was


def test_B02_pillows_globals_are_never_touched_and_only_five_plugins_are_loaded() -> None:
    script = """
import io, sys, PIL.Image, PIL.ImageFile
import vitrail.pictures.decode as d
PIL.Image.new("RGB", (3, 3)).save(f := io.BytesIO(), "PNG")
d.decode(f.getvalue())
assert PIL.Image.MAX_IMAGE_PIXELS == 89478485 and not PIL.ImageFile.LOAD_TRUNCATED_IMAGES
assert "torch" not in sys.modules
PIL.Image.new("RGB", (3, 3)).save(f := io.BytesIO(), "WEBP")
d.decode(f.getvalue())
plugins = {m.removeprefix("PIL.").removesuffix("ImagePlugin") for m in sys.modules if m.endswith("ImagePlugin")}
print(sorted(plugins))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["['Bmp',", "'Gif',", "'Jpeg',", "'Png',", "'Ppm',", "'WebP']"]  # Ppm: by Pillow


# ---------------------------------------------------------------- real pictures, odd ones


@pytest.fixture(scope="module")
def odd(shared: Path) -> dict[str, bytes]:
    return pictures(shared)


def test_B06_golden_pixels_and_tensors_of_odd_pictures(odd: dict[str, bytes]) -> None:
    golden = json.loads(GOLDEN.read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {name: outcome(data) for name, data in odd.items()} == golden


def test_odd_pictures_are_what_pillow_makes_of_them(odd: dict[str, bytes]) -> None:
    by_metadata = {"pillow/exif_imagemagick_orientation.png", "pillow/xmp_tags_orientation.png"}  # not EXIF: not read
    compared = 0
    for name, data in odd.items():
        if outcome(data).startswith("V") or name in by_metadata:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
            if image.mode == "I;16":
                expected = np.dstack([(np.asarray(image) >> 8).astype(np.uint8)] * 3)
            else:
                expected = np.asarray(image.convert("RGB"))
        assert np.array_equal(decode(data), expected), name
        compared += 1
    assert compared >= 74
