"""The readers under attack and what their mutants are made of: small files that the formats' own libraries wrote."""

from __future__ import annotations

import argparse
import functools
import io
import json
import random
import struct
import typing
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import torch

from tests.hostile import tensorflow_files as tf
from tests.hostile import test_hostile_mindspore as ms
from tests.hostile import test_hostile_npz as npz_items
from tests.hostile import test_hostile_safetensors as st_items
from tests.hostile import test_hostile_tensorflow as tf_items
from tests.hostile import test_hostile_torch_legacy as legacy_items
from tests.hostile import test_hostile_torch_zip as zip_items
from tests.hostile.campaign import CODES, Reader, Seed, put
from tests.hostile.forked import forking
from tests.hostile.torch_files import packed, zipped
from vitrail.formats import hdf5, read_tensors
from vitrail.formats.stored import Stored, Tensors
from vitrail.models import configs
from vitrail.weights import huggingface
from vitrail.weights.user_dialect import read_dialect

SMALL = np.arange(6, dtype="<f4").reshape(2, 3)


def beside(name: str) -> Callable[[Path, bytes], Path]:
    """A file alone in its folder."""

    def place(folder: Path, data: bytes) -> Path:
        return put(folder / name, data)

    return place


def tensors(path: Path) -> object:
    return read_tensors(path)[0]


# torch


def _saved(new: bool) -> bytes:
    base = torch.arange(12, dtype=torch.float32)
    tree = {
        "state_dict": {"w": base[:6].view(2, 3), "t": base[2:8].view(2, 3).t(), "h": torch.ones(2, dtype=torch.half)},
        "epoch": 3, "args": argparse.Namespace(lr=0.1, name="a"), "best": np.float64(0.5), "mask": torch.tensor([True]),
    }  # fmt: skip
    target = io.BytesIO()
    torch.save(tree, target, _use_new_zipfile_serialization=new)
    return target.getvalue()


