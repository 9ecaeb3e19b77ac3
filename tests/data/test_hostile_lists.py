"""Lists of labels and CIFAR files that do not stand are refused before the first step, with line, size or label.

Promise B10: HD 8 (lists of labels) and HC (CIFAR), each by its name, and mutants of both.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data.layouts import class_folders, imagenet
from vitrail.data.configs import Data
from vitrail.data.sources import open_source
from vitrail.errors import DataError

GOOD = [f"ILSVRC2012_val_{number + 1:08d}.JPEG {number % 3}" for number in range(6)]


def lines(**changes: str | None) -> str:
    """The good list with lines replaced (`l3="..."`) or left out (None)."""
    out = list(GOOD)
    for key, value in changes.items():
        out[int(key[1:]) - 1] = value  # type: ignore[call-overload]
    return "\n".join(line for line in out if line is not None) + "\n"


SYNSETS = ("n01440764", "n01443537", "n0148485O") * 2
NAME = "ILSVRC2012_val_00000003.JPEG"
# item -> (the list, what the error says)
LISTS: dict[str, tuple[str | bytes, str]] = {
    "gap: a blank line": (lines(l3=""), "line 3: `` is not NAME LABEL"),
    "gap: no label": (lines(l3=NAME), f"line 3: `{NAME}` is not NAME LABEL"),
    "-1": (lines(l3=f"{NAME} -1"), "line 3: label `-1` is no whole number of 0 to 2"),
    "N": (lines(l3=f"{NAME} 3"), "line 3: label `3` is no whole number of 0 to 2"),
    "all from 1 to N": ("\n".join(f"{line[:-1]}{int(line[-1]) + 1}" for line in GOOD), "line 3: label `3`"),
    "float": (lines(l3=f"{NAME} 1.0"), "line 3: label `1.0` is no whole number"),
    "exponent": (lines(l3=f"{NAME} 1e0"), "line 3: label `1e0`"),
    "hexadecimal": (lines(l3=f"{NAME} 0x1"), "line 3: label `0x1`"),
    "leading zero": (lines(l3=f"{NAME} 01"), "line 3: label `01`"),
    "huge": (lines(l3=f"{NAME} {10**30}"), "line 3: label"),
    "a word": (lines(l3=f"{NAME} tench"), "line 3: label `tench`"),
    "NaN": (lines(l3=f"{NAME} nan"), "line 3: label `nan`"),
    "doubled, the same label": (lines(l4=f"{NAME} 2"), f"line 4: `{NAME}` is named in line 3 already"),
    "doubled, another label": (lines(l4=f"{NAME} 1"), f"line 4: `{NAME}` is named in line 3 already"),
    "doubled, by its stem": (lines(l4=f"{NAME[:-5]} 1"), f"line 4: `{NAME[:-5]}` is named in line 3 already"),
    "short": (lines(l3=None), f"a picture without a line: {NAME}"),
    "short by five": ("\n".join(GOOD[:1]), "1 lines for 6 pictures"),
    "empty": ("", "0 lines for 6 pictures"),
    "long": (lines() + "ILSVRC2012_val_00000007.JPEG 0\n", "line 7: no picture is called `ILSVRC2012_val_0"),
    "names without a picture": (lines(l3="nothing.JPEG 2"), "line 3: no picture is called `nothing.JPEG`"),
    "a path that leads out": (lines(l3=f"../train/{NAME} 2"), "line 3: "),
    "UTF-16": ("\n".join(GOOD).encode("utf-16"), "zero bytes"),
    "zero bytes": (lines().replace(" ", "\0").encode(), "zero bytes"),
    "commas": (lines().replace(" ", ","), "is not NAME LABEL"),
    "CR alone": (lines().replace("\n", "\r"), "no picture is called"),
    "another byte order mark": ("\ufeff\ufeff" + lines(), "line 1: "),
    "a label of another set": (lines(l3=f"{NAME} n99999999"), "line 3: label `n99999999`"),
    "synsets, one unknown": (
        "\n".join(f"{line[:-1]}{name}" for line, name in zip(GOOD, SYNSETS, strict=True)),
        "line 3: label `n0148485O` is none of the 3 classes; did you mean `n01484850`?",
    ),
}  # fmt: skip


def told(error: DataError) -> str:
    return "\n".join((error.what, *error.evidence))


@pytest.mark.parametrize("item", LISTS)
def test_B10_a_list_that_does_not_stand(tmp_path: Path, item: str) -> None:
    text, expected = LISTS[item]
    root = imagenet(tmp_path, text)
    with pytest.raises(DataError) as caught:
        open_source(Data(root=str(root)))
    assert caught.value.code == "V404" and expected in told(caught.value), told(caught.value)
    assert "val_label.txt" in caught.value.what


def check_list(seed: int, root: Path) -> bool:
    """A list with a few bytes changed: refused, or each picture still has the label that its line says."""
    random = np.random.default_rng(seed)
    data = bytearray(lines().encode())
    if seed % 2:  # half of them change a label, which alone can stay a list that stands
        place = data.index(b"\n", int(random.integers(len(data)))) - 1
        data[place : place + 1] = random.choice([b"0", b"1", b"2", b"3", b"-1", b"1.0", b"1 ", b"\t2", b"01", b""])
    for _ in range(random.integers(0 if seed % 2 else 1, 3)):
        at = int(random.integers(len(data)))
        kind = random.integers(3)
        if kind == 0:
            data[at] = int(random.integers(256))
        elif kind == 1:
            del data[at]
        else:
            data.insert(at, int(random.choice(list(b" \t\r\n0123456789-+.eEnv,\xff\0"))))
    (root / "val_label.txt").write_bytes(data)
    try:
        source = open_source(Data(root=str(root)))
    except DataError as error:
        assert error.code == "V404"
        return False
    text = bytes(data).removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    said = dict(line.split() for line in text.split("\n") if line.strip())
    for at in source.held_out.tolist():
        name = source.title(at).removeprefix("val/")
        keys = (name, name.removesuffix(".JPEG"), f"val/{name}")
        assert str(source.labels[at]) == next(said[key] for key in keys if key in said)
    return True


def test_B10_mutants_of_a_list_in_short(tmp_path: Path) -> None:
    root = imagenet(tmp_path)
    accepted = sum(check_list(seed, root) for seed in range(300))
    assert 0 < accepted < 150


@pytest.mark.prove
def test_B10_mutants_of_a_list(tmp_path: Path) -> None:
    root = imagenet(tmp_path)
    accepted = sum(check_list(seed, root) for seed in range(5_000))
    print(f"B10: 5,000 mutants of a list of labels, {accepted:,} still stand with the labels that they say")


# CIFAR: HC


def records(count: int, *, seed: int = 0, width: int = 3073, classes: int = 10) -> bytes:
    """Records with labels that go round."""
    random = np.random.default_rng(seed)
    data = random.integers(0, 256, (count, width), np.uint8)
    data[:, width - 3073] = np.arange(count) % classes
    if width == 3074:
        data[:, 0] = np.arange(count) % 20
    return data.tobytes()


def lay(root: Path, *, train: int = 5, count: int = 20) -> Path:
    """CIFAR-10's binary batches beside the folder of its test batch."""
    (root / "cifar-10-batches-bin").mkdir(parents=True)
    (root / "cifar-10-verify-bin").mkdir()
    for number in range(1, train + 1):
        (root / f"cifar-10-batches-bin/data_batch_{number}.bin").write_bytes(records(count, seed=number))
    (root / "cifar-10-verify-bin/test_batch.bin").write_bytes(records(count, seed=9))
    return root


