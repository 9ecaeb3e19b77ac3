"""Encrypted checkpoints: refused by name without the key, read with it, refused with another one."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from vitrail.errors import SystemFault, UsageError, WeightsError
from vitrail.formats import mindspore, mindspore_encrypted
from vitrail.formats.held import hold
from vitrail.formats.stored import Stored

KEY = bytes(range(16))
TENSORS = {"weight": Stored("F32", (2, 3), bytes(range(24))), "bias": Stored("U8", (3,), b"abc")}


def block(magic: bytes, tag: bytes, iv: bytes, text: bytes) -> bytes:
    inner = struct.pack("<i", len(iv)) + iv + struct.pack("<i", len(text)) + text
    return magic + tag + struct.pack("<i", len(inner)) + inner


def encrypted(folder: Path, mode: str, key: bytes = KEY, size: int = 40) -> Path:
    """As MindSpore does it, in blocks of `size` plain bytes."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    mindspore.write(folder / "plain.ckpt", TENSORS)
    plain, target = (folder / "plain.ckpt").read_bytes(), b""
    for number, at in enumerate(range(0, len(plain), size)):
        part, iv = plain[at : at + size], bytes([number + 1]) * 16
        if mode == "GCM":
            encryptor = Cipher(algorithms.AES(key), modes.GCM(iv[:12])).encryptor()
            text = encryptor.update(part) + encryptor.finalize()
            target += block(mindspore_encrypted.GCM, encryptor.tag, iv, text)
        else:
            padding = 16 - len(part) % 16
            encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
            text = encryptor.update(part + bytes([padding]) * padding) + encryptor.finalize()
            target += block(mindspore_encrypted.CBC, b"", iv, text)
    (folder / "w.ckpt").write_bytes(target)
    return folder / "w.ckpt"


@pytest.mark.parametrize("mode", ["GCM", "CBC"])
@pytest.mark.parametrize("key", [KEY, KEY + bytes(8), KEY + bytes(16)])
def test_C05_read_with_its_key(mode: str, key: bytes, tmp_path: Path) -> None:
    path = encrypted(tmp_path, mode, key)
    assert mindspore.read(path, key=key) == (TENSORS, [])
    with hold(path) as file:
        assert mindspore.recognised(file)


@pytest.mark.parametrize("mode", ["GCM", "CBC"])
def test_C05_another_key_or_changed_bytes_are_told(mode: str, tmp_path: Path) -> None:
    path = encrypted(tmp_path, mode)
    with pytest.raises(WeightsError, match="key does not fit") as caught:
        mindspore.read(path, key=bytes(16))
    assert caught.value.code == "V201"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        mindspore.read(path, key=KEY)
    assert caught.value.code == "V201"


@pytest.mark.parametrize("mode", ["GCM", "CBC"])
def test_C05_lengths_that_lie_are_refused(mode: str, tmp_path: Path) -> None:
    good = encrypted(tmp_path, mode).read_bytes()
    rest = 20 if mode == "GCM" else 4
    for at, value in ((rest, 0), (rest, 1 << 30), (rest + 4, 12), (rest + 4, -16), (rest + 24, 0), (rest + 24, -1)):
        (tmp_path / "x").write_bytes(good[:at] + struct.pack("<i", value) + good[at + 4 :])
        with pytest.raises(WeightsError, match="contradict"):
            mindspore.read(tmp_path / "x", key=KEY)
    for length, code in ((1 << 30, "V202"), (23, "V201")):
        text = struct.pack("<ii16si", length + 24, 16, bytes(16), length) + bytes(23)
        (tmp_path / "x").write_bytes(good[:rest] + text)
        with pytest.raises(WeightsError) as caught:
            mindspore.read(tmp_path / "x", key=KEY)
        assert caught.value.code == code
    for data in (good[:3], good[: rest + 3], good[:-1], good + b"\0", good + good[:4], good + b"\1\2\3\4" * 9):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(WeightsError):
            mindspore.read(tmp_path / "x", key=KEY)


@pytest.mark.parametrize(("magic", "name"), [("d85e3a7f", "AES-GCM"), ("d95e3a7f", "AES-CBC")])
def test_C05_without_the_key_it_is_named(magic: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "w.ckpt").write_bytes(bytes.fromhex(magic) + bytes(80))
    with pytest.raises(WeightsError, match=name) as caught:
        mindspore.read(tmp_path / "w.ckpt")
    assert caught.value.code == "V206"
    assert "key" in caught.value.hint


def test_a_key_of_no_length_that_aes_has(tmp_path: Path) -> None:
    (tmp_path / "w.ckpt").write_bytes(mindspore_encrypted.GCM + bytes(80))
    with pytest.raises(UsageError, match="15 bytes"):
        mindspore.read(tmp_path / "w.ckpt", key=KEY[:15])


def test_memory_that_does_not_suffice_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(mindspore_encrypted, "_gcm", full)
    with pytest.raises(SystemFault) as caught:
        mindspore.read(encrypted(tmp_path, "GCM"), key=KEY)
    assert caught.value.code == "V703"


def test_the_absent_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    (tmp_path / "w.ckpt").write_bytes(mindspore_encrypted.GCM + bytes(80))
    with pytest.raises(UsageError) as caught:
        mindspore.read(tmp_path / "w.ckpt", key=KEY)
    assert (caught.value.code, caught.value.hint) == ("V003", 'pip install "vitrail[mindspore]"')
