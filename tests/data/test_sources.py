"""Every layout opens, and what does not stand is refused with place, value and way out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.data.configs import Data
from vitrail.data.order import split
from vitrail.data.sources import open_source, whole
from vitrail.errors import DataError
from vitrail.randomness import words


def fill(root: Path, counts: dict[str, int]) -> Path:
    """Class folders with small PNG files."""
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            Image.new("RGB", (9, 7), (40 * label, 10 * index, 5)).save(root / name / f"{index}.png")
    return root


def opened(root: Path, **settings: object) -> object:
    return open_source(Data(root=str(root), **settings))  # type: ignore[arg-type]


def refused(code: str, root: Path, **settings: object) -> DataError:
    with pytest.raises(DataError) as caught:
        opened(root, **settings)
    assert caught.value.code == code
    return caught.value


def test_one_folder_is_split_by_seed(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 10, "dog": 5})
    one, again, other = (open_source(Data(root=str(tmp_path)), seed=seed) for seed in (1, 1, 2))
    assert one.classes == ("cat", "dog") and one.name == "folder" and not one.own_split
    assert one.count(one.held_out).tolist() == [2, 1] and one.count(one.training).tolist() == [8, 4]
    assert one.held_out.tolist() == again.held_out.tolist() != other.held_out.tolist()
    assert one.fingerprint == other.fingerprint  # the split is the seed's, not the data's
    assert any("seed 1" in note for note in one.notes)
    assert one.read(0).shape == (7, 9, 3)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test", "Val"])
def test_train_and_held_out_folders(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "train", {"cat": 3, "dog": 3})
    fill(tmp_path / name, {"cat": 1, "dog": 2})
    source = open_source(Data(root=str(tmp_path)))
    assert source.own_split
    assert source.count(source.training).tolist() == [3, 3] and source.count(source.held_out).tolist() == [1, 2]
    assert source.title(int(source.held_out[0])) == f"{name}/cat/0.png"


def test_test_is_left_alone_beside_val(tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        fill(tmp_path / name, {"cat": 2, "dog": 2})
    source = open_source(Data(root=str(tmp_path)))
    assert len(source.labels) == 8
    assert any("left alone: `test`" in note for note in source.notes)


def test_a_train_folder_with_an_unknown_sibling_is_asked_about(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"cat": 2, "dog": 2})
    fill(tmp_path / "eval", {"cat": 2, "dog": 2})
    assert "`eval`" in refused("V402", tmp_path).what
    assert open_source(Data(root=str(tmp_path), val=str(tmp_path / "eval"))).own_split


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert open_source(Data(root=str(fill(tmp_path, {"bus": 2, "car": 2, "train": 2})))).classes == (
        "bus",
        "car",
        "train",
    )


def test_val_that_names_nothing_is_refused(tmp_path: Path) -> None:
    assert "data.val" in refused("V402", fill(tmp_path / "a", {"cat": 2}), val=str(tmp_path / "missing")).what
    assert "no CIFAR test files" in refused("V402", cifar10(tmp_path / "c"), val=str(tmp_path)).what
    with pytest.raises(DataError, match="built in"):
        open_source(Data(source="digits", root=str(tmp_path)))


def test_the_fingerprint_sees_a_changed_file(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 2, "dog": 2})
    before = open_source(Data(root=str(tmp_path))).fingerprint
    Image.new("RGB", (90, 70)).save(tmp_path / "cat" / "0.png")
    assert open_source(Data(root=str(tmp_path))).fingerprint != before


@pytest.mark.parametrize("part", [0.1, 0.2, 0.5, 0.9])
def test_the_split_takes_the_first_of_each_class_by_its_draw(part: float) -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), random.choice([0, 2, 3, 5, 10, 25], 12)).astype(np.int64)
    random.shuffle(labels)
    draw = words(7, "split", 0, np.arange(len(labels)), 1)[:, 0]
    held = split(labels, 12, part=part, seed=7, classes=[str(label) for label in range(12)])
    for label in range(12):
        mine = np.flatnonzero(labels == label)
        take = min(max(1, round(part * len(mine))), max(0, len(mine) - 1))
        assert sorted(mine[held[mine]]) == sorted(sorted(mine, key=lambda at: draw[at])[:take])


def test_val_may_lie_elsewhere(tmp_path: Path) -> None:
    source = open_source(
        Data(root=str(fill(tmp_path / "a", {"cat": 2, "dog": 2})), val=str(fill(tmp_path / "b", {"cat": 1, "dog": 1})))
    )
    assert source.own_split and len(source.held_out) == 2


def test_digits() -> None:
    source = open_source(Data(root="digits"))
    assert len(source.labels) == 1797 and source.classes == tuple("0123456789") and source.own_split
    # every fifth of each class: the counts of the classes divided by five, rounded down
    assert source.count(source.held_out).tolist() == (source.count(np.arange(1797)) // 5).tolist()
    assert source.memory is not None and source.memory.max() == 255 and source.memory.shape == (1797, 8, 8, 1)
    assert len(whole(source).held_out) == 1797


def test_class_order_is_by_bytes(tmp_path: Path) -> None:
    fill(tmp_path, {"é": 2, "b": 2, "Z": 2, "10": 2, "9": 2})
    assert open_source(Data(root=str(tmp_path))).classes == ("10", "9", "Z", "b", "é")


def test_names_that_are_not_text(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 2})
    odd = os.path.join(os.fsencode(tmp_path), b"do\xffg\n")
    os.mkdir(odd)
    for index in range(2):
        with open(os.path.join(odd, b"%d\xfe.png" % index), "wb") as file:
            Image.new("RGB", (3, 3)).save(file, "PNG")
    source = open_source(Data(root=str(tmp_path)))
    assert source.classes == ("cat", "do\\udcffg\\n")
    assert source.read(3).shape == (3, 3, 3)


def test_hidden_and_foreign_files_are_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, {"cat": 2, "dog": 2, ".git": 1})
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"x")
    source = open_source(Data(root=str(tmp_path)))
    assert source.classes == ("cat", "dog") and len(source.labels) == 4
    assert any("1 file" in note for note in source.notes)


def test_refusals(tmp_path: Path) -> None:
    assert "nothing lies at" in refused("V402", tmp_path / "missing").what
    (tmp_path / "text.zip").write_text("no archive")
    assert "no folder" in refused("V402", tmp_path / "text.zip").what
    (tmp_path / "empty").mkdir()
    assert "empty" in refused("V401", tmp_path / "empty").what
    fill(tmp_path / "hole", {"cat": 2, "dog": 0})
    assert "dog" in refused("V401", tmp_path / "hole").what
    fill(tmp_path / "case", {"cat": 2, "Cat": 2})
    assert "`Cat` and `cat`" in refused("V405", tmp_path / "case").what
    fill(tmp_path / "one", {"cat": 2, "dog": 1})
    assert "dog" in refused("V407", tmp_path / "one").what


def test_classes_must_be_the_same_in_val(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"cat": 2, "dog": 2})
    fill(tmp_path / "val", {"cat": 2, "fox": 2})
    error = refused("V403", tmp_path)
    assert "missing in val: dog" in error.evidence and "only in val: fox" in error.evidence


def test_links_stay_inside(tmp_path: Path) -> None:
    root = fill(tmp_path / "root", {"cat": 2, "dog": 2})
    (root / "dog" / "same.png").symlink_to(root / "dog" / "0.png")
    assert len(open_source(Data(root=str(root))).labels) == 5
    outside = fill(tmp_path / "outside", {"x": 1})
    (root / "dog" / "away.png").symlink_to(outside / "x" / "0.png")
    assert "leads out" in refused("V402", root).what
    (root / "dog" / "away.png").unlink()
    (root / "fox").symlink_to(outside / "x")
    assert "leads out" in refused("V402", root).what


def cifar10(root: Path, *, per_file: int = 20, names: bool = True) -> Path:
    """The binary layout with random pictures; label of record i is i % 10."""
    random = np.random.default_rng(0)
    for folder, files in (
        ("cifar-10-batches-bin", [f"data_batch_{i}.bin" for i in range(1, 6)]),
        ("cifar-10-verify-bin", ["test_batch.bin"]),
    ):
        (root / folder).mkdir(parents=True)
        for file in files:
            records = random.integers(0, 256, (per_file, 3073), np.uint8)
            records[:, 0] = np.arange(per_file) % 10
            (root / folder / file).write_bytes(records.tobytes())
    if names:
        (root / "cifar-10-batches-bin" / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n")
    return root


def test_cifar_binary_from_parent_and_folder(tmp_path: Path) -> None:
    root = cifar10(tmp_path)
    source = open_source(Data(root=str(root)))
    assert source.name == "cifar" and source.classes == tuple("abcdefghij")
    assert len(source.training) == 100 and len(source.held_out) == 20 and source.own_split
    record = (root / "cifar-10-batches-bin" / "data_batch_1.bin").read_bytes()[1:3073]
    planes = np.frombuffer(record, np.uint8).reshape(3, 32, 32)
    assert (source.read(0) == planes.transpose(1, 2, 0)).all()
    alone = open_source(Data(root=str(root / "cifar-10-batches-bin"), val=str(root / "cifar-10-verify-bin")))
    assert alone.fingerprint == source.fingerprint


def test_a_test_batch_is_never_trained_on(tmp_path: Path) -> None:
    root = cifar10(tmp_path)
    test = root / "cifar-10-verify-bin" / "test_batch.bin"
    test.rename(root / "cifar-10-batches-bin" / "test_batch.bin")
    source = open_source(Data(root=str(root / "cifar-10-batches-bin")))
    assert len(source.training) == 100 and len(source.held_out) == 20
    only_test = open_source(Data(root=str(tmp_path), source="cifar"))
    assert {only_test.title(int(i)).split("-")[0] for i in only_test.training} == {"train"}


def test_cifar_wrong_length_and_label(tmp_path: Path) -> None:
    root = cifar10(tmp_path)
    file = root / "cifar-10-batches-bin" / "data_batch_3.bin"
    good = file.read_bytes()
    file.write_bytes(good + b"x")
    assert "data_batch_3.bin" in refused("V404", root).what
    file.write_bytes(b"\x0b" + good[1:])
    assert refused("V404", root)


def test_cifar_of_the_reference_pictures(shared: Path, tmp_path: Path) -> None:
    """Python-2 pickles and binaries of the same pictures open equal."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("unpack", shared / "data" / "unpack.py")
    assert spec is not None and spec.loader is not None
    unpack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unpack)
    root = cifar10(tmp_path / "bin", names=False)
    py = tmp_path / "py" / "cifar-10-batches-py"
    py.mkdir(parents=True)
    (py / "batches.meta").write_bytes(unpack.python2_meta())
    for i in range(1, 6):
        records = np.frombuffer((root / f"cifar-10-batches-bin/data_batch_{i}.bin").read_bytes(), np.uint8)
        records = records.reshape(-1, 3073)
        labels, planes = np.tile(records[:, 0], 500), np.tile(records[:, 1:], (500, 1))  # the pickles hold 10,000
        (py / f"data_batch_{i}").write_bytes(unpack.python2_batch(f"batch {i}", labels, planes))
    pickled = open_source(Data(root=str(py)))
    binary = open_source(Data(root=str(root / "cifar-10-batches-bin")))
    assert pickled.classes == binary.classes
    assert (pickled.read(5) == binary.read(5)).all() and pickled.labels[:20].tolist() == binary.labels[:20].tolist()