BATCH = "cifar-10-batches-bin/data_batch_3.bin"
LENGTHS = {0: 0, 1: 0, 3072: 0, 3073: 1, 30_729_999: 0, 30_730_000: 10_000, 30_730_001: 0, 30_733_073: 0}


@pytest.mark.parametrize("length", LENGTHS)
def test_B10_the_length_of_a_cifar_file(tmp_path: Path, length: int) -> None:
    root = lay(tmp_path)
    (root / BATCH).write_bytes(records(10_001, seed=3)[:length])
    if LENGTHS[length]:
        assert len(open_source(Data(root=str(root))).training) == 80 + LENGTHS[length]
        return
    with pytest.raises(DataError) as caught:
        open_source(Data(root=str(root)))
    assert caught.value.code == "V404" and BATCH in caught.value.what
    found = told(caught.value)
    assert f"{length} bytes" in found or "10,001 pictures, the published file 10,000" in found


@pytest.mark.parametrize("label", [10, 11, 128, 255])
def test_B10_a_cifar_label_out_of_range(tmp_path: Path, label: int) -> None:
    root = lay(tmp_path)
    data = bytearray((root / BATCH).read_bytes())
    data[7 * 3073] = label
    (root / BATCH).write_bytes(data)
    with pytest.raises(DataError) as caught:
        open_source(Data(root=str(root)))
    assert caught.value.code == "V404" and f"record 7 has label {label}, expected 0 to 9" in caught.value.what


