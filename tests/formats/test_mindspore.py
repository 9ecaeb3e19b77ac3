"""Checkpoints of MindSpore: the files it wrote itself are read to the recorded values and written to the same bytes."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.disk import sha256_file
from vitrail.errors import UsageError, WeightsError
from vitrail.formats import mindspore
from vitrail.formats.held import hold
from vitrail.formats.stored import DTYPES, Stored, Tensors

TOKEN = bytes.fromhex(
    "0a24 0a03746f6b 121d 080108010803 1207466c6f61743332 1a0c000000000000803f00000040".replace(" ", "")
)
SCALAR = bytes.fromhex("0a15 0a027363 120f 1207466c6f61743332 1a0400006040".replace(" ", ""))


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + mindspore._varint(len(content)) + content


def entry(name: str, kind: str, dims: bytes, content: bytes) -> bytes:
    inner = dims + field(2, kind.encode()) + field(3, content)
    return field(1, field(1, name.encode()) + field(2, inner))


def read_bytes(folder: Path, data: bytes) -> tuple[Tensors, list[str]]:
    (folder / "x.ckpt").write_bytes(data)
    return mindspore.read(folder / "x.ckpt")


def test_C05_golden_entries(tmp_path: Path) -> None:
    tensors, notes = read_bytes(tmp_path, TOKEN + SCALAR)
    assert not notes
    assert list(tensors) == ["tok", "sc"]
    assert tensors["tok"].array().tolist() == [[[0.0, 1.0, 2.0]]]
    assert tensors["sc"].shape == () and tensors["sc"].array() == 3.5
    mindspore.write(tmp_path / "y.ckpt", tensors)
    assert (tmp_path / "y.ckpt").read_bytes() == TOKEN + SCALAR


def test_C05_files_of_mindspore_are_read_and_written_to_the_same_bytes(shared: Path, tmp_path: Path) -> None:
    files = sorted((shared / "reference" / "files").glob("*.ckpt"))
    assert len(files) >= 12
    for path in files:
        tensors, notes = mindspore.read(path, sha256=sha256_file(path))
        mindspore.write(tmp_path / "w.ckpt", tensors, crc="_crc" in path.name)
        assert bool(notes) == ("_append" in path.name)
        assert notes or (tmp_path / "w.ckpt").read_bytes() == path.read_bytes()
        with hold(path) as file:
            assert mindspore.recognised(file)


def test_C05_weights_are_those_that_mindspore_held(shared: Path) -> None:
    """Each vector states the SHA-256 of its float32 weights, and the list of all entries of its file."""
    read = 0
    for path in sorted((shared / "reference" / "files").glob("mindspore_*.ckpt")):
        vector = shared / "reference" / f"{path.stem}.npz"
        if "dtypes" in path.name:
            continue
        with np.load(vector, allow_pickle=False) as reference:
            meta = json.loads(str(reference["meta"]))
        tensors, _ = mindspore.read(path)
        types = {ours: theirs for theirs, ours in mindspore._TYPES.items()}
        listed = [[name, list(tensor.shape), types[tensor.dtype]] for name, tensor in tensors.items()]
        assert listed == meta["ckpt_entries"]
        digest = hashlib.sha256()
        for name, _, kind in sorted(meta["spec"]):
            if kind != "z":
                digest.update(name.encode() + b"\0" + tensors[(meta["prefix"] or "") + name].data)
        assert digest.hexdigest() == meta["weights_sha256"]
        read += 1
    assert read >= 9


def test_C05_every_type_has_the_recorded_value(shared: Path) -> None:
    files = shared / "reference" / "files"
    with np.load(shared / "reference" / "mindspore_dtypes.npz", allow_pickle=False) as reference:
        tensors, _ = mindspore.read(files / "mindspore_dtypes.ckpt")
        assert set(tensors) == {name[6:] for name in reference.files if name.startswith("value/")}
        assert {tensor.dtype for tensor in tensors.values()} >= {"F16", "BF16", "F64", "I8", "U8", "I16", "I64", "BOOL"}
        for name, tensor in tensors.items():
            values = reference[f"value/{name}"]
            assert tensor.array().dtype == values.dtype and tensor.shape == values.shape
            assert np.array_equal(tensor.array(), values)
        checked, _ = mindspore.read(files / "mindspore_dtypes_crc.ckpt")
        appended, notes = mindspore.read(files / "mindspore_dtypes_append.ckpt")
        for found in (checked, appended):
            for name in ("weight", "bias"):
                assert np.array_equal(found[name].array(), reference[f"net/{name}"])
    assert [(name, t.dtype, t.shape, t.array().item()) for name, t in list(appended.items())[2:]] == [
        ("epoch_num", "I64", (), 3),
        ("lr", "F32", (), 0.25),
        ("flag", "BOOL", (), True),
    ]
    assert notes == ["passed over `note` (the text `text`)"]


@st.composite
def stored(draw: st.DrawFn) -> Stored:
    word = draw(st.sampled_from(sorted(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=4)))
    size = int(np.prod(shape)) * DTYPES[word][0]
    data = draw(st.binary(min_size=size, max_size=size))
    return Stored(word, shape, bytes(b & 1 for b in data) if word == "BOOL" else data)


names = st.text("abé01._/", min_size=1, max_size=9).filter(lambda n: not n.startswith("/") and ".." not in n.split("/"))


@pytest.fixture(scope="module")
def checkpoint() -> type:
    """MindSpore's message, given to protobuf's own library."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    text, number, inner = 9, 3, 11
    fields = {
        "T": [("dims", 1, 3, number, None), ("tensor_type", 2, 2, text, None), ("tensor_content", 3, 2, 12, None)],
        "V": [("tag", 1, 2, text, None), ("tensor", 2, 1, inner, ".T")],
        "C": [("value", 1, 3, inner, ".V")],
    }
    file = descriptor_pb2.FileDescriptorProto(name="checkpoint.proto", syntax="proto2")
    for message, rows in fields.items():
        kind = file.message_type.add(name=message)
        for name, at, label, form, of in rows:
            kind.field.add(name=name, number=at, label=label, type=form, type_name=of)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found: type = message_factory.GetMessageClass(pool.FindMessageTypeByName("C"))
    return found