def _torch_zip() -> Sequence[Seed]:
    real = _saved(True)
    with zipfile.ZipFile(io.BytesIO(real)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    at = next(i for i, (name, _) in enumerate(members) if name.endswith("data.pkl"))

    def again(data: bytes) -> bytes:
        return zipped([*members[:at], (members[at][0], data), *members[at + 1 :]])

    return [Seed(real), Seed(zip_items.GOOD), Seed(members[at][1], again), Seed(zip_items.SEED, packed)]


def _torch_legacy() -> Sequence[Seed]:
    return [Seed(_saved(False)), Seed(legacy_items.legacy(zip_items.SEED)), Seed(zip_items.SEED, legacy_items.legacy)]


def _no_foreign_bytes(_: Path, found: object) -> None:
    assert isinstance(found, dict) and all(isinstance(tensor, Stored) for tensor in found.values())
    assert not Path("canary").exists()


# safetensors


def _header(body: bytes) -> bytes:
    return struct.pack("<Q", len(body)) + body + st_items.SEED[_HEADER_END:]


_HEADER_END = 8 + struct.unpack("<Q", st_items.SEED[:8])[0]


def _safetensors() -> Sequence[Seed]:
    return [Seed(st_items.SEED), Seed(st_items.GOOD), Seed(st_items.SEED[8:_HEADER_END], _header)]


def _agrees(path: Path, _: object) -> None:
    st_items.agrees(path)


# npz


def _npz() -> Sequence[Seed]:
    array = npz_items.npy()
    return [
        *(Seed(body) for body in npz_items.seeds()),
        Seed(array, npz_items.one),
        Seed(array, lambda body: npz_items.one(body, method=zipfile.ZIP_DEFLATED)),
        Seed(npz_items.npy("'>f8'", "True", "(1, 3)"), npz_items.one),
    ]


def _numpy_agrees(path: Path, _: object) -> None:
    try:
        npz_items.agrees(path)
    except NotImplementedError as error:  # of zipfile, for a version that changes nothing in the reading
        assert "zip file version" in str(error)


# MindSpore


def _mindspore() -> Sequence[Seed]:
    bare = [body for body in ms.SEEDS if body[-17:-10] != b"crc_num"]
    return [*(Seed(body) for body in ms.SEEDS), *(Seed(body, ms.with_crc) for body in bare)]


def _protobuf_agrees(path: Path, _: object) -> None:
    ms.agrees(path, ms.message())


# TensorFlow


def _tensorflow() -> Sequence[Seed]:
    rows = tf.block(tf_items.MANY)
    return [
        Seed(tf_items.SEED),
        Seed(tf_items.SEED, tf_items.mended),
        Seed(rows, _one_block),
        Seed(tf.number(len(rows)) + bytes([61 << 2]) + (len(rows) - 1).to_bytes(2, "little") + rows, _one_packed_block),
        Seed(tf_items.MANY[3][1], lambda body: tf.table([[*tf_items.MANY[:3], (b"layer/kernel", body)]])),
    ]


def _one_block(body: bytes, kind: int = 0) -> bytes:
    return tf_items.raw(body, kinds=[kind], index=tf.block([(b"z", tf.handle(0, len(body)))]))


def _one_packed_block(body: bytes) -> bytes:
    return _one_block(body, 1)


def _bundle(folder: Path, index: bytes) -> Path:
    put(folder / "m.data-00000-of-00001", tf_items.SEED_DATA)
    return put(folder / "m.index", index)


def _bundle_data(folder: Path, data: bytes) -> Path:
    put(folder / "m.index", tf_items.SEED)
    put(folder / "m.data-00000-of-00001", data)
    return folder / "m"


def _checked_bytes(_: Path, found: object) -> None:
    """Whatever its name and type became, the checksum of every tensor holds: its bytes are some that were written."""
    assert isinstance(found, dict)
    for tensor in found.values():
        assert bytes(tensor.data) in tf_items.SEED_DATA


# HDF5


def _hdf5() -> Sequence[Seed]:
    seeds = []
    for libver in ("earliest", "latest"):
        target = io.BytesIO()
        with h5py.File(target, "w", libver=libver) as file:
            file["layers/dense/vars/0"] = SMALL
            file.create_dataset("layers/dense/vars/1", data=[1.0, 2.0], dtype="<f4", chunks=(1,))
            file.create_dataset("p", data=SMALL, compression="gzip", shuffle=True, fletcher32=True)
        seeds.append(Seed(target.getvalue()))
    return [*seeds, Seed(_keras({"d/d/kernel:0": Stored.of(SMALL), "d/d/bias:0": Stored.of(SMALL[0])}))]


@functools.cache
def _keras_file() -> bytes:
    return _keras({"layers/dense/vars/0": Stored.of(SMALL)})


def _keras(values: Tensors) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        hdf5.write(Path(folder) / "w.h5", values)
        return (Path(folder) / "w.h5").read_bytes()


def model(weights: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as file:
        for name, data in (("metadata.json", b"{}"), ("config.json", b"{}"), ("model.weights.h5", weights)):
            file.writestr(zipfile.ZipInfo(name), data, method)
    return target.getvalue()


def _keras_zip() -> Sequence[Seed]:
    weights = _keras_file()
    return [Seed(model(weights)), Seed(model(weights, zipfile.ZIP_DEFLATED)), Seed(weights, model)]


def _by_a_fork(path: Path) -> object:
    with forking():
        return tensors(path)


def _bounded(path: Path, found: object) -> None:
    assert isinstance(found, dict)
    assert sum(tensor.nbytes for tensor in found.values()) <= 9 * path.stat().st_size + (1 << 20)


# texts

INDEX = {"metadata": {"total_size": 8}, "weight_map": {"w": "a.safetensors", "v": "b.safetensors"}}
VIT = {
    "architectures": ["ViTForImageClassification"], "model_type": "vit", "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 32, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "image_size": 32,
    "patch_size": 8, "num_channels": 3, "qkv_bias": True, "id2label": {"0": "a", "1": "b"},
    "label2id": {"a": 0, "b": 1}, "torch_dtype": "float32",
}  # fmt: skip
BEIT_TEXT = VIT | {
    "architectures": ["BeitForImageClassification"], "model_type": "beit", "use_mean_pooling": True,
    "use_relative_position_bias": True, "layer_scale_init_value": 0.1, "use_mask_token": False,
}  # fmt: skip
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 32, "width": 32}, "resample": 2,
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}  # fmt: skip
DIALECT = b"""name: mine
family: vit
numerics: {gelu: tanh, eps: 0.001}
prefixes: ["net."]
rules:
  - {ours: cls_token, theirs: start}
  - {ours: "blocks.{i}.attn.qkv.weight", theirs: ["l{i}.q", "l{i}.k", "l{i}.v"], reshape: stack_transposed}
  - {ours: head.weight, theirs: out.w, optional: true}
drop:
  - {theirs: "optimizer.{*}", why: optimizer state}
"""
JSON_SPLICES = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"0", b"-1", b"1e999", b"null", b"true", b"NaN", b"\\u0000",
                b"\\ud800", b"..", b"/", b"\xff", b"9" * 30, b'"a":', b"[" * 40, b"\\", b" ", b"1.5"]  # fmt: skip
YAML_SPLICES = [b"'", b'"', b"{", b"}", b"[", b"]", b",", b": ", b"- ", b"\n", b"  ", b"&a ", b"*a", b"!!python/x ",
                b"|", b"{i}", b"{j}", b"{*}", b"{i+1}", b"{_i}", b"#", b"%YAML", b"---", b"? ", b"<<: ", b"\t", b"\xff",
                b"\0", b"null", b"0x1F", b"1e3", b"{i}{j}{k}{l}"]  # fmt: skip


