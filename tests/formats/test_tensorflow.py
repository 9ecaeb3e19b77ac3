"""TensorFlow checkpoints: files that TensorFlow wrote, and what its format allows beyond them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.hostile import tensorflow_files as tf
from tests.models.battery import Reference
from vitrail.errors import SystemFault, VitrailError
from vitrail.formats import tensorflow

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
# by the object graph -> by the original's name
OBJECTS = {
    "layer_with_weights-0/kernel": "embedding/kernel:0",
    "layer_with_weights-0/bias": "embedding/bias:0",
    "layer_with_weights-1/cls": "class_token/cls:0",
    "layer_with_weights-2/pe": "Transformer/posembed_input/pos_embedding:0",
    "layer_with_weights-3/att/query_dense/kernel": (
        "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel:0"
    ),
    "layer_with_weights-4/layernorm2/gamma": "Transformer/encoderblock_1/LayerNorm_2/gamma:0",
    "layer_with_weights-4/mlpblock/layer_with_weights-1/bias": "Transformer/encoderblock_1/Dense_1/bias:0",
    "layer_with_weights-5/beta": "Transformer/encoder_norm/beta:0",
    "layer_with_weights-6/kernel": "head/kernel:0",
}


def test_C05_a_checkpoint_of_keras_2(shared: Path) -> None:
    reference = Reference(shared, "keras2_vit_tiny")
    drawn = reference.formula()
    tensors, notes = tensorflow.read(shared / "reference" / reference.meta["native_files"]["tfckpt"])
    assert list(tensors) == sorted(tensors)
    assert len(tensors) == len(drawn)
    for name, original in OBJECTS.items():
        np.testing.assert_array_equal(tensors[name + VALUE].array(), drawn[original])
    assert sorted(t.array().tobytes() for t in tensors.values()) == sorted(a.tobytes() for a in drawn.values())
    assert notes == ["`_CHECKPOINTABLE_OBJECT_GRAPH` is text of 7351 bytes, no weight: passed over"]


def test_C05_a_checkpoint_of_tensorflow_1(shared: Path) -> None:
    reference = Reference(shared, "tf001_vit_tiny_quickgelu")
    drawn = reference.formula()
    tensors, notes = tensorflow.read(shared / "reference" / reference.meta["native_file"])
    assert not notes
    assert {(name, tensor.shape) for name, tensor in tensors.items()} == {
        (name, tuple(sizes)) for name, sizes in reference.meta["checkpoint_variables"]
    }
    weights = {name: tensor for name, tensor in tensors.items() if not name.endswith("/Momentum")}
    for name, array in drawn.items():
        np.testing.assert_array_equal(weights.pop(name.removesuffix(":0")).array(), array)
    assert not weights
    assert not any(tensors[name].array().any() for name in tensors if name.endswith("/Momentum"))


def test_C08_the_index_and_its_prefix_are_the_same(tmp_path: Path) -> None:
    path = tf.write(
        tmp_path / "model", tf.table([[(b"", tf.header()), (b"a", tf.entry([2], b"12345678"))]]), b"12345678"
    )
    tensors, _ = tensorflow.read(tmp_path / "model")
    assert tensors == tensorflow.read(path.with_suffix(""))[0]
    assert bytes(tensors["a"].data) == b"12345678"


@pytest.mark.parametrize(
    ("dtype", "word", "size"),
    [(1, "F32", 4), (2, "F64", 8), (3, "I32", 4), (4, "U8", 1), (5, "I16", 2), (6, "I8", 1), (9, "I64", 8),
     (10, "BOOL", 1), (14, "BF16", 2), (17, "U16", 2), (19, "F16", 2), (22, "U32", 4), (23, "U64", 8)],
)  # fmt: skip
def test_every_type(dtype: int, word: str, size: int, tmp_path: Path) -> None:
    data = bytes([1, 0] * (3 * size // 2 + 1))[: 3 * size]
    tf.write(tmp_path / "m", tf.table([[(b"", tf.header()), (b"a/b", tf.entry([3, 1], data, dtype=dtype))]]), data)
    tensor = tensorflow.read(tmp_path / "m")[0]["a/b"]
    assert (tensor.dtype, tensor.shape, bytes(tensor.data)) == (word, (3, 1), data)


def test_several_blocks_shards_and_snappy(tmp_path: Path) -> None:
    data = [bytes(range(8)), bytes(range(100, 116)), b""]
    rows = [(f"layer/{i:03d}".encode(), i) for i in range(40)]
    entries = [(name, tf.entry([1], data[i % 2][4:8], shard=i % 2, offset=4, size=4)) for name, i in rows[:2]]
    entries += [(name, tf.entry([0, 3], b"", shard=0)) for name, _ in rows[2:]]
    blocks = [[(b"", tf.header(3)), *entries[:5]], entries[5:30], entries[30:]]
    for pack in (False, True):
        tf.write(tmp_path / "m", tf.table(blocks, pack=pack), *data)
        tensors, _ = tensorflow.read(tmp_path / "m")
        assert list(tensors) == [name.decode() for name, _ in rows]
        assert bytes(tensors["layer/000"].data) == bytes([4, 5, 6, 7])
        assert bytes(tensors["layer/001"].data) == bytes([104, 105, 106, 107])
        assert tensors["layer/039"].shape == (0, 3)


def test_text_and_counters_become_notes(tmp_path: Path) -> None:
    strings, crc = tf.text([b"abc", b"", b"x" * 200])
    rows = tf.entry([3], b"", dtype=tf.STRING, size=len(strings))[:-5] + tf.crc_field(crc)
    counter = tf.entry([], bytes(8), dtype=tf.INT64, offset=len(strings))
    names = [(b"", tf.header()), (b"save_counter" + VALUE.encode(), counter), (b"words", rows)]
    tf.write(tmp_path / "m", tf.table([names]), strings + bytes(8))
    tensors, notes = tensorflow.read(tmp_path / "m")
    assert not tensors
    assert [note.split(" is ")[1] for note in notes] == [
        "a counter of 8 bytes, no weight: passed over",
        f"text of {len(strings)} bytes, no weight: passed over",
    ]


def test_A_checkpoint_of_v1_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(tf.table([[(b"", b"\x0a\x00")]]))
    with pytest.raises(VitrailError, match="old form V1") as caught:
        tensorflow.read(tmp_path / "model.ckpt")
    assert caught.value.code == "V206"


def test_absent_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SystemFault, match=r"no\.index"):
        tensorflow.read(tmp_path / "no")
    tf.write(tmp_path / "m", tf.table([[(b"", tf.header(2)), (b"a", tf.entry([1], bytes(4), shard=1))]]))
    with pytest.raises(SystemFault, match=r"m\.data-00001-of-00002"):
        tensorflow.read(tmp_path / "m")


def test_C10_a_wrong_hash_stops_before_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tf.write(tmp_path / "m", tf.table([[(b"", tf.header())]]))
    monkeypatch.setattr(tensorflow, "parse", lambda file: pytest.fail("parsed"))
    with pytest.raises(VitrailError, match="SHA-256"):
        tensorflow.read(tmp_path / "m", sha256="0" * 64)