def _missing(root: Path) -> None:
    (root / BATCH).unlink()


def _doubled(root: Path) -> None:
    (root / BATCH).write_bytes((root / BATCH.replace("3", "1")).read_bytes())


def _test_as_batch(root: Path) -> None:
    (root / BATCH).write_bytes((root / "cifar-10-verify-bin/test_batch.bin").read_bytes())


def _cifar100(root: Path) -> None:
    (root / BATCH).write_bytes(records(100, seed=3, width=3074, classes=100))


def _both(root: Path) -> None:
    (root / "cifar-100-binary").mkdir()
    (root / "cifar-100-binary/train.bin").write_bytes(records(100, width=3074, classes=100))


SWAPS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a batch doubled": (_doubled, "holds the same pictures as"),
    "the test batch as a training batch": (_test_as_batch, "holds the same pictures as"),
    "a batch of CIFAR-100": (_cifar100, "label"),
    "CIFAR-10 and CIFAR-100": (_both, "holds CIFAR-10 and CIFAR-100"),
}


@pytest.mark.parametrize("item", SWAPS)
def test_B10_cifar_files_swapped(tmp_path: Path, item: str) -> None:
    root = lay(tmp_path)
    change, expected = SWAPS[item]
    change(root)
    with pytest.raises(DataError) as caught:
        open_source(Data(root=str(root)))
    assert caught.value.code in ("V402", "V404") and expected in caught.value.what


def test_B10_a_missing_cifar_batch_is_told(tmp_path: Path) -> None:
    root = lay(tmp_path)
    _missing(root)
    source = open_source(Data(root=str(root)))
    assert len(source.training) == 80
    assert any("missing: data_batch_3.bin: 4 of 5 training files" in note for note in source.notes)


class Runs:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("executed",))


PIXELS = np.zeros((20, 3072), np.uint8)
PICKLES: dict[str, object] = {
    "code": {b"data": Runs(), b"labels": [0] * 20},
    "code beside": {b"data": PIXELS, b"labels": [0] * 20, b"x": Runs()},
    "dtype": {b"data": PIXELS.astype(np.float32), b"labels": [0] * 20},
    "shape": {b"data": PIXELS[:, :3071].copy(), b"labels": [0] * 20},
    "three axes": {b"data": PIXELS.reshape(20, 32, 96), b"labels": [0] * 20},
    "too few labels": {b"data": PIXELS, b"labels": [0] * 19},
    "too many labels": {b"data": PIXELS, b"labels": [0] * 21},
    "labels of another type": {b"data": PIXELS, b"labels": ["0"] * 20},
    "label 10": {b"data": PIXELS, b"labels": [10] * 20},
    "label -1": {b"data": PIXELS, b"labels": [-1] * 20},
    "keys of another type": {0: PIXELS, 1: [0] * 20},
    "a key in two types": {b"data": PIXELS, "data": PIXELS, b"labels": [0] * 20},
    "no dict": [PIXELS, [0] * 20],
    "no labels": {b"data": PIXELS},
    "empty": {b"data": PIXELS[:0], b"labels": []},
}


