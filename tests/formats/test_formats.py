"""Which format a file is, by its content; and reading any of them by one call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vitrail.disk import sha256_file
from vitrail.errors import WeightsError
from vitrail.formats import read_tensors, safetensors, sniff
from vitrail.formats.stored import Stored


def test_real_files_are_told_apart(shared: Path) -> None:
    expected = {".safetensors": "safetensors", ".pth": "torch_zip", ".npz": "npz", ".h5": "hdf5", ".ckpt": "unknown"}
    seen = set()
    for path in sorted((shared / "reference" / "files").rglob("*")):
        if path.suffix in expected:
            assert sniff(path) == expected[path.suffix], path.name
            seen.add(path.suffix)
    assert seen == set(expected)


def test_content_wins_over_the_name(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(3.0)}, tmp_path / "x.safetensors")
    safetensors.write(tmp_path / "x.pth", {"w": Stored("U8", (1,), b"x")}, {"by": "hand"})
    assert sniff(tmp_path / "x.safetensors") == "torch_zip"
    assert read_tensors(tmp_path / "x.safetensors")[0]["w"].array().tolist() == [0, 1, 2]
    assert read_tensors(tmp_path / "x.pth") == ({"w": Stored("U8", (1,), b"x")}, {"by": "hand"}, [])


def test_V206_formats_not_read(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "torch_legacy", _use_new_zipfile_serialization=False)
    np.savez(tmp_path / "npz", a=np.zeros(1))
    (tmp_path / "npz.npz").rename(tmp_path / "npz")
    (tmp_path / "hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "unknown").write_bytes(b"")
    for kind in ("torch_legacy", "npz", "hdf5", "unknown"):
        assert sniff(tmp_path / kind) == kind
        with pytest.raises(WeightsError) as caught:
            read_tensors(tmp_path / kind)
        assert caught.value.code == "V206"
        assert caught.value.hint
    with pytest.raises(WeightsError, match="torch_legacy") as caught:
        read_tensors(tmp_path / "torch_legacy")
    assert "torch.save" in caught.value.hint


def test_C10_the_hash_is_checked_for_every_format(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(3.0)}, tmp_path / "x.pth")
    assert read_tensors(tmp_path / "x.pth", sha256_file(tmp_path / "x.pth"))[0]["w"].shape == (3,)
    (tmp_path / "junk").write_bytes(b"junk")
    for name in ("x.pth", "junk"):
        with pytest.raises(WeightsError, match="SHA-256 differs") as caught:
            read_tensors(tmp_path / name, "0" * 64)
        assert caught.value.code == "V201"


def test_a_link_at_the_top_is_followed(tmp_path: Path) -> None:
    safetensors.write(tmp_path / "blob", {"w": Stored("U8", (1,), b"x")})
    (tmp_path / "model.safetensors").symlink_to("blob")
    assert read_tensors(tmp_path / "model.safetensors")[0]["w"].data == b"x"