def _folder(folder: Path, text: bytes) -> Path:
    return put(folder / huggingface.CONFIG, text)


def _processor(folder: Path, text: bytes) -> Path:
    put(folder / huggingface.CONFIG, json.dumps(VIT).encode())
    return put(folder / huggingface.PROCESSOR, text)


_hints = functools.cache(typing.get_type_hints)  # evaluates the annotations of our own configs


def _config_of(path: Path) -> object:
    with mock.patch.object(configs, "get_type_hints", _hints):
        return huggingface.config_of(path.parent)


def _dialect_of(path: Path) -> object:
    with mock.patch.object(configs, "get_type_hints", _hints):
        return read_dialect(path)


def _shards(folder: Path, text: bytes) -> Path:
    from vitrail.formats import safetensors

    for name, key in (("a", "w"), ("b", "v")):
        if not (folder / f"{name}.safetensors").exists():
            safetensors.write(folder / f"{name}.safetensors", {key: Stored("F32", (1,), b"abcd")})
    return put(folder / "model.safetensors.index.json", text)


def _whole_set(_: Path, found: object) -> None:
    assert isinstance(found, dict) and found
    assert all(bytes(tensor.data) == b"abcd" for tensor in found.values())


def _texts(*values: object) -> Callable[[], Sequence[Seed]]:
    return lambda: [Seed(json.dumps(value, indent=1).encode()) for value in values]


def _built_safetensors(draw: random.Random) -> bytes:
    """A header of values drawn freely, under the right length."""
    return st_items.whole(json.dumps(_value(draw, 4)), bytes(draw.choice((0, 1, 4, 8))))


def _value(draw: random.Random, depth: int) -> object:
    kind = draw.random()
    if depth and kind < 0.4:
        keys = ("dtype", "shape", "data_offsets", "__metadata__", "a", "b")
        return {draw.choice(keys): _value(draw, depth - 1) for _ in range(draw.randint(1, 4))}
    if depth and kind < 0.6:
        return [_value(draw, depth - 1) for _ in range(draw.randint(0, 3))]
    return draw.choice(("F32", "U8", "BOOL", 0, 1, 4, -1, 1 << 70, None, True, 0.5, "", [0, 4], [1], [0, 0], [0]))


MILLION, HALF = 1_000_000, 500_000
READERS = {
    row.name: row
    for row in (
        Reader("torch_zip", "C2", MILLION, _torch_zip, beside("x.pth"), tensors, zip_items.SPLICES, _no_foreign_bytes),
        Reader("torch_legacy", "C1", HALF, _torch_legacy, beside("x.pth"), tensors, zip_items.SPLICES,
               _no_foreign_bytes),
        Reader("safetensors", "C3", MILLION, _safetensors, beside("x.safetensors"), tensors, st_items.SPLICES, _agrees,
               _built_safetensors),
        Reader("npz", "C4", HALF, _npz, beside("x.npz"), tensors, npz_items.SPLICES, _numpy_agrees),
        Reader("mindspore", "C5", HALF, _mindspore, beside("x.ckpt"), tensors, ms.SPLICES, _protobuf_agrees, ms.built),
        Reader("tensorflow", "C5", HALF, _tensorflow, _bundle, tensors, (b"\0", b"\x80", b"\xff" * 9, tf_items.A),
               _checked_bytes, codes=CODES | {"V702"}),
        Reader("tensorflow_data", "C5", 50_000, lambda: [Seed(tf_items.SEED_DATA)], _bundle_data, tensors),
        Reader("hdf5", "C6", 100_000, _hdf5, beside("x.h5"), _by_a_fork, (b"HDF", b"OHDR", b"TREE", b"SNOD", b"FRHP"),
               _bounded, deeds=frozenset({"open", "socket.sendmsg"})),
        Reader("keras_zip", "C6", 20_000, _keras_zip, beside("x.keras"), _by_a_fork, (b"PK\x01\x02", b"PK\x03\x04"),
               _bounded, deeds=frozenset({"open", "socket.sendmsg"})),
        Reader("index", "C9", 100_000, _texts(INDEX), _shards, tensors, (*JSON_SPLICES, b"a.safetensors"), _whole_set,
               codes=CODES | {"V702"}),
        Reader("config", "C1", 100_000, _texts(VIT, BEIT_TEXT), _folder, _config_of, JSON_SPLICES,
               codes=frozenset({"V201", "V205"})),
        Reader("processor", "C1", 100_000, _texts(PROCESSOR), _processor, _config_of, JSON_SPLICES,
               codes=frozenset({"V201", "V205"})),
        Reader("dialect", "C1", 100_000, lambda: [Seed(DIALECT)],
               beside("mine.yaml"), _dialect_of, YAML_SPLICES, codes=frozenset({"V205"})),
    )
}  # fmt: skip
