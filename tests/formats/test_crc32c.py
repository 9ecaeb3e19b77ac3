"""CRC-32C against its definition and published values, and the exponents it rests on against plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.formats import crc32c as module
from vitrail.formats.crc32c import crc32c, masked

POLYNOMIAL = 0x11EDC6F41


def by_definition(data: bytes, crc: int = 0) -> int:
    register = crc ^ 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


# RFC 3720, appendix B.4, and the usual check value
@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_published_values(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc


def test_masked_as_leveldb_does() -> None:
    assert masked(crc32c(b"foo")) == ((crc32c(b"foo") >> 15 | crc32c(b"foo") << 17) + 0xA282EAD8) % (1 << 32)
    assert masked(0) == 0xA282EAD8


@pytest.mark.parametrize("offsets", [module._FAR, module._NEAR])
def test_words_may_be_folded_as_the_module_says(offsets: tuple[int, ...]) -> None:
    powers, power = [], 1
    for _ in range(offsets[-1] + 1):
        powers.append(power)
        for _ in range(64):
            power <<= 1
            power ^= POLYNOMIAL if power >> 32 else 0
    behind = 0
    for offset in offsets:
        behind ^= powers[offsets[-1] - offset]
    assert behind == powers[offsets[-1]]


NEAR, FAR = 8 * module._NEAR[-1], 8 * module._FAR[-1]
LENGTHS = [NEAR - 1, NEAR, NEAR + 1, NEAR + 9, NEAR + 8 * 65, FAR, FAR + 1, FAR + 8 * 4323, FAR + 8 * 9000 + 3]


@pytest.mark.parametrize("length", LENGTHS)
def test_every_way_through_gives_the_definition(length: int) -> None:
    data = np.random.Generator(np.random.PCG64(length)).bytes(length)
    assert crc32c(data) == by_definition(data)
    assert crc32c(memoryview(data)[1:], crc32c(data[:1])) == by_definition(data)


def test_segments_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.random.Generator(np.random.PCG64(1)).bytes(200_003)
    whole = crc32c(data)
    monkeypatch.setattr(module, "_SEGMENT", 777)
    assert crc32c(data) == whole == by_definition(data)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=4000), cut=st.integers(0, 4000))
def test_in_two_parts_as_in_one(data: bytes, cut: int) -> None:
    assert crc32c(data[cut:], crc32c(data[:cut])) == crc32c(data) == by_definition(data)
