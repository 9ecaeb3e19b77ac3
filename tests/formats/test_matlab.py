"""MATLAB's level 5 files: equal to SciPy's reading and writing, bounded, and refused when damaged."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from vitrail.errors import DataError
from vitrail.formats.matlab import read


def element(kind: int, content: bytes, *, pad: bool = True) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8 if pad else 0)


def array(
    name: str, values: np.ndarray, *, kind: int = 6, stored: int = 9, flags: int = 0, sizes: list[int] | None = None
) -> bytes:
    """One array as an element: class `kind`, numbers of type `stored`."""
    shape = list(values.shape) if sizes is None else sizes
    return element(
        14,
        element(6, struct.pack("<II", kind | flags, 0))
        + element(5, np.array(shape, "<i4").tobytes())
        + element(1, name.encode("latin-1"))
        + element(stored, values.tobytes(order="F")),
    )


def matlab(*elements: bytes) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(116) + bytes(8) + struct.pack("<H", 0x0100) + b"IM" + b"".join(elements)


def packed(plain: bytes) -> bytes:
    return element(15, zlib.compress(plain), pad=False)


ONE = array("labels", np.arange(6.0)[None])


def test_a_row_of_numbers() -> None:
    assert read(matlab(ONE), "x")["labels"].tolist() == [[0, 1, 2, 3, 4, 5]]
    small = array("labels", np.arange(6, dtype="<u1").reshape(2, 3), kind=6, stored=2)
    found = read(matlab(packed(small), packed(array("b", np.zeros((1, 2))))), "x")
    assert found["labels"].dtype == np.float64 and found["labels"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "f4", "f8", "i8"])
def test_what_scipy_writes(kind: str, compressed: bool) -> None:
    random = np.random.default_rng(0)
    arrays = {
        name: random.integers(0, 100, shape).astype(kind) for name, shape in {"a": (1, 8189), "b": (7, 3)}.items()
    }
    stream = io.BytesIO()
    scipy.io.savemat(stream, arrays, do_compression=compressed)
    found = read(stream.getvalue(), "x")
    theirs = scipy.io.loadmat(io.BytesIO(stream.getvalue()))
    for name, values in arrays.items():
        assert (found[name] == values).all() and (found[name] == theirs[name]).all()


REFUSED = {
    "empty": b"",
    "no level 5": b"x" * 200,
    "cut in a tag": matlab(ONE)[:132],
    "cut in the numbers": matlab(ONE)[:-8],
    "element beyond the end": matlab(struct.pack("<II", 14, 1 << 31)),
    "a cell": matlab(array("a", np.zeros((1, 1)), kind=1)),
    "a text": matlab(array("a", np.zeros((1, 1)), kind=4)),
    "an object": matlab(array("a", np.zeros((1, 1)), kind=3)),
    "complex": matlab(array("a", np.zeros((1, 1)), flags=0x0800)),
    "too few numbers": matlab(array("a", np.zeros((1, 2)), sizes=[1, 3])),
    "negative size": matlab(array("a", np.zeros((1, 1)), sizes=[-1, -1])),
    "sizes that overflow": matlab(array("a", np.zeros((1, 1)), sizes=[1 << 30] * 4)),
    "one size": matlab(array("a", np.zeros((1,)), sizes=[1])),
    "twice": matlab(ONE, ONE),
    "a name that is none": matlab(array("../x", np.zeros((1, 1)))),
    "type unknown": matlab(array("a", np.zeros((1, 1)), stored=99)),
    "no array": matlab(element(9, bytes(8))),
    "a compressed bomb": matlab(packed(bytes(80 << 20))),
    "broken deflate": matlab(element(15, b"x" * 40, pad=False)),
    "deflate that ends early": matlab(element(15, zlib.compress(ONE)[:-6], pad=False)),
    "two in one": matlab(packed(ONE + ONE)),
    "small element of 9 bytes": matlab(struct.pack("<I", 14 | 9 << 16) + bytes(4)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(DataError) as caught:
        read(REFUSED[name], "x.mat")
    assert caught.value.code == "V404" and "x.mat" in caught.value.what


def test_mutants_are_read_or_refused() -> None:
    random = np.random.default_rng(1)
    good = np.frombuffer(matlab(ONE, packed(array("b", np.arange(9.0)[None]))), np.uint8)
    for _ in range(2000):
        bad = good.copy()
        bad[random.integers(128, len(bad), 3)] = random.integers(0, 256, 3)
        data = bad.tobytes()[: random.integers(100, len(bad) + 1)]
        try:
            read(data, "x.mat")
        except DataError as error:
            assert error.code == "V404"
