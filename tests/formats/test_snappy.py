"""Snappy's raw format: elements written by hand after its description, and what must be refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hostile.tensorflow_files import number
from vitrail.formats.snappy import decompress


def literal(data: bytes, extra: int = 0) -> bytes:
    if not extra:
        return bytes([(len(data) - 1) << 2]) + data
    return bytes([(59 + extra) << 2]) + (len(data) - 1).to_bytes(extra, "little") + data


def near(length: int, back: int) -> bytes:
    return bytes([(back >> 8) << 5 | (length - 4) << 2 | 1, back & 255])


def far(length: int, back: int, size: int = 2) -> bytes:
    return bytes([(length - 1) << 2 | (2 if size == 2 else 3)]) + back.to_bytes(size, "little")


GOOD = {
    "nothing": (b"\0", b""),
    "literal": (b"\3" + literal(b"abc"), b"abc"),
    "literal of 60": (b"\x3c" + literal(bytes(60)), bytes(60)),
    "literal, 1 byte of length": (number(61) + literal(bytes(61), 1), bytes(61)),
    "literal, 2 bytes of length": (number(300) + literal(b"ab" * 150, 2), b"ab" * 150),
    "literal, 4 bytes of length": (number(300) + literal(b"ab" * 150, 4), b"ab" * 150),
    "near copy": (b"\7" + literal(b"abc") + near(4, 3), b"abcabca"),
    "run": (b"\x0c" + literal(b"a") + near(11, 1), b"a" * 12),
    "far copy": (number(400) + literal(bytes(range(200)), 1) + far(64, 200) * 3 + far(8, 200), None),
    "farthest copy": (b"\6" + literal(b"abc") + far(3, 2, 4), b"abcbcb"),
    "near copy from 1000 back": (number(1008) + literal(b"12345678" + bytes(996), 2) + near(4, 1000), None),
}


@pytest.mark.parametrize("name", GOOD)
def test_elements(name: str) -> None:
    data, plain = GOOD[name]
    found = decompress(data, 1 << 20)
    if plain is not None:
        assert found == plain
    elif name == "far copy":
        assert found == (bytes(range(200)) * 2)
    else:
        assert found[1004:] == b"5678"


BAD = {
    "empty": b"",
    "length without an end": b"\xff" * 11,
    "length above the limit": number(1 << 21),
    "length 2^63": number(1 << 63),
    "too short": b"\4" + literal(b"abc"),
    "too long": b"\2" + literal(b"abc"),
    "literal cut": b"\3" + literal(b"abc")[:-1],
    "length of a literal cut": b"\3" + bytes([61 << 2, 1]),
    "copy cut": b"\7" + literal(b"abc") + far(4, 3)[:-1],
    "copy from 0 back": b"\7" + literal(b"abc") + near(4, 0),
    "copy from before the start": b"\7" + literal(b"abc") + near(4, 4),
    "copy first": b"\4" + near(4, 1),
    "bytes after the end": b"\3" + literal(b"abc") + literal(b"d"),
}


@pytest.mark.parametrize("name", BAD)
def test_C05_damage_is_said_in_words(name: str) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        decompress(BAD[name], 1 << 20)


@given(pieces=st.lists(st.binary(min_size=1, max_size=60) | st.tuples(st.integers(4, 11), st.integers(1, 200))))
def test_any_row_of_elements(pieces: list[bytes | tuple[int, int]]) -> None:
    plain, packed = bytearray(), b""
    for piece in pieces:
        if isinstance(piece, bytes):
            plain += piece
            packed += literal(piece)
        elif piece[1] <= len(plain):
            for _ in range(piece[0]):
                plain.append(plain[-piece[1]])
            packed += near(*piece)
    assert decompress(number(len(plain)) + packed, 1 << 20) == plain