@settings(max_examples=150, deadline=None)
@given(tensors=st.dictionaries(names, stored(), min_size=1, max_size=4), crc=st.booleans(), cut=st.integers(1, 40))
def test_C05_protobuf_writes_the_same_bytes_and_they_read_back(
    tensors: Tensors, crc: bool, cut: int, checkpoint: type, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tensors = {name: t for name, t in tensors.items() if sum(n.casefold() == name.casefold() for n in tensors) == 1}
    path, expected = tmp_path_factory.getbasetemp() / "w.ckpt", b""
    for name, tensor in tensors.items():
        for at in range(0, max(tensor.nbytes, 1), cut):
            message = checkpoint()
            value = message.value.add(tag=name)
            value.tensor.dims.extend(tensor.shape)
            value.tensor.tensor_type = mindspore._THEIRS[tensor.dtype]
            value.tensor.tensor_content = bytes(tensor.data[at : at + cut])
            expected += message.SerializeToString()
    if crc:
        expected += b"crc_num" + zlib.crc32(expected).to_bytes(10, "big")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mindspore, "SLICE", cut)
        mindspore.write(path, tensors, crc=crc)
    assert path.read_bytes() == expected
    read, notes = mindspore.read(path)
    assert not notes
    assert list(read.items()) == list(tensors.items())


UNPACKED, PACKED = b"\x08\x02\x08\x03", b"\x0a\x02\x02\x03"


@pytest.mark.parametrize("dims", [UNPACKED, PACKED, b"\x08\x02\x0a\x01\x03", b"\x08\x82\x80\x00\x08\x03"])
def test_C05_sizes_packed_or_not(dims: bytes, tmp_path: Path) -> None:
    tensors, _ = read_bytes(tmp_path, entry("w", "Float32", dims, bytes(24)))
    assert tensors["w"].shape == (2, 3)


@pytest.mark.parametrize("kind", ["UInt8", "Uint8", "uint8", "UINT8"])
def test_C05_types_are_read_in_any_case(kind: str, tmp_path: Path) -> None:
    assert read_bytes(tmp_path, entry("w", kind, b"\x08\x01", b"a"))[0]["w"].dtype == "U8"


