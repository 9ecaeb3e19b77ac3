"""A checkpoint in parts is read as whole tensors, or refused as damaged with the part that is missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.errors import RunError
from vitrail.formats.stored import Stored, Tensors
from vitrail.training.checkpoint import Saving, load, written
from vitrail.training.generation import MANIFEST, manifest_of, sealed
from vitrail.training.parts import base_name, part_name, put_together


def cut(tensors: dict[str, np.ndarray], size: int) -> dict[str, Tensors]:
    """Rows as torch.chunk shares them out; what has none stands in the first part."""
    files: dict[str, Tensors] = {part_name("weights", rank, size): {} for rank in range(size)}
    for name, array in tensors.items():
        if array.ndim == 0:
            files[part_name("weights", 0, size)][name] = Stored.of(array)
            continue
        step = -(-len(array) // size) or 1
        for rank in range(size):
            if len(rows := array[rank * step : (rank + 1) * step]):
                files[part_name("weights", rank, size)][name] = Stored.of(np.ascontiguousarray(rows))
    return files


@given(size=st.integers(1, 5), rows=st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_cut_and_put_together_is_the_same(size: int, rows: list[int]) -> None:
    random = np.random.default_rng(0)
    tensors = {f"t{i}": random.random((count, 3), np.float32) for i, count in enumerate(rows)}
    tensors["step"] = np.float32(7)  # type: ignore[assignment]
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    whole = put_together(cut(arrays, size))
    assert whole == {"weights": {name: Stored.of(array) for name, array in arrays.items()}}


def generation(folder: Path, files: dict[str, Tensors]) -> Path:
    with Saving(folder, 3, keep=1, best=False) as saving:
        aside = saving.begin(1000)
        return saving.end(written(aside, files), b"{}\n")


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_manifest_without_a_part_is_damaged(lost: int, tmp_path: Path) -> None:
    files = cut({"w": np.arange(12, dtype=np.float32).reshape(6, 2)}, 3)
    path = generation(tmp_path, files)
    assert load(path).files["weights"]["w"].shape == (6, 2)
    manifest = json.loads((path / MANIFEST).read_bytes())
    del manifest["digest"], manifest["files"][f"weights.part-{lost:04d}-of-0003.safetensors"]
    (path / MANIFEST).write_bytes(sealed(manifest))
    with pytest.raises(RunError, match="V604") as caught:
        load(path)
    assert "`weights` is there as part" in caught.value.what


def test_a_part_beside_the_whole_is_damaged(tmp_path: Path) -> None:
    files = cut({"w": np.zeros((4, 2), np.float32)}, 2)
    with pytest.raises(RunError, match="V604"):
        load(generation(tmp_path, {**files, "weights": {}}))


def test_rows_that_do_not_go_together_are_damaged(tmp_path: Path) -> None:
    files = cut({"w": np.zeros((4, 2), np.float32)}, 2)
    files[part_name("weights", 1, 2)]["w"] = Stored.of(np.zeros((2, 3), np.float32))
    with pytest.raises(RunError, match="V604") as caught:
        load(generation(tmp_path, files))
    assert "the parts of `w` are F32 (2, 2), F32 (2, 3)" in caught.value.what


def test_a_save_that_is_left_without_its_end_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="without `end`"), Saving(tmp_path, 3, keep=1, best=False) as saving:
        written(saving.begin(1000), {"weights": {}})
    assert list(tmp_path.iterdir()) == []


def test_other_parts_of_a_step_that_stands_are_no_best(tmp_path: Path) -> None:
    files = {"w": np.arange(12, dtype=np.float32).reshape(6, 2)}
    path = generation(tmp_path, {"weights": {"w": Stored.of(files["w"])}})
    with Saving(tmp_path, 3, keep=1, best=True) as saving:
        assert saving.begin(1000) is None
        assert saving.end(written(None, cut(files, 2)), b"{}\n") == path
    assert not manifest_of(path).best
    assert load(path).files["weights"]["w"].shape == (6, 2)


def test_a_great_many_ranks_have_names_too() -> None:
    name = part_name("weights", 99_999, 100_000)
    assert name == "weights.part-100000-of-100000" and base_name(name) == "weights"
