"""Keras' HDF5 files: what Keras wrote, read as h5py reads it; and files of ours, laid out as Keras lays them out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.models.battery import Reference
from vitrail.errors import UsageError, VitrailError
from vitrail.formats import hdf5
from vitrail.formats.hdf5 import reading
from vitrail.formats.stored import Stored, Tensors

KERAS2 = ("keras2_vit_tiny", "keras2_vit_tiny_repr")
KERAS3 = ("keras3_vit_tiny", "keras3_vit_tiny_nonsquare")
NAMED = {
    "layers/conv2d/vars/0": "embedding/kernel",
    "layers/class_token/vars/0": "class_token/cls",
    "layers/add_position_embs/vars/0": "Transformer_posembed_input/pos_embedding",
    "layers/transformer_block_1/att/value_dense/vars/1": (
        "Transformer_encoderblock_1/MultiHeadDotProductAttention_1/value/bias"
    ),
    "layers/transformer_block/mlpblock/layers/dense_1/vars/0": (
        "Transformer_encoderblock_0/MlpBlock_3/Transformer_encoderblock_0_Dense_1/kernel"
    ),
    "layers/layer_normalization/vars/1": "Transformer_encoder_norm/beta",
    "layers/dense/vars/0": "head/kernel",
}


def native(shared: Path, name: str) -> tuple[Path, Reference]:
    reference = Reference(shared, name)
    files = reference.meta["native_files"]
    return shared / "reference" / files.get("legacy_weights_h5", files.get("weights_h5")), reference


def by_h5py(path: Path) -> dict[str, Any]:
    """path -> (shape, type, bytes) of every dataset, as plain h5py reads it."""
    found: dict[str, Any] = {}

    def note(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = (
                item.shape,
                item.dtype.newbyteorder("<"),
                item[()].astype(item.dtype.newbyteorder("<")).tobytes(),
            )

    with h5py.File(path) as file:
        file.visititems(note)
    return found


def ours(tensors: Tensors) -> dict[str, Any]:
    return {name: (t.shape, t.array().dtype, bytes(t.data)) for name, t in tensors.items()}


@pytest.mark.parametrize("name", KERAS2 + KERAS3)
def test_C06_a_file_of_keras_reads_as_h5py_reads_it(name: str, shared: Path) -> None:
    path, reference = native(shared, name)
    tensors = hdf5.read(path)
    assert ours(tensors) == by_h5py(path)
    drawn = reference.formula()
    assert sorted(t.array().tobytes() for t in tensors.values()) == sorted(a.tobytes() for a in drawn.values())
    for theirs, original in NAMED.items() if name in KERAS3 else ():
        np.testing.assert_array_equal(tensors[theirs].array(), drawn[original])
    for original, array in drawn.items() if name in KERAS2 else ():
        layer = "/".join(original.split("/")[: 2 if original.startswith("Transformer") else 1])
        np.testing.assert_array_equal(tensors[f"{layer}/{original}"].array(), array)


def in_order_of_the_model(path: Path, tensors: Tensors) -> Tensors:
    """Keras 2 writes its layers sorted; the order of the model stands in an attribute, which is not read."""
    with h5py.File(path) as file:
        return {
            f"{layer}/{name}": tensors[f"{layer}/{name}"]
            for layer in file.attrs["layer_names"]
            for name in file[layer].attrs["weight_names"]
        }


@pytest.mark.parametrize("name", KERAS2)
def test_a_keras_2_file_written_again_is_laid_out_the_same(name: str, shared: Path, tmp_path: Path) -> None:
    path, _ = native(shared, name)
    tensors = hdf5.read(path)
    hdf5.write(tmp_path / "x.h5", in_order_of_the_model(path, tensors))
    assert by_h5py(tmp_path / "x.h5") == by_h5py(path)
    assert list(hdf5.read(tmp_path / "x.h5")) == list(tensors)
    with h5py.File(path) as theirs, h5py.File(tmp_path / "x.h5") as mine:
        layers = [layer for layer in theirs.attrs["layer_names"] if len(theirs[layer].attrs["weight_names"])]
        assert list(mine.attrs) == list(theirs.attrs)
        assert list(mine.attrs["layer_names"]) == layers
        assert mine.attrs["backend"] == theirs.attrs["backend"] == "tensorflow"
        assert mine.attrs["keras_version"].startswith("2.")
        for layer in [*layers, "top_level_model_weights"]:
            assert list(mine[layer].attrs["weight_names"]) == list(theirs[layer].attrs["weight_names"])
        for group, key in [("/", "layer_names"), ("/", "backend"), ("head", "weight_names")]:
            kinds = [h5py.h5a.open(file[group].id, key.encode()).get_type() for file in (mine, theirs)]
            assert kinds[0].equal(kinds[1])


@pytest.mark.parametrize("name", KERAS3)
def test_a_keras_3_file_written_again_has_the_same_datasets(name: str, shared: Path, tmp_path: Path) -> None:
    path, _ = native(shared, name)
    tensors = hdf5.read(path)
    hdf5.write(tmp_path / "x.weights.h5", tensors)
    assert by_h5py(tmp_path / "x.weights.h5") == by_h5py(path)
    assert list(hdf5.read(tmp_path / "x.weights.h5")) == list(tensors)
    with h5py.File(tmp_path / "x.weights.h5") as file:
        assert isinstance(file["vars"], h5py.Group)
        assert not file.attrs


def test_C15_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    tensors = {f"layers/dense_{i}/vars/0": Stored("F32", (3,), bytes(range(i, i + 12))) for i in range(9)}
    old = {"b/b/x:0": Stored("F32", (1,), bytes(4)), "a/a/x:0": Stored("F16", (), bytes(2))}
    for values in (tensors, old):
        hdf5.write(tmp_path / "a.h5", values)
        hdf5.write(tmp_path / "b.h5", values)
        assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
        assert hdf5.read(tmp_path / "a.h5") == values


TYPES = ["<f2", "<f4", "<f8", "i1", "<i2", "<i4", "<i8", "u1", "<u2", "<u4", "<u8", "?", ">f4", ">i8", ">u2", ">f2"]


@pytest.fixture(scope="module")
def every_form(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("forms") / "forms.h5"
    values = np.arange(24).reshape(2, 3, 4)
    with h5py.File(path, "w") as file:
        for code in TYPES:
            file[f"type/{code.strip('<>')}{'-big' if code[0] == '>' else ''}"] = values.astype(code)
        file["scalar"] = np.float32(3)
        file["empty"] = np.zeros((0, 3), "<f4")
        file.create_dataset("chunked", data=values.astype("<f4"), chunks=(1, 2, 4))
        file.create_dataset("odd chunks", data=values.astype("<f8"), chunks=(2, 2, 3), maxshape=(None, 3, 4))
        file.create_dataset("packed", data=values.astype(">f4"), compression="gzip", shuffle=True, fletcher32=True)
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_layout(h5py.h5d.COMPACT)
        space, kind = h5py.h5s.create_simple((2, 3)), h5py.h5t.IEEE_F32LE
        compact = h5py.h5d.create(file.id, b"compact", kind, space, made)
        compact.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(6, dtype="<f4").reshape(2, 3))
        noise = np.random.Generator(np.random.PCG64(1)).standard_normal((700, 900))  # more than one frame
        file.create_dataset("large", data=noise, compression="gzip", chunks=(300, 900))
    return path


def test_C06_every_plain_form_of_a_dataset(every_form: Path) -> None:
    tensors = hdf5.read(every_form)
    assert ours(tensors) == by_h5py(every_form)
    assert tensors["type/f4-big"].dtype == "F32"
    assert tensors["type/?"].dtype == "BOOL"
    assert tensors["scalar"].shape == ()


@pytest.mark.parametrize("libver", ["earliest", "v108", "v110", "latest"])
def test_C06_old_and_new_formats_of_hdf5(libver: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w", libver=libver) as file:
        for i in range(30):
            file.create_dataset(
                f"layers/dense_{i}/vars/0", data=np.full((i + 1, 2), i, "<f4"), chunks=(1, 2) if i % 2 else None
            )
    assert ours(hdf5.read(tmp_path / "x.h5")) == by_h5py(tmp_path / "x.h5")


def test_without_h5py_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {"a/vars/0": Stored("U8", (1,), b"x")}
    hdf5.write(tmp_path / "x.h5", tensors)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match="h5py") as caught:
        hdf5.write(tmp_path / "y.h5", tensors)
    assert caught.value.code == "V003"
    monkeypatch.delitem(sys.modules, "h5py")
    monkeypatch.setattr(reading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="h5py") as caught:
        hdf5.read(tmp_path / "x.h5")
    assert "pip install" in caught.value.hint


F = Stored("F32", (1,), bytes(4))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a/a/x:0": F, "b/vars/0": F}, "no `:0`"),
        ({"x:0": F}, "no Keras 2 name"),
        ({"a/b/x:0": F}, "no Keras 2 name"),
        ({"a/a:0": F}, "no Keras 2 name"),
        ({"a/vars/0": Stored("BF16", (1,), bytes(2))}, "BF16"),
        ({f"l{i}/l{i}/x:0": F for i in range(4001)}, "4001 names"),
    ],
)
def test_what_keras_has_no_place_for_is_not_written(tensors: Tensors, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        hdf5.write(tmp_path / "x.h5", tensors)
    assert caught.value.code == "V007"
    assert not list(tmp_path.iterdir())


def test_C10_a_wrong_hash_stops_before_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hdf5.write(tmp_path / "x.h5", {"a/vars/0": F})
    monkeypatch.setattr(reading, "parse", lambda file: pytest.fail("parsed"))
    with pytest.raises(VitrailError, match="SHA-256"):
        hdf5.read(tmp_path / "x.h5", sha256="0" * 64)
