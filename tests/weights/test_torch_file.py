"""Files for `torch.load`, held against torch and our own reader."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.errors import SystemFault, WeightsError
from vitrail.formats import read_tensors, sniff
from vitrail.formats.stored import DTYPES, Stored, Tensors
from vitrail.weights import torch_file

WORDS = sorted(DTYPES)


def some() -> Tensors:
    rng = np.random.default_rng(1)
    tensors: Tensors = {}
    for word in reversed(WORDS):
        for shape in ((), (0, 3), (2, 1, 3)):
            count = int(np.prod(shape)) * DTYPES[word][0]
            raw = rng.integers(0, 2 if word == "BOOL" else 256, count, np.uint8).tobytes()
            tensors[f"blocks.{len(tensors)}.{word}"] = Stored(word, shape, raw)
    return tensors


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def test_torch_reads_it_equal(tmp_path: Path) -> None:
    tensors = some()
    torch_file.write(tmp_path / "w.pth", tensors)
    theirs = torch.load(tmp_path / "w.pth", weights_only=True)
    assert type(theirs) is OrderedDict and list(theirs) == list(tensors)
    for name, stored in tensors.items():
        assert tuple(theirs[name].shape) == stored.shape
        assert bits(theirs[name]) == bytes(stored.data)
    assert theirs["blocks.0.U8"].dtype is torch.uint8
    assert {str(theirs[name].dtype) for name in theirs if name.endswith("BF16")} == {"torch.bfloat16"}


def test_C12_there_and_back_is_bit_exact(tmp_path: Path) -> None:
    torch_file.write(tmp_path / "w.pth", some())
    assert sniff(tmp_path / "w.pth") == "torch_zip"
    tensors, metadata, notes = read_tensors(tmp_path / "w.pth")
    assert tensors == some() and list(tensors) == list(some())
    assert (metadata, notes) == ({}, [])


names = st.text("abcxyz0189._/-", min_size=1, max_size=20).filter(
    lambda name: not name.startswith("/") and ".." not in name.split("/")
)


@settings(max_examples=60, deadline=None)
@given(
    tensors=st.dictionaries(
        names,
        st.tuples(st.sampled_from(("F32", "F16", "BF16", "I64")), st.lists(st.integers(0, 3), max_size=4)),
        min_size=1,
        max_size=5,
    ),
    seed=st.integers(0, 1000),
)
def test_C12_any_tensors_come_back(
    tensors: dict[str, tuple[str, list[int]]], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    made = {
        name: Stored(word, tuple(shape), rng.bytes(int(np.prod(shape)) * DTYPES[word][0]))
        for name, (word, shape) in tensors.items()
    }
    path = tmp_path_factory.getbasetemp() / "any.pth"
    torch_file.write(path, made)
    assert read_tensors(path)[0] == made


CODE = """
import sys
from pathlib import Path
from vitrail.formats import read_tensors
from vitrail.weights import torch_file
torch_file.write(Path(sys.argv[2]), read_tensors(Path(sys.argv[1]))[0])
"""


def test_C15_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    torch_file.write(tmp_path / "a.pth", some())
    torch_file.write(tmp_path / "another name.pt", some())
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "another name.pt").read_bytes()
    arguments = [sys.executable, "-c", CODE, str(tmp_path / "a.pth"), str(tmp_path / "b.pth")]
    subprocess.run(arguments, check=True, env={"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}, cwd=tmp_path, timeout=120)
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


def test_V701_a_full_disk_is_told_by_its_true_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.pth"
    torch_file.write(path, some())
    before = path.read_bytes()
    left = 2000

    def full(self: object, data: bytes) -> int:
        nonlocal left
        left -= len(data)
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(data)

    class Full:
        def __init__(self, file: object) -> None:
            self.write = full.__get__(self)

        def flush(self) -> None: ...

    honest = torch_file._Honest
    monkeypatch.setattr(torch_file, "_Honest", lambda file: honest(Full(file)))  # type: ignore[arg-type]
    with pytest.raises(SystemFault, match="No space left") as caught:
        torch_file.write(path, some())
    assert caught.value.code == "V701" and "ENOSPC" in caught.value.evidence[0]
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.pth"]


@pytest.mark.parametrize("bad", ["../x", "", "a\nb", "/x", "x" * 600])
def test_names_that_no_file_may_have_are_not_written(bad: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        torch_file.write(tmp_path / "w.pth", {bad: Stored("U8", (1,), b"x")})
    assert caught.value.code == "V202"
    assert list(tmp_path.iterdir()) == []
