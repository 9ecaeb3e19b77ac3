"""CRC-32C (Castagnoli), the checksum of TensorFlow's files, at the speed of memory without compiled code.

The remainder of a long message modulo P is that of a shorter one, once its head is folded onto what follows: where
y = x^64 and y^c = y^b + y^a + 1 modulo P, a word of 64 bits may be added to the words c - b, c - a and c behind it
and be forgotten.  Only whole words move, so NumPy adds thousands of them at once.  (The idea is that of Chorba,
Russell 2024.)  The exponents were found by search; `tests/formats/test_crc32c.py` proves them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78  # reflected
_FAR = (4323, 5259, 5685)  # words ahead; the first is how many are folded at once, the last how many remain
_NEAR = (65, 155, 170, 195, 209)
_SEGMENT = 1 << 20  # words copied at a time
_MASK = 0xA282EAD8


def _table() -> tuple[int, ...]:
    rows = list(range(256))
    for _ in range(8):
        rows = [row >> 1 ^ (_POLYNOMIAL if row & 1 else 0) for row in rows]
    return tuple(rows)


_TABLE = _table()


def crc32c(data: bytes | memoryview, crc: int = 0) -> int:
    """The checksum of `data`; crc: that of the bytes before it.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    register = crc ^ 0xFFFFFFFF
    whole = len(data) // 8 * 8 if len(data) > 8 * _NEAR[-1] else 0
    if whole:
        rest = _short(memoryview(data)[:whole], register) + bytes(data[whole:])
        register = 0
    else:
        rest = bytes(data)
    for byte in rest:
        register = _TABLE[(register ^ byte) & 255] ^ register >> 8
    return register ^ 0xFFFFFFFF


def masked(crc: int) -> int:
    """As TensorFlow and LevelDB store it: a checksum behind its own data would tell nothing of the two together."""
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def _short(data: memoryview, register: int) -> bytes:
    """A message of at most 209 words whose remainder from register 0 is that of `data` from `register`."""
    words = np.frombuffer(data, "<u8")
    kept = np.zeros(0, "<u8")
    for at in range(0, len(words), _SEGMENT):
        work = np.concatenate([kept, words[at : at + _SEGMENT]])
        if at == 0:
            work[0] ^= np.uint64(register)
        kept = _fold(work, _FAR)
    return _fold(kept, _NEAR).tobytes()


def _fold(words: NDArray[np.uint64], ahead: tuple[int, ...]) -> NDArray[np.uint64]:
    at, end = 0, len(words) - ahead[-1]
    while at < end:
        count = min(ahead[0], end - at)
        for offset in ahead:
            words[at + offset : at + offset + count] ^= words[at : at + count]
        at += count
    return words[at:]