@pytest.mark.parametrize("item", PICKLES)
def test_B10_a_pickled_cifar_file(tmp_path: Path, item: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "cifar-10-batches-py"
    root.mkdir()
    (root / "data_batch_1").write_bytes(pickle.dumps(PICKLES[item], protocol=2))
    with pytest.raises(DataError) as caught:
        open_source(Data(root=str(root)))
    assert caught.value.code == "V404" and "data_batch_1" in caught.value.what
    assert "executed" not in capsys.readouterr().out


# A test batch is never trained on, wherever it lies.

PLACES: dict[str, Callable[[Path], Data]] = {
    "parent": lambda root: Data(root=str(root)),
    "two paths": lambda root: Data(root=str(root / "cifar-10-batches-bin"), val=str(root / "cifar-10-verify-bin")),
    "parent, and the folder as val": lambda root: Data(root=str(root), val=str(root / "cifar-10-verify-bin")),
    "beside the batches": lambda root: _moved(root, "cifar-10-batches-bin"),
    "in the parent itself": lambda root: _moved(root, ""),
    "flat, all in one": lambda root: _flat(root),
}


def _moved(root: Path, folder: str) -> Data:
    (root / "cifar-10-verify-bin/test_batch.bin").rename(root / folder / "test_batch.bin")
    (root / "cifar-10-verify-bin").rmdir()
    return Data(root=str(root / "cifar-10-batches-bin") if folder else str(root))


def _flat(root: Path) -> Data:
    for file in [*root.glob("*/*.bin")]:
        file.rename(root / file.name)
    return Data(root=str(root))


@pytest.mark.parametrize("place", PLACES)
def test_B10_a_test_batch_is_never_trained_on(tmp_path: Path, place: str) -> None:
    source = open_source(PLACES[place](lay(tmp_path)))
    assert len(source.training) == 100 and len(source.held_out) == 20
    test = np.frombuffer(records(20, seed=9), np.uint8).reshape(-1, 3073)[:, 1:].reshape(-1, 3, 32, 32)
    held = np.stack([source.read(int(at)) for at in source.held_out])
    assert (held == test.transpose(0, 2, 3, 1)).all()
    trained = {source.read(int(at)).tobytes() for at in source.training}
    assert not trained & {picture.tobytes() for picture in held}


@pytest.mark.parametrize("folder", ["cifar-10-verify-bin", "."])
def test_B10_a_test_batch_alone_trains_nothing(tmp_path: Path, folder: str) -> None:
    root = lay(tmp_path)
    for file in root.glob("cifar-10-batches-bin/*"):
        file.unlink()
    source = open_source(Data(root=str(root / folder)))
    assert len(source.training) == 0 and len(source.held_out) == 20 and source.own_split


def test_B10_training_files_as_val_are_refused(tmp_path: Path) -> None:
    root = lay(tmp_path)
    with pytest.raises(DataError, match="no CIFAR test files"):
        open_source(Data(root=str(root / "cifar-10-batches-bin"), val=str(root / "cifar-10-batches-bin")))
    with pytest.raises(DataError, match="no CIFAR test files"):
        open_source(Data(root=str(root / "cifar-10-verify-bin"), val=str(root / "cifar-10-batches-bin")))


def check_cifar(seed: int, root: Path) -> bool:
    """A binary batch cut, grown or with bytes changed: refused, or as many whole records with labels below 10."""
    random = np.random.default_rng(seed)
    data = bytearray(records(3, seed=1))
    kind = random.integers(3)
    if kind == 0:
        data = data[: int(random.integers(len(data)))]
    elif kind == 1:
        data += bytes(random.integers(0, 256, int(random.integers(1, 3074)), np.uint8))
    else:
        data[int(random.integers(3)) * 3073] = int(random.integers(256))
    (root / BATCH).write_bytes(data)
    try:
        source = open_source(Data(root=str(root)))
    except DataError as error:
        assert error.code == "V404"
        return False
    whole = len(data) % 3073 == 0 and all(label < 10 for label in data[::3073])
    assert whole and len(source.training) == 8 + len(data) // 3073
    return True


def test_B10_mutants_of_a_cifar_file_in_short(tmp_path: Path) -> None:
    root = lay(tmp_path, count=2)
    assert 0 < sum(check_cifar(seed, root) for seed in range(200)) < 100


@pytest.mark.prove
def test_B10_mutants_of_a_cifar_file(tmp_path: Path) -> None:
    root = lay(tmp_path, count=2)
    accepted = sum(check_cifar(seed, root) for seed in range(5_000))
    print(f"B10: 5,000 mutants of a CIFAR batch, {accepted:,} are whole records with labels in range")


@pytest.mark.parametrize("split", ["train", "val"])
def test_B10_a_class_folder_beside_cifar_stays_a_folder(tmp_path: Path, split: str) -> None:
    assert open_source(Data(root=str(class_folders(tmp_path, {split: 2, "test": 2})))).name == "folder"