@pytest.mark.parametrize(("dims", "content", "shape"), [(b"\x08\x00", 4, ()), (b"", 4, ()), (b"\x08\x00", 0, (0,))])
def test_C05_scalars_of_both_generations(dims: bytes, content: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    assert read_bytes(tmp_path, entry("w", "Float32", dims, bytes(content)))[0]["w"].shape == shape


def split_by_1x(array: np.ndarray, count: int) -> Iterator[bytes]:
    dims = b"".join(b"\x08" + bytes([n]) for n in array.shape)
    for part in np.array_split(array, count):  # along the first axis, so a part may be empty
        yield entry("w", "Float32", dims, part.tobytes())


@pytest.mark.parametrize(("shape", "count"), [((7, 3), 3), ((1, 5), 2), ((4,), 4)])
@pytest.mark.parametrize("crc", [False, True])
def test_C05_parts_of_one_name_are_joined(shape: tuple[int, ...], count: int, crc: bool, tmp_path: Path) -> None:
    array = np.arange(np.prod(shape), dtype="<f4").reshape(shape)
    data = TOKEN + b"".join(split_by_1x(array, count)) + SCALAR
    data += b"crc_num" + zlib.crc32(data).to_bytes(10, "big") if crc else b""
    tensors, _ = read_bytes(tmp_path, data)
    assert list(tensors) == ["tok", "w", "sc"]
    assert np.array_equal(tensors["w"].array(), array)


def test_C05_what_is_no_tensor_becomes_a_note(tmp_path: Path) -> None:
    table = field(1, field(1, b"map") + field(3, bytes(30)))
    data = table + table + entry("text", "str", b"\x08\x00", "a\n".encode("utf-32-le")) + TOKEN
    data += entry("four", "Int4", b"\x08\x04", b"ab") + entry("long", "str", b"", ("x" * 900).encode("utf-32-le"))
    tensors, notes = read_bytes(tmp_path, data)
    assert list(tensors) == ["tok"]
    assert notes[:3] == [
        "passed over `map` (a hash table, 60 bytes)",
        r"passed over `text` (the text `a\n`)",
        "passed over `four` (4-bit integers, 2 bytes)",
    ]
    assert len(notes[3]) < 200


def test_C15_the_same_bytes_every_time(tmp_path: Path) -> None:
    tensors = {"b": Stored("F32", (1,), bytes(4)), "a": Stored("U8", (2,), b"ab")}
    for name in ("1", "2"):
        mindspore.write(tmp_path / name, tensors, crc=True)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert list(mindspore.read(tmp_path / "1")[0]) == ["b", "a"]


def test_C08_writes_only_what_it_would_read(tmp_path: Path) -> None:
    tensor = Stored("U8", (1,), b"x")
    with pytest.raises(WeightsError, match="but for case"):
        mindspore.write(tmp_path / "w", {"a": tensor, "A": tensor})
    with pytest.raises(UsageError, match="no tensors"):
        mindspore.write(tmp_path / "w", {})
    assert not list(tmp_path.iterdir())


def test_other_files_are_not_taken_for_checkpoints(tmp_path: Path) -> None:
    for content in (
        b"",
        b"\n",
        b"\n\n\n\n\n",
        b"\nSome text that begins with an empty line\n",
        b"PK\x03\x04",
        bytes(64),
    ):
        (tmp_path / "x").write_bytes(content)
        with hold(tmp_path / "x") as file:
            assert not mindspore.recognised(file)


@pytest.mark.prove
def test_C05_a_tensor_of_576_mib_is_cut_where_mindspore_cuts(tmp_path: Path) -> None:
    tensor = Stored("U8", (576 << 20,), bytes(576 << 20))
    mindspore.write(tmp_path / "w.ckpt", {"w": tensor})
    with (tmp_path / "w.ckpt").open("rb") as file:
        head = file.read(40)
        at = head.index(b"UInt8\x1a") + 6
        assert head[at : at + 5] == mindspore._varint(1 << 29)
        file.seek(at + 5 + (1 << 29))
        assert b"\x1a" + mindspore._varint(64 << 20) in file.read(40)
    assert mindspore.read(tmp_path / "w.ckpt")[0] == {"w": tensor}
