"""Weights in several files with an index, against one file and against what others write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy as reference
import torch

from vitrail.disk import sha256_file
from vitrail.errors import WeightsError
from vitrail.formats import beside, read_tensors, safetensors, sharded, sniff
from vitrail.formats.stored import Stored, Tensors

INDEX = "model.safetensors.index.json"


def some(count: int = 9) -> Tensors:
    rng = np.random.default_rng(0)
    return {
        f"block.{i}.weight": Stored.of(rng.standard_normal((i, 3)).astype(np.float32)) for i in reversed(range(count))
    }


def split(folder: Path, tensors: Tensors, parts: int, *, total: object = None) -> Path:
    """Write the tensors in turn into so many files, and their index."""
    places = {name: f"model-{i % parts + 1:05d}-of-{parts:05d}.safetensors" for i, name in enumerate(tensors)}
    for shard in set(places.values()):
        inside = {name: tensor for name, tensor in tensors.items() if places[name] == shard}
        safetensors.write(folder / shard, inside, {"format": "pt"})
    size = sum(tensor.nbytes for tensor in tensors.values()) if total is None else total
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": places}, indent=2))
    return folder / INDEX


@pytest.mark.parametrize("parts", [1, 2, 9])
def test_the_parts_are_the_whole(parts: int, tmp_path: Path) -> None:
    index = split(tmp_path, some(), parts)
    assert sniff(index) == "index"
    tensors, metadata, notes = read_tensors(index)
    assert tensors == some() and list(tensors) == list(some())
    assert (metadata, notes) == ({"format": "pt"}, [])
    assert read_tensors(tmp_path) == (tensors, metadata, notes)
    assert sharded.read(index) == (tensors, metadata, notes)


def test_what_the_reference_writes(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.ones(3, np.int64)}
    for name, array in arrays.items():
        reference.save_file({name: array}, tmp_path / f"{name}.safetensors")
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {name: f"{name}.safetensors" for name in arrays}}))
    tensors, _, _ = read_tensors(tmp_path)
    assert all(np.array_equal(tensors[name].array(), array) for name, array in arrays.items())


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_shards(legacy: bool, tmp_path: Path) -> None:
    values = {"w": torch.arange(6.0).reshape(2, 3).t(), "b": torch.arange(2, dtype=torch.int64)}
    places = {"w": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}
    for name, shard in places.items():
        torch.save({name: values[name]}, tmp_path / shard, _use_new_zipfile_serialization=not legacy)
    text = json.dumps({"metadata": {"total_size": 40.0}, "weight_map": places})
    (tmp_path / "pytorch_model.bin.index.json").write_text(text)
    tensors, metadata, notes = read_tensors(tmp_path)
    assert (list(tensors), metadata, notes) == (["w", "b"], {}, [])
    assert all(np.array_equal(tensors[name].array(), value.numpy()) for name, value in values.items())


def test_notes_name_the_shard(tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.zeros(1)}, "epoch": 3}, tmp_path / "a.bin")
    (tmp_path / "x.index.json").write_text('{"weight_map": {"w": "a.bin"}}')
    notes = read_tensors(tmp_path / "x.index.json")[2]
    assert notes == ["a.bin: weights taken from `model`", "a.bin: passed over `epoch` (int)"]


def test_metadata_that_differs_is_noted(tmp_path: Path) -> None:
    for name, by in (("a", "one"), ("b", "two")):
        safetensors.write(tmp_path / f"{name}.safetensors", {name: Stored("U8", (1,), b"x")}, {"by": by})
    (tmp_path / INDEX).write_text('{"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}')
    _, metadata, notes = read_tensors(tmp_path)
    assert metadata == {"by": "one"}
    assert len(notes) == 1 and "b.safetensors" in notes[0] and "`by`" in notes[0]


def test_C09_links_of_a_hub_cache_are_followed_into_its_one_store(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    split(blobs, some(), 2)
    for file in list(blobs.iterdir()):
        digest = sha256_file(file)
        file.rename(blobs / digest)
        (snapshot / file.name).symlink_to(f"../../blobs/{digest}")
    assert read_tensors(snapshot)[0] == some()

    outside = tmp_path / "outside.safetensors"
    shard = snapshot / "model-00002-of-00002.safetensors"
    shard.resolve().rename(outside)
    shard.unlink()
    shard.symlink_to(outside)
    with pytest.raises(WeightsError, match="is a link") as caught:
        read_tensors(snapshot)
    assert caught.value.code == "V202"


def test_the_folder_may_be_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    split(tmp_path / "real", some(), 3)
    (tmp_path / "name").symlink_to("real")
    assert read_tensors(tmp_path / "name")[0] == some()
    assert read_tensors(tmp_path / "name" / INDEX)[0] == some()


def test_each_shard_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = split(tmp_path, some(), 3)
    opened: list[str] = []
    true = beside._no_link
    monkeypatch.setattr(beside, "_no_link", lambda name, folder: (opened.append(name), true(name, folder))[1])
    read_tensors(index)
    assert sorted(opened) == sorted({file.name for file in tmp_path.glob("*.safetensors")})
