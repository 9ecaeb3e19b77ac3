"""Checkpoints that MindSpore saved with `enc_key`: blocks of AES, back to back, decrypted with the user's key.

    d8 5e 3a 7f | 16 bytes tag | rest | 16 | 16 bytes iv | length | cipher text      AES-GCM, the tag holds it together
    d9 5e 3a 7f |                rest | 16 | 16 bytes iv | length | cipher text      AES-CBC with PKCS#7 padding

rest, 16 and length are little-endian 32-bit numbers; rest counts what follows it.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.errors import SystemFault, UsageError
from vitrail.formats.bounds import damaged, hostile
from vitrail.formats.held import Held

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = (512 << 20) + 16  # bytes of cipher text; MindSpore 1.5 packs 512 MiB into one, 2.x packs 64
GCM, CBC = b"\xd8\x5e\x3a\x7f", b"\xd9\x5e\x3a\x7f"
_CIPHERS = {GCM: "AES-GCM", CBC: "AES-CBC"}
_KEYS = (16, 24, 32)
_WRONG = "check the key; it is the enc_key that the file was saved with"


class Plain:
    """The decrypted bytes of a held file, read like the file itself."""

    def __init__(self, path: Path, data: bytearray) -> None:
        self.path = path
        self.size = len(data)
        self._data = memoryview(data).toreadonly()

    def read(self, offset: int, length: int) -> memoryview:
        """`length` bytes from `offset`, which lie inside."""
        assert 0 <= offset <= offset + length <= self.size, (offset, length, self.size)
        return self._data[offset : offset + length]


def cipher(file: Held) -> str | None:
    """`AES-GCM` or `AES-CBC` for an encrypted checkpoint, None for any other file."""
    return _CIPHERS.get(bytes(file.read(0, min(file.size, 4))))


def decrypted(file: Held, key: bytes) -> Plain:
    """The plain bytes of an encrypted checkpoint.

    UsageError V003 without the package `cryptography`, V007 for a key of another length than 16, 24 or 32 bytes;
    WeightsError V201 for another key or damaged bytes, V202 for a block beyond the limit.
    """
    if len(key) not in _KEYS:
        raise UsageError("V007", f"a key of {len(key)} bytes", hint="AES keys have 16, 24 or 32 bytes")
    try:
        import cryptography.hazmat.primitives.ciphers  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "V003",
            "an encrypted checkpoint needs cryptography, which is not installed",
            hint='pip install "vitrail[mindspore]"',
        ) from error
    plain = bytearray()
    try:
        for magic, tag, iv, text in _blocks(file):
            plain += _gcm(file, key, tag, iv, text) if magic == GCM else _cbc(file, key, iv, text)
    except MemoryError as error:
        raise SystemFault(
            "V703", f"`{file.path}`: its {file.size} bytes do not fit into memory", hint="close other programs"
        ) from error
    return Plain(file.path, plain)


def _blocks(file: Held) -> Iterator[tuple[bytes, bytes, bytes, memoryview]]:
    """(magic, tag, iv, cipher text) of each block; every length must agree with the others and with the file."""
    at, first = 0, bytes(file.read(0, 4))
    while at < file.size:
        magic = bytes(file.read(at, 4))
        if magic != first:
            raise damaged(file.path, f"no block of {_CIPHERS[first]} begins at byte {at}")
        tag = bytes(file.read(at + 4, 16 if magic == GCM else 0))
        at += 4 + len(tag)
        rest, size, iv, length = struct.unpack("<ii16si", file.read(at, 28))
        if size != 16 or length <= 0 or rest != length + 24:
            raise damaged(file.path, f"the lengths of the block at byte {at} contradict each other")
        if length > BLOCK:
            raise hostile(file.path, f"a block of {length} bytes, the limit is {BLOCK}")
        yield magic, tag, iv, file.read(at + 28, length)
        at += 28 + length


def _gcm(file: Held, key: bytes, tag: bytes, iv: bytes, text: memoryview) -> bytes:
    from cryptography.exceptions import InvalidTag  # type: ignore[import-not-found, unused-ignore]
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    # MindSpore stores 16 bytes and uses the first 12.
    decryptor = Cipher(algorithms.AES(key), modes.GCM(iv[:12], tag)).decryptor()
    try:
        return bytes(decryptor.update(text) + decryptor.finalize())
    except InvalidTag:
        raise damaged(file.path, "the key does not fit, or the bytes were changed", hint=_WRONG) from None


def _cbc(file: Held, key: bytes, iv: bytes, text: memoryview) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    if len(text) % 16:
        raise damaged(file.path, f"a block of {len(text)} bytes, no multiple of 16")
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    plain = bytes(decryptor.update(text) + decryptor.finalize())
    padding = plain[-1]
    if not 1 <= padding <= 16 or plain[-padding:] != bytes([padding]) * padding:
        raise damaged(file.path, "the key does not fit, or the bytes were changed", hint=_WRONG)
    return plain[:-padding]


__all__ = ["Plain", "cipher", "decrypted"]
