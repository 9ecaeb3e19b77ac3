"""npz against NumPy: what it writes is read to the bit, what we write it opens, and the published layout is read."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.disk import sha256_file
from vitrail.errors import UsageError, WeightsError
from vitrail.formats import npz
from vitrail.formats.stored import DTYPES, Stored, Tensors

CODES = {word: code for word, (_, code) in DTYPES.items() if word != "BF16"}
names = st.text("abAB01._/ ", min_size=1, max_size=12).filter(
    lambda name: not name.startswith("/") and ".." not in name.split("/") and not name.endswith(".npy")
)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    code = draw(st.sampled_from(sorted(CODES.values())))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=4)))
    size = int(np.prod(shape)) * np.dtype(code).itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    return np.frombuffer(bytes(b & 1 for b in data) if code == "|b1" else data, code).reshape(shape)


def unlike(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those whose names differ by more than case."""
    return {name: a for name, a in found.items() if sum(n.casefold() == name.casefold() for n in found) == 1}


def same(tensor: Stored, array: np.ndarray) -> bool:
    little = array.astype(array.dtype.newbyteorder("<"))
    return CODES[tensor.dtype] == little.dtype.str and tensor.shape == array.shape and tensor.data == little.tobytes()


@settings(max_examples=150, deadline=None)
@given(found=st.dictionaries(names, arrays(), max_size=4), order=st.sampled_from("<>"), fortran=st.booleans())
def test_C04_reads_what_numpy_writes(
    found: dict[str, np.ndarray], order: str, fortran: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "theirs.npz"
    found = {name: a.astype(a.dtype.newbyteorder(order)) for name, a in unlike(found).items()}
    if fortran:
        found = {name: np.asfortranarray(a) for name, a in found.items()}
    for save in (np.savez, np.savez_compressed):
        with path.open("wb") as file:
            save(file, **found)  # type: ignore[arg-type]
        tensors = npz.read(path)
        assert list(tensors) == list(found)
        assert all(same(tensors[name], found[name]) for name in found)


@settings(max_examples=150, deadline=None)
@given(found=st.dictionaries(names, arrays(), max_size=4))
def test_writes_what_numpy_opens_and_the_bytes_of_its_save(
    found: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "ours.npz"
    found = unlike(found)
    tensors = {name: Stored.of(a) for name, a in found.items()}
    npz.write(path, tensors)
    first = path.read_bytes()
    with np.load(path, allow_pickle=False) as theirs:
        assert theirs.files == list(found)
        assert all(same(tensors[name], theirs[name]) for name in found)
    with zipfile.ZipFile(path) as archive:
        for name, array in found.items():
            saved = io.BytesIO()
            np.save(saved, array)
            assert archive.read(name + ".npy") == saved.getvalue()
    assert npz.read(path) == tensors
    npz.write(path, tensors)
    assert path.read_bytes() == first


def test_C04_published_layout_equals_numpy(shared: Path) -> None:
    files = sorted((shared / "reference" / "files").glob("google_*.npz"))
    assert len(files) >= 5
    for path in files:
        tensors = npz.read(path, sha256=sha256_file(path))
        with np.load(path, allow_pickle=False) as theirs:
            assert list(tensors) == theirs.files
            assert all(same(tensors[name], theirs[name]) for name in theirs.files)
            assert any("/" in name for name in tensors)
        with np.load(shared / "reference" / path.name, allow_pickle=False) as vector:
            meta = json.loads(str(vector["meta"]))
        digest = hashlib.sha256()
        for name, _, kind in sorted(meta["spec"]):
            if kind != "z":
                digest.update(name.encode() + b"\0" + tensors[name].data)
        assert digest.hexdigest() == meta["weights_sha256"]


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_C04_all_layouts_of_the_header_are_read(version: tuple[int, int], tmp_path: Path) -> None:
    array = np.arange(6, dtype="<i2").reshape(2, 3)
    content = io.BytesIO()
    np.lib.format.write_array(content, array, version)
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("w.npy", content.getvalue())
    assert same(npz.read(tmp_path / "w.npz")["w"], array)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path, bits: np.savez(path, w=bits.view("V2")), "raw pairs of bytes"),
        (lambda path, bits: np.savez(path, w=bits.view(ml_dtypes.bfloat16)), "JAX's own type"),
    ],
)
def test_bfloat16_of_jax_is_read(write: Callable[[Path, np.ndarray], None], words: str, tmp_path: Path) -> None:
    bits = np.array([0x3F80, 0xC020, 0x7FC1], "<u2")
    write(tmp_path / "w.npz", bits)
    tensor = npz.read(tmp_path / "w.npz")["w"]
    assert (tensor.dtype, tensor.shape, bytes(tensor.data)) == ("BF16", (3,), bits.tobytes()), words
    assert tensor.array()[:2].tolist() == [1.0, -2.5]


@pytest.mark.parametrize("code", ["<f2", "<f4", "<f8"])
def test_no_bit_of_a_nan_is_lost_on_turning(code: str, tmp_path: Path) -> None:
    width = np.dtype(code).itemsize
    ones = np.full((2, 3), (1 << 8 * width) - 1, f"<u{width}")
    ones[0, 0] ^= 1 << {2: 9, 4: 22, 8: 51}[width]  # a signalling one
    turned = np.asfortranarray(ones).byteswap().view(code.replace("<", ">"))
    np.savez(tmp_path / "w.npz", w=turned)
    assert bytes(npz.read(tmp_path / "w.npz")["w"].data) == ones.tobytes()


def test_other_spellings_of_the_same_header_are_read(tmp_path: Path) -> None:
    for text in (
        "{'descr': '<u2', 'fortran_order': False, 'shape': (2,)}",
        "{'shape': (2,), 'fortran_order': False, 'descr': '<u2'}",
        '{"descr" : "<u2" ,"fortran_order":False,"shape":( 2 , ) , }   ',
    ):
        content = b"\x93NUMPY\x01\x00" + (len(text) + 1).to_bytes(2, "little") + text.encode() + b"\n\1\0\2\0"
        assert np.load(io.BytesIO(content)).tolist() == [1, 2]
        with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
            archive.writestr("w.npy", content)
        assert npz.read(tmp_path / "w.npz")["w"].array().tolist() == [1, 2]


def test_bfloat16_is_refused_with_the_way_out(tmp_path: Path) -> None:
    tensor = Stored("BF16", (2,), bytes([0x80, 0x3F, 0x20, 0xC0]))
    with pytest.raises(UsageError, match="BF16") as caught:
        npz.write(tmp_path / "w.npz", {"w": tensor})
    assert "safetensors" in caught.value.hint
    npz.write(tmp_path / "w.npz", {"w": Stored.of(tensor.array())})  # as the hint says
    assert list(tmp_path.iterdir()) == [tmp_path / "w.npz"]


@pytest.mark.parametrize("pair", [("a", "A"), ("a", "a.npy"), ("a", "../a"), ("a", "x" * 509)])
def test_C08_writes_only_what_it_would_read(pair: tuple[str, str], tmp_path: Path) -> None:
    tensors: Tensors = {name: Stored("U8", (1,), b"x") for name in pair}
    with pytest.raises(WeightsError) as caught:
        npz.write(tmp_path / "w.npz", tensors)
    assert caught.value.code == "V202"
    assert not list(tmp_path.iterdir())
