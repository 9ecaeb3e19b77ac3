"""The held descriptor: the bytes used are the bytes checked, whatever happens to the path meanwhile."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from vitrail.disk import sha256_bytes
from vitrail.errors import SystemFault, VitrailError, WeightsError
from vitrail.formats import held, safetensors
from vitrail.formats.stored import Stored


def test_C11_a_swapped_file_is_refused_or_the_right_one(tmp_path: Path) -> None:
    path, aside, stop = tmp_path / "w", tmp_path / "aside", threading.Event()
    good = safetensors.dumps({"a": Stored("U8", (70_000,), b"g" * 70_000)})
    evil = safetensors.dumps({"a": Stored("U8", (70_000,), b"e" * 70_000)})
    path.write_bytes(good)

    def swap() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            aside.write_bytes(evil if turn % 2 else good)
            os.replace(aside, path)
            path.write_bytes(evil)  # and in place

    thread = threading.Thread(target=swap)
    thread.start()
    right = 0
    try:
        for _ in range(300):
            try:
                tensors, _ = safetensors.read(path, sha256=sha256_bytes(good))
            except VitrailError:
                continue
            assert bytes(tensors["a"].data) == b"g" * 70_000
            right += 1
    finally:
        stop.set()
        thread.join()
    path.write_bytes(good)
    assert safetensors.read(path, sha256=sha256_bytes(good))
    assert right < 300


def test_C21_a_file_that_shrinks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(bytes(5000))
    with held.hold(path) as file:
        os.truncate(path, 100)
        with pytest.raises(WeightsError, match="shrank to 100 bytes"):
            file.read(0, 5000)


def test_C21_hashed_bytes_outlive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(b"right" * 10)
    with held.hold(path, sha256=sha256_bytes(b"right" * 10)) as file:
        path.write_bytes(b"wrong" * 10)
        assert bytes(file.read(0, 5)) == b"right"
        assert file.read(0, 5).readonly


def test_C10_a_large_file_is_hashed_before_memory_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "ONE_PASS_BYTES", 10)
    path = tmp_path / "w"
    path.write_bytes(b"x" * 3_000_000)
    with pytest.raises(WeightsError, match="SHA-256"), held.hold(path, sha256="0" * 64):
        pass
    with held.hold(path, sha256=sha256_bytes(b"x" * 3_000_000)) as file:
        assert bytes(file.read(2_999_999, 1)) == b"x"


def test_C07_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.touch()
    os.truncate(path, (64 << 30) + 1)  # sparse
    with pytest.raises(WeightsError, match="the limit is 68719476736"), held.hold(path):
        pass


def test_ranges_outside_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(bytes(10))
    with held.hold(path) as file:
        for offset, length in ((0, 11), (-1, 1), (10, 1), (5, -1), (1 << 70, 1)):
            with pytest.raises(WeightsError, match="outside"):
                file.read(offset, length)
        assert bytes(file.read(10, 0)) == b""


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(bytes(10))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(WeightsError):
            safetensors.read(path)
        with pytest.raises(SystemFault):
            safetensors.read(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
