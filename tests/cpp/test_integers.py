"""E08: sizes at the edges of integers are refused by a code, never computed with."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bundle import tiny
from tests.cpp.asking import Fault, Options, Shape, ask, model
from tests.pictures.hostile import END, IDAT, ihdr
from vitrail.errors import PictureError
from vitrail.pictures.decode import decode

SIDES = (0, 1, 65500, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
COUNTS = (0, 65537, 2**31 - 1, 2**31, 2**32, 2**61, 2**62, 2**63, 2**64 - 1)
NUMBERS = (-1, -(2**31), 2**31 - 1, 2**16 + 1)


@pytest.fixture(scope="module")
def opened(library: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ctypes.c_void_p]:
    folder = tiny.bundle(tmp_path_factory.mktemp("b"))
    with model(library, folder, "openvino") as found:
        yield found


@pytest.mark.parametrize("height", SIDES)
@pytest.mark.parametrize("width", SIDES)
def test_E08_a_picture_that_says_it_has_such_sides(built: Path, tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(ihdr(width, height) + IDAT + END)
    try:
        expected = "x".join(map(str, decode(path).shape[:2]))
    except PictureError as refused:
        expected = refused.code
    (answer,) = ask(built / "vitrail-parts", [f"decode 3 {path}"])
    assert expected == ("1x1" if width == height == 1 else answer.split()[0])
    assert answer.startswith("1 1 " if width == height == 1 else "V")


@pytest.mark.parametrize("count", COUNTS)
def test_E08_so_many_pictures(library: Any, opened: ctypes.c_void_p, count: int) -> None:
    fault, few = Fault(), (ctypes.c_float * 5)()
    logits = ctypes.c_size_t(5 * count)  # as a caller would multiply, past the end of the type
    assert library.vitrail_logits(opened, few, ctypes.c_size_t(count), few, logits, ctypes.byref(fault)) == 2
    assert fault.code == b"V007"


@pytest.mark.parametrize("size", [2**28 + 1, 2**31, 2**32, 2**63, 2**64 - 1])
def test_E08_so_many_bytes(library: Any, opened: ctypes.c_void_p, size: int) -> None:
    fault, out = Fault(), (ctypes.c_float * 5)()
    given = b"\xff\xd8\xff\xe0", ctypes.c_size_t(size)
    assert library.vitrail_classify_bytes(opened, *given, out, 5, ctypes.byref(fault)) == 2
    assert fault.code == b"V303"


@pytest.mark.parametrize("side", [0, *NUMBERS])
@pytest.mark.parametrize("place", range(3))
def test_E08_pixels_of_such_a_shape(library: Any, opened: ctypes.c_void_p, side: int, place: int) -> None:
    fault, out = Fault(), (ctypes.c_float * 5)()
    shape = [3, 2**15, 2**15]
    shape[place] = side
    pixels = ctypes.create_string_buffer(1)
    assert library.vitrail_classify_pixels(opened, pixels, Shape(*shape), out, 5, ctypes.byref(fault)) == 2
    assert fault.code in (b"V303", b"V305")


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", ["threads", "batch", "trust"])
def test_E08_options_of_such_numbers(library: Any, tmp_path: Path, name: str, number: int) -> None:
    options, fault, none = Options(None, None, 1, 0, 0), Fault(), ctypes.c_void_p()
    setattr(options, name, number)
    folder = str(tiny.bundle(tmp_path / "b")).encode()
    assert library.vitrail_open(folder, ctypes.byref(options), ctypes.byref(none), ctypes.byref(fault)) == 2
    assert fault.code == b"V007" and not none
