"""safetensors against the reference library: the same bytes written, the same tensors read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.disk import sha256_file
from vitrail.errors import SystemFault, UsageError, WeightsError
from vitrail.formats import safetensors
from vitrail.formats.stored import DTYPES, Stored, Tensors

WORDS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def their_bytes(tensors: Tensors, metadata: dict[str, str] | None) -> bytes:
    kept = {name: np.frombuffer(bytes(tensor.data), np.uint8) for name, tensor in tensors.items()}
    specs = {
        name: reference.TensorSpec(
            dtype=WORDS[t.dtype], shape=list(t.shape), data_ptr=kept[name].ctypes.data, data_len=t.nbytes
        )
        for name, t in tensors.items()
    }
    return bytes(reference.serialize(specs, metadata))


@st.composite
def stored(draw: st.DrawFn) -> Stored:
    word = draw(st.sampled_from(sorted(DTYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    size = int(np.prod(shape)) * DTYPES[word][0]
    data = draw(st.binary(min_size=size, max_size=size))
    return Stored(word, shape, bytes(b & 1 for b in data) if word == "BOOL" else data)


names = st.text(st.characters(whitelist_categories=["Lu", "Ll", "Nd"], whitelist_characters="._/"), min_size=1).filter(
    lambda name: (
        not name.startswith("/")
        and ".." not in name.split("/")
        and name != "__metadata__"
        and len(name.encode()) <= 512
    )
)


@settings(max_examples=150, deadline=None)
@given(tensors=st.dictionaries(names, stored(), max_size=5), note=st.none() | st.text('ab<é\n" \\', max_size=5))
def test_writes_the_bytes_of_the_reference_and_reads_them(
    tensors: Tensors, note: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tensors = {name: t for name, t in tensors.items() if sum(n.casefold() == name.casefold() for n in tensors) == 1}
    metadata = None if note is None else {"note": note}  # with more keys the reference's order is random
    data = safetensors.dumps(tensors, metadata)
    assert data == their_bytes(tensors, metadata)
    path = tmp_path_factory.getbasetemp() / "round.safetensors"
    path.write_bytes(data)
    assert safetensors.read(path) == (dict(sorted(tensors.items())), metadata or {})


def test_C15_bytes_do_not_depend_on_order(tmp_path: Path) -> None:
    tensors = {"b": Stored("F32", (1,), bytes(4)), "a": Stored("U8", (2,), b"ab"), "c": Stored("I64", (0,), b"")}
    metadata = {"z": "1", "y": "2"}
    turned = dict(reversed(tensors.items())), dict(reversed(metadata.items()))
    assert safetensors.dumps(tensors, metadata) == safetensors.dumps(*turned)
    safetensors.write(tmp_path / "w", tensors, metadata)
    assert (tmp_path / "w").read_bytes() == safetensors.dumps(tensors, metadata)
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


def test_C03_real_files_equal_the_reference(shared: Path) -> None:
    files = sorted((shared / "reference" / "files").rglob("*.safetensors"))
    assert len(files) >= 7
    for path in files:
        tensors, metadata = safetensors.read(path, sha256=sha256_file(path))
        with reference.safe_open(path, framework="numpy") as theirs:
            assert list(tensors) == sorted(theirs.keys())
            assert metadata == (theirs.metadata() or {})
        for name, info in reference.deserialize(path.read_bytes()):
            assert (tensors[name].dtype, list(tensors[name].shape)) == (info["dtype"], info["shape"])
            assert tensors[name].data == info["data"]


def test_C10_hash_in_upper_case_is_the_same_hash(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.write(path, {"a": Stored("U8", (1,), b"x")})
    assert safetensors.read(path, sha256=sha256_file(path).upper())[0]["a"].data == b"x"


def test_C08_writes_only_what_it_would_read() -> None:
    tensor = Stored("U8", (1,), b"x")
    with pytest.raises(WeightsError, match="but for case"):
        safetensors.dumps({"a": tensor, "A": tensor})
    with pytest.raises(WeightsError, match="no plain name"):
        safetensors.dumps({"../a": tensor})
    with pytest.raises(WeightsError, match="control characters"):
        safetensors.dumps({}, {"a": "\x1b[31m"})
    with pytest.raises(UsageError, match="__metadata__"):
        safetensors.dumps({"__metadata__": tensor})


def test_absent_folder_and_fifo_are_told(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "fifo", tmp_path / "nul\0"):
        with pytest.raises(SystemFault, match="cannot read"):
            safetensors.read(path)
