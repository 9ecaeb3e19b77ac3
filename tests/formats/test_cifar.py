"""CIFAR files: made small here, in the official layouts; every damage is told with expected and found size."""

from __future__ import annotations

import importlib.util
import os
import pickle
import sys
from pathlib import Path
from random import Random
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.errors import DataError, VitrailError
from vitrail.formats import cifar

PLANES = np.random.default_rng(0).integers(0, 256, (3, 3072), np.uint8)


@pytest.fixture(scope="module")
def unpack(shared: Path) -> ModuleType:
    """The writer of byte-for-byte official Python-2 pickles."""
    spec = importlib.util.spec_from_file_location("unpack", shared / "data" / "unpack.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def binary(labels: list[list[int]], planes: np.ndarray = PLANES) -> bytes:
    return np.concatenate([np.array(labels, np.uint8), planes], axis=1).tobytes()


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def batch(**changes: object) -> dict[str, object]:
    found: dict[str, object] = {"data": PLANES, "labels": [0, 9, 3], "batch_label": "one", **changes}
    return {key: value for key, value in found.items() if value is not None}


def test_binary_cifar10(tmp_path: Path) -> None:
    pixels, labels = cifar.read_binary(written(tmp_path / "b", binary([[0], [9], [3]])))
    assert (pixels.dtype, pixels.shape, labels.dtype) == (np.uint8, (3, 32, 32, 3), np.int64)
    assert labels.tolist() == [0, 9, 3]
    assert pixels[1, 5, 7].tolist() == [PLANES[1, c * 1024 + 5 * 32 + 7] for c in range(3)]
    assert pixels.flags.c_contiguous


def test_binary_cifar100_gives_the_fine_labels(tmp_path: Path) -> None:
    pixels, labels = cifar.read_binary(written(tmp_path / "b", binary([[1, 99], [19, 0], [2, 50]])))
    assert labels.tolist() == [99, 0, 50]
    assert np.array_equal(pixels.transpose(0, 3, 1, 2).reshape(3, 3072), PLANES)


def test_pickled_as_python_2_wrote_it(unpack: ModuleType, tmp_path: Path) -> None:
    planes = np.random.default_rng(1).integers(0, 256, (10_000, 3072), np.uint8)
    labels = np.arange(10_000) % 10
    path = written(tmp_path / "data_batch_1", unpack.python2_batch("training batch 1 of 5", labels, planes))
    pixels, found = cifar.read_pickled(path)
    assert np.array_equal(pixels, planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    assert np.array_equal(found, labels)
    assert found.dtype == np.int64


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickled_again_by_python_3(protocol: int, tmp_path: Path) -> None:
    path = written(tmp_path / "b", pickle.dumps(batch(labels=None, fine_labels=[99, 0, 50]), protocol))
    pixels, labels = cifar.read_pickled(path)
    assert labels.tolist() == [99, 0, 50]
    assert np.array_equal(pixels.transpose(0, 3, 1, 2).reshape(3, 3072), PLANES)


def test_names_of_every_file(unpack: ModuleType, tmp_path: Path) -> None:
    assert cifar.read_names(written(tmp_path / "batches.meta", unpack.python2_meta())) == unpack.CLASSES
    text = "\n".join(unpack.CLASSES) + "\n\n"
    assert cifar.read_names(written(tmp_path / "batches.meta.txt", text.encode())) == unpack.CLASSES
    meta = pickle.dumps({b"fine_label_names": [b"apple", "fish"], b"coarse_label_names": [b"a"]}, 2)
    assert cifar.read_names(written(tmp_path / "meta", meta)) == ["apple", "fish"]


@pytest.mark.parametrize(
    "size", [0, 1, 3072, 3075, 3 * 3073 - 1, 3 * 3073 + 1, 30_729_999, 30_730_001, 30_740_001], ids=str
)
def test_B10_V404_wrong_length(size: int, tmp_path: Path) -> None:
    path = tmp_path / "b"
    path.touch()
    os.truncate(path, size)
    with pytest.raises(DataError) as caught:
        cifar.read_binary(path)
    assert caught.value.code == "V404"
    assert f"found    {size} bytes" in caught.value.evidence
    assert "expected" in caught.value.evidence[0]


def test_B10_expected_size_is_the_nearest(tmp_path: Path) -> None:
    for size, expected in ((30_729_999, "expected 30730000 bytes (10000 records of 3073, CIFAR-10)"),
                           (30_740_003, "expected 30740000 bytes (10000 records of 3074, CIFAR-100)"),
                           (1, "expected 3073 bytes (1 records of 3073, CIFAR-10)")):  # fmt: skip
        path = tmp_path / "b"
        path.touch()
        os.truncate(path, size)
        with pytest.raises(DataError) as caught:
            cifar.read_binary(path)
        assert caught.value.evidence[0] == expected


@pytest.mark.parametrize("labels", [[[0], [10], [3]], [[0], [1], [255]], [[0, 100], [1, 1], [1, 1]], [[20, 1]] * 3])
def test_B10_V404_label_out_of_range(labels: list[list[int]], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has label") as caught:
        cifar.read_binary(written(tmp_path / "b", binary(labels)))
    assert caught.value.code == "V404"


@pytest.mark.parametrize("width", [1, 2])
def test_a_size_that_fits_both_is_told_by_the_labels(width: int, tmp_path: Path) -> None:
    count = {1: 3074, 2: 3073}[width]
    labels = np.full((count, width), 7)
    planes = np.full((count, 3072), 200, np.uint8)
    pixels, found = cifar.read_binary(written(tmp_path / "b", binary(labels.tolist(), planes)))
    assert len(pixels) == count
    assert set(found.tolist()) == {7}


class _Runs:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch canary",)


BAD: dict[str, bytes] = {
    "runs code": pickle.dumps(_Runs(), 2),
    "runs code inside": pickle.dumps(batch(x=_Runs()), 2),
    "runs code as labels": pickle.dumps(batch(labels=_Runs()), 4),
    "no dict": pickle.dumps([1], 2),
    "empty": b"",
    "text": b"hello",
    "no data": pickle.dumps(batch(data=None), 2),
    "no labels": pickle.dumps(batch(labels=None), 2),
    "float pixels": pickle.dumps(batch(data=PLANES.astype(np.float32)), 2),
    "int8 pixels": pickle.dumps(batch(data=PLANES.astype(np.int8)), 2),
    "object pixels": pickle.dumps(batch(data=PLANES.astype(object)[:1]), 2),
    "pixels as list": pickle.dumps(batch(data=[[0] * 3072]), 2),
    "pixels as bytes": pickle.dumps(batch(data=PLANES.tobytes()), 2),
    "shape 3x3071": pickle.dumps(batch(data=PLANES[:, :-1]), 2),
    "shape 3x3x32x32": pickle.dumps(batch(data=PLANES.reshape(3, 3, 32, 32)), 2),
    "two labels": pickle.dumps(batch(labels=[0, 1]), 2),
    "label 10": pickle.dumps(batch(labels=[0, 1, 10]), 2),
    "label -1": pickle.dumps(batch(labels=[0, 1, -1]), 2),
    "label 1.0": pickle.dumps(batch(labels=[0, 1, 1.0]), 2),
    "label True": pickle.dumps(batch(labels=[0, 1, True]), 2),
    "fine label 100": pickle.dumps(batch(labels=None, fine_labels=[0, 1, 100]), 2),
    "labels as array": pickle.dumps(batch(labels=np.arange(3)), 2),
    "keys are numbers": pickle.dumps({0: PLANES, 1: [0, 1, 2]}, 2),
    "no pictures": pickle.dumps(batch(data=PLANES[:0], labels=[]), 2),
    "key twice by type": pickle.dumps({"data": PLANES, b"data": PLANES, "labels": [0, 9, 3]}, 2),
    "cut off": pickle.dumps(batch(), 2)[:-100],
    "bytes after the end": pickle.dumps(batch(), 2) + b"x",
}


@pytest.mark.parametrize("name", BAD)
def test_B11_V404_bad_pickles(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        cifar.read_pickled(written(tmp_path / "b", BAD[name]))
    assert caught.value.code == "V404"
    assert caught.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize("data", [b"", b"a\na\n", b"a\n\nb", b"a\n\x1b[31mb\n", b"\xff\n", b"x" * 10 + b"\0"], ids=repr)
def test_V404_bad_names(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        cifar.read_names(written(tmp_path / "batches.meta.txt", data))
    assert caught.value.code == "V404"


@pytest.mark.parametrize("meta", [{}, {"label_names": 3}, {"label_names": [1]}, {"label_names": []}, [1]], ids=repr)
def test_V404_bad_pickled_names(meta: object, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        cifar.read_names(written(tmp_path / "meta", pickle.dumps(meta, 2)))
    assert caught.value.code == "V404"


SEED = pickle.dumps({"data": PLANES[:1], "labels": [3], "filenames": ["a.png"]}, 2)


@settings(max_examples=300, deadline=None)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(SEED) - 1), st.integers(0, 4), st.binary(max_size=4)), min_size=1, max_size=4
    )
)
def test_B11_mutants_are_refused_or_read(
    edits: list[tuple[int, int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = SEED
    for at, removed, added in edits:
        data = data[:at] + added + data[at + removed :]
    path = written(tmp_path_factory.getbasetemp() / "mutant", data)
    try:
        pixels, labels = cifar.read_pickled(path)
    except VitrailError:
        return
    assert pixels.shape == (len(labels), 32, 32, 3)


EXECUTING = ("import", "exec", "compile", "os", "subprocess", "socket", "pickle")  # audit events, up to their dot


@pytest.mark.prove
def test_B11_200000_mutants(tmp_path: Path) -> None:
    """Of each protocol's file: read to the right shape or refused, and nothing is imported, called or opened beside."""
    seeds = [pickle.dumps({"data": PLANES[:1], "labels": [3], "filenames": ["a.png"]}, protocol) for protocol in (2, 4)]
    random, path, seen = Random(0), tmp_path / "mutant", list[str]()
    watching = [False]

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if watching[0] and event.partition(".")[0] in EXECUTING:
            seen.append(event)

    cifar.read_pickled(written(path, seeds[0]))  # whatever is imported when it is first used, is
    sys.addaudithook(hear)
    for turn in range(200_000):
        data = bytearray(seeds[turn % 2])
        for _ in range(random.randint(1, 4)):
            at = random.randrange(len(data))
            data[at : at + random.randint(0, 4)] = random.randbytes(random.randint(0, 4))
        path.write_bytes(data)
        watching[0] = True
        try:
            pixels, labels = cifar.read_pickled(path)
            assert pixels.shape == (len(labels), 32, 32, 3)
        except VitrailError:
            continue
        finally:
            watching[0] = False
    assert seen == []
