"""Each layout that people have opens with the same pictures under the same labels, and says what was understood."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.data.layouts import SYNSETS, class_folders, flowers, imagenet, matlab, matlab_row, png
from vitrail.class_names import class_names
from vitrail.class_names import flowers as flower_names
from vitrail.data.augment.pictures import wants_originals
from vitrail.data.configs import Augment, Data, NoCrop
from vitrail.data.loader import TrainLoader, evaluation_batches
from vitrail.data.sources import Source, from_arrays, open_source
from vitrail.errors import DataError
from vitrail.formats import npz
from vitrail.formats.stored import Stored
from vitrail.pictures.policy import Policy

WORDS = class_names("imagenet1k")[:3]


def opened(root: Path | str, **settings: object) -> Source:
    return open_source(Data(root=str(root), **settings))  # type: ignore[arg-type]


def refused(code: str, root: Path | str, **settings: object) -> DataError:
    with pytest.raises(DataError) as caught:
        opened(root, **settings)
    assert caught.value.code == code, caught.value
    return caught.value


def said(source: Source, text: str) -> bool:
    return any(text in note for note in source.notes)


# Folders


@pytest.mark.parametrize(("parts", "taken"), [(("val",), "val"), (("test",), "test"), (("test", "Val"), "Val")])
def test_a_part_alone_is_measured_by_and_not_trained_on(tmp_path: Path, parts: tuple[str, ...], taken: str) -> None:
    for part in parts:
        class_folders(tmp_path / part, {"a": 3, "b": 2})
    source = opened(tmp_path)
    assert len(source.training) == 0 and len(source.held_out) == len(source.labels) > 0
    assert source.classes == opened(tmp_path / taken).classes
    assert said(source, f"`{taken}` held out") and said(source, "left alone: `test`") == (len(parts) == 2)


# ImageNet


@pytest.mark.parametrize("beside", [True, False])
def test_imagenet_with_a_flat_val(tmp_path: Path, beside: bool) -> None:
    source = opened(imagenet(tmp_path, beside=beside))
    assert source.name == "imagenet" and source.own_split and source.classes == WORDS == ("tench", "goldfish", WORDS[2])
    assert source.labels[source.training].tolist() == [0, 0, 1, 1, 2, 2]
    assert source.labels[source.held_out].tolist() == [0, 1, 2, 0, 1, 2]
    assert source.title(int(source.held_out[0])) == "val/ILSVRC2012_val_00000001.JPEG"
    assert said(source, "`train` to train on, `val` held out") and said(source, "n01440764: tench")


FORMS = {
    "without the ending": "".join(f"ILSVRC2012_val_{n + 1:08d} {n % 3}\n" for n in range(6)),
    "synsets": "".join(f"ILSVRC2012_val_{n + 1:08d}.JPEG {SYNSETS[n % 3]}\n" for n in range(6)),
    "with the folder": "".join(f"val/ILSVRC2012_val_{n + 1:08d}.JPEG {n % 3}\n" for n in range(6)),
    "tabs": "".join(f"ILSVRC2012_val_{n + 1:08d}.JPEG\t{n % 3}\n" for n in range(6)),
    "CRLF": "".join(f"ILSVRC2012_val_{n + 1:08d}.JPEG {n % 3}\r\n" for n in range(6)),
    "BOM": "\ufeff" + "".join(f"ILSVRC2012_val_{n + 1:08d}.JPEG {n % 3}\n" for n in range(6)),
    "no newline at the end": "".join(f"ILSVRC2012_val_{n + 1:08d}.JPEG {n % 3}\n" for n in range(6))[:-1],
    "blank lines at the end": "".join(f"ILSVRC2012_val_{n + 1:08d}.JPEG {n % 3}\n" for n in range(6)) + "\n\r\n\n",
    "another order": "".join(f"ILSVRC2012_val_{n + 1:08d}.JPEG {n % 3}\n" for n in (5, 0, 3, 1, 4, 2)),
}


@pytest.mark.parametrize("form", FORMS)
def test_HD08_forms_of_a_list_that_are_understood(tmp_path: Path, form: str) -> None:
    source = opened(imagenet(tmp_path, FORMS[form]))
    assert source.labels[source.held_out].tolist() == [0, 1, 2, 0, 1, 2]


def test_a_flat_val_alone(tmp_path: Path) -> None:
    imagenet(tmp_path, train=False)
    for place in (tmp_path, tmp_path / "val"):  # the list lies in it, or beside it
        source = opened(place)
        assert source.classes == class_names("imagenet1k") and source.labels.tolist() == [0, 1, 2, 0, 1, 2]
        assert len(source.held_out) == 6 and source.own_split  # made to measure by, not to train on


def test_a_flat_val_as_data_val(tmp_path: Path) -> None:
    imagenet(tmp_path)
    whole = opened(tmp_path)
    apart = opened(tmp_path / "train", val=str(tmp_path / "val"))
    assert apart.classes == whole.classes and apart.labels.tolist() == whole.labels.tolist()
    assert [apart.title(int(at)) for at in apart.held_out] == [whole.title(int(at)) for at in whole.held_out]
    beside_root = opened(tmp_path, val=str(tmp_path / "val"))
    assert beside_root.labels.tolist() == whole.labels.tolist()


def test_numbers_without_names_are_asked_about(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    for number in range(4):
        (tmp_path / "val" / f"{number}.png").write_bytes(png(number))
    (tmp_path / "val_label.txt").write_text("0 0\n1 1\n2 0\n3 1\n")
    assert "which classes they count" in refused("V402", tmp_path).what
    assert opened(tmp_path, classes=("cat", "dog")).labels.tolist() == [0, 1, 0, 1]
    assert opened(tmp_path, classes="imagenet1k").classes[:2] == ("tench", "goldfish")
    (tmp_path / "val_label.txt").write_text("0 cat\n1 dog\n2 cat\n3 dog\n")
    assert opened(tmp_path).classes == ("cat", "dog")


# tables


def table(root: Path, text: str | bytes, name: str = "photos.csv") -> Path:
    class_folders(root / "a", {"cat": 3, "dog": 3})
    (root / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return root / name


ROWS = [f"a/{name}/{name}_{n}.png,{name}" for name in ("cat", "dog") for n in range(3)]
TABLES = {
    "csv": ("x.csv", "path,label\n" + "\n".join(ROWS) + "\n"),
    "other columns": ("x.csv", "id,label,path\n" + "\n".join(f"7,{r.split(',')[1]},{r.split(',')[0]}" for r in ROWS)),
    "filename and class": ("x.csv", "filename,class\n" + "\n".join(ROWS)),
    "semicolons": ("x.csv", "path;label\n" + "\n".join(r.replace(",", ";") for r in ROWS)),
    "tsv": ("x.tsv", "path\tlabel\n" + "\n".join(r.replace(",", "\t") for r in ROWS)),
    "BOM and CRLF": ("x.csv", "\ufeffPath,Label\r\n" + "\r\n".join(ROWS) + "\r\n"),
    "quoted": ("x.csv", '"path","label"\n' + "\n".join('"' + r.replace(",", '","') + '"' for r in ROWS)),
    "a dot before": ("x.csv", "path,label\n" + "\n".join("./" + r for r in ROWS)),
}


@pytest.mark.parametrize("form", TABLES)
def test_tables(tmp_path: Path, form: str) -> None:
    name, text = TABLES[form]
    source = opened(table(tmp_path, text, name))
    assert source.name == "table" and source.classes == ("cat", "dog") and not source.own_split
    assert source.labels.tolist() == [0, 0, 0, 1, 1, 1] and source.title(3) == "a/dog/dog_0.png"
    assert (source.read(0) == opened(tmp_path / "a").read(0)).all()


def test_a_table_in_its_folder_and_beside_class_folders(tmp_path: Path) -> None:
    table(tmp_path, TABLES["csv"][1])
    assert opened(tmp_path).name == "table"  # one folder of pictures below: no classes to tell apart
    (tmp_path / "a" / "photos.csv").write_text("path,label\ncat/cat_0.png,x\n")
    assert opened(tmp_path / "a").name == "folder"
    assert refused("V407", tmp_path / "a", source="table").code
    (tmp_path / "second.csv").write_text("path,label\n")
    assert "one table is wanted" in refused("V402", tmp_path, source="table").what


def test_a_split_column(tmp_path: Path) -> None:
    splits = ("train", "val", "test", "train", "validation", "Test")
    text = "path,label,split\n" + "\n".join(f"{row},{split}" for row, split in zip(ROWS, splits, strict=True))
    error = refused("V404", table(tmp_path / "one", text.replace("validation", "dev")))
    assert error.evidence[0].startswith("line 6: split `dev` is none of train")
    path = table(tmp_path, text.replace("validation", "val"))
    source = opened(path)
    assert source.own_split and [len(source.training), len(source.held_out)] == [2, 2]
    assert said(source, "split `val` held out") and said(source, "left alone: split `test`")
    test = opened(path, held_out="test")
    assert [test.title(int(at)) for at in test.held_out] == ["a/cat/cat_2.png", "a/dog/dog_2.png"]


def test_every_bad_line_is_told(tmp_path: Path) -> None:
    text = "path,label\na/cat/cat_0.png,cat\n../x.png,cat\n/etc/passwd,cat\na/cat/none.png,cat\na/cat/cat_0.png,dog\n"
    text += "a/cat/cat_1.png\n\na/cat/cat_2.png,cat,extra\n,cat\na/dog/dog_0.png,\n"
    text += 'a/dog/dog_1.png,"two\nlines"\na/dog/../dog/dog_2.png,dog\n'
    error = refused("V404", table(tmp_path, text))
    assert "10 problems" in error.what
    lines = dict(line.split(": ", 1) for line in error.evidence)
    assert "leads out" in lines["line 3"] and "leads out" in lines["line 4"] and "no file" in lines["line 5"]
    assert "line 2 already" in lines["line 6"] and "1 field," in lines["line 7"] and "3 fields" in lines["line 9"]


def test_many_bad_lines_are_counted_with_their_numbers(tmp_path: Path) -> None:
    error = refused("V404", table(tmp_path, "path,label\n" + "".join(f"no{n}.png,cat\n" for n in range(30))))
    assert len(error.evidence) == 21 and error.evidence[-1].startswith("and 10 more, in lines 22, 23")


BAD_TABLES = {
    "empty": b"", "no header": b"a/cat/cat_0.png,cat\n", "header alone": b"path,label\n",
    "zero bytes": b"path,label\n\0",
    "an open quote": b'path,label\n"a/cat/cat_0.png,cat\n', "a quote inside": b'path,label\n"a"b,cat\n',
    "a field of 1 MB": b"path,label\n" + b"x" * (1 << 20) + b",cat\n",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TABLES)
def test_tables_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        opened(table(tmp_path, BAD_TABLES[name]))
    assert caught.value.code in ("V401", "V404") and "photos.csv" in caught.value.what


def test_a_table_whose_names_are_not_text(tmp_path: Path) -> None:
    name = b"a/\xff\xe9.png"
    (tmp_path / "a").mkdir()
    for file in (name, b"a/1.png", b"a/2.png", b"a/3.png"):
        with open(os.path.join(os.fsencode(tmp_path), file), "wb") as out:
            out.write(png())
    (tmp_path / "x.csv").write_bytes(b"path,label\n" + name + b",\xe9\na/1.png,\xe9\na/2.png,b\na/3.png,b\n")
    source = opened(tmp_path / "x.csv")
    assert source.classes == ("\\udce9", "b") and source.title(0) == os.fsdecode(name)
    assert source.read(0).shape == (7, 9, 3)


def test_two_tables_in_a_folder_are_asked_about_and_never_read_as_one_class(tmp_path: Path) -> None:
    class_folders(tmp_path, {"pics": 3})
    for name in ("one.csv", "two.tsv"):
        (tmp_path / name).write_text("path,label\npics/pics_0.png,a\n".replace(",", "\t" if name[-3] == "t" else ","))
    (tmp_path / "prices.csv").write_text("item,price\n")
    error = refused("V402", tmp_path)
    assert "`one.csv`, `two.tsv`" in error.what and "name the file" in error.hint
    (tmp_path / "two.tsv").unlink()
    assert refused("V407", tmp_path).code  # the one that is left is taken: its class has one picture


def test_a_table_as_data_val(tmp_path: Path) -> None:
    table(tmp_path, "path,label\na/dog/dog_0.png,dog\na/cat/cat_0.png,cat\n")
    source = opened(tmp_path / "a", val=str(tmp_path / "photos.csv"))
    assert source.labels[source.held_out].tolist() == [1, 0] and len(source.training) == 6
    table(tmp_path, "path,label\na/dog/dog_0.png,1\na/cat/cat_0.png,0\n")  # numbers count the classes of the root
    assert opened(tmp_path / "a", val=str(tmp_path / "photos.csv")).labels[-2:].tolist() == [1, 0]
    table(tmp_path, "path,label\na/dog/dog_0.png,dgo\na/cat/cat_0.png,cat\n")
    assert "did you mean `dog`?" in refused("V404", tmp_path / "a", val=str(tmp_path / "photos.csv")).evidence[0]


# flowers


def test_flowers_as_published(tmp_path: Path) -> None:
    source = opened(flowers(tmp_path))
    assert source.name == "flowers102" and source.classes == flower_names() and source.own_split
    assert (len(source.training), len(source.held_out)) == (102, 102)
    first = int(source.training[0])
    assert source.title(first) == "jpg/image_00001.jpg" and source.classes[source.labels[first]] == "pink primrose"
    assert said(source, "102 pictures of tstid left alone")
    test = opened(tmp_path, held_out="test")
    assert test.title(int(test.held_out[0])) == "jpg/image_00205.jpg"


def test_flowers_that_do_not_stand(tmp_path: Path) -> None:
    root = flowers(tmp_path)
    labels = (root / "imagelabels.mat").read_bytes()
    for bad in ([0, 1], [103, 1]):
        (root / "imagelabels.mat").write_bytes(matlab(matlab_row("labels", bad)))
        assert "expected 1 to 102" in refused("V404", root).what
    (root / "imagelabels.mat").write_bytes(matlab(matlab_row("label", [1])))
    assert "`labels` is absent" in refused("V404", root).what
    (root / "imagelabels.mat").write_bytes(bytes(2 << 20))
    assert "the limit is" in refused("V404", root).what
    (root / "imagelabels.mat").write_bytes(labels)
    (root / "jpg" / "image_00003.jpg").unlink()
    assert "1 of 204 pictures are missing" in refused("V404", root).what
    parts = [matlab_row(name, part) for name, part in (("trnid", [1, 2]), ("valid", [2]), ("tstid", [3]))]
    (root / "setid.mat").write_bytes(matlab(*parts))
    assert "2 twice" in refused("V404", root).what
    parts[1] = matlab_row("valid", [999])
    (root / "setid.mat").write_bytes(matlab(*parts))
    assert "number 999 of 1 to 306" in refused("V404", root).what


# arrays


def pictures(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), np.uint8)


def test_arrays_in_memory() -> None:
    source = from_arrays(pictures(10, 8, 8), [0, 1] * 5, ["cat", "dog"], val=(pictures(4, 8, 8), [0, 0, 1, 1]))
    assert source.memory is not None and source.memory.shape == (14, 8, 8, 1)
    assert source.labels[source.held_out].tolist() == [0, 0, 1, 1] and source.classes == ("cat", "dog")
    drawn = from_arrays(pictures(10, 8, 8, 3), np.array([[0], [1]] * 5, np.uint8))
    assert drawn.classes == ("0", "1") and len(drawn.held_out) == 2


BAD_ARRAYS = {
    "floats": (np.zeros((2, 8, 8)), [0, 1]), "two channels": (np.zeros((2, 8, 8, 2), np.uint8), [0, 1]),
    "no pictures": (np.zeros((0, 8, 8), np.uint8), []), "one label": (pictures(2, 8, 8), [0]),
    "negative": (pictures(2, 8, 8), [0, -1]), "float labels": (pictures(2, 8, 8), [0.0, 1.0]),
    "labels of one hot": (pictures(2, 8, 8), [[0, 1], [1, 0]]), "beyond the names": (pictures(2, 8, 8), [0, 2]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_arrays_that_do_not_fit(name: str) -> None:
    images, labels = BAD_ARRAYS[name]
    with pytest.raises(DataError) as caught:
        from_arrays(images, labels, ["cat", "dog"])
    assert caught.value.code == "V404"


def test_npz_as_keras_has_it(tmp_path: Path) -> None:
    arrays = {
        "x_train": pictures(20, 8, 8, 3), "y_train": np.arange(20, dtype=np.int64)[:, None] % 10,
        "x_test": pictures(10, 8, 8, 3), "y_test": np.arange(10, dtype=np.uint8), "exact": np.zeros(3, np.float32),
    }  # fmt: skip
    np.savez(tmp_path / "x.npz", **arrays)
    source = opened(tmp_path / "x.npz")
    assert source.name == "arrays" and (len(source.training), len(source.held_out)) == (20, 10)
    assert (source.read(21) == arrays["x_test"][1]).all() and said(source, "left alone")
    named = opened(tmp_path / "x.npz", classes=tuple("0123456789"), rename=None)
    assert named.classes == tuple("0123456789")
    assert opened(tmp_path / "x.npz", rename={str(n): f"c{9 - n}" for n in range(10)}).classes[0] == "c9"
    words = tuple(f"w{number}" for number in range(12))
    named = opened(tmp_path / "x.npz", classes=words)
    assert named.classes == words and named.labels.tolist() == source.labels.tolist()
    for label in (-3, 1_000_000):
        np.savez(tmp_path / "l.npz", x_train=arrays["x_train"], y_train=np.full(len(arrays["x_train"]), label))
        assert f"a label is {label}" in refused("V404", tmp_path / "l.npz").what
    npz.write(tmp_path / "w.npz", {"x_train": Stored("U8", (1,), b"a")})
    assert "`y_train` alone" in refused("V404", tmp_path / "w.npz").what
    (tmp_path / "w.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:-40])
    assert refused("V404", tmp_path / "w.npz")


# all of them together


@pytest.mark.parametrize("most", [6, pytest.param(1000, marks=pytest.mark.prove)])  # of a class; there are at most 250
def test_the_same_pictures_in_every_layout_give_equal_first_batches(tmp_path: Path, shared: Path, most: int) -> None:
    """Tiny-ImageNet-20: class folders, a flat val with a list, a table."""
    import tarfile

    with tarfile.open(shared / "data" / "photos" / "tinyimagenet20.tar") as archive:
        members = [m for m in archive.getmembers() if m.isfile()]
        root = tmp_path / "folders"
        taken: dict[str, int] = {}
        kept = []
        for member in sorted(members, key=lambda m: os.fsencode(m.name)):
            part, label, name = member.name.split("/")[-3:]
            key = f"{part}/{label}"
            if part not in ("train", "val") or taken.setdefault(key, 0) >= most:
                continue
            taken[key] += 1
            data = archive.extractfile(member)
            assert data is not None
            place = root / part / label / f"{label}_{name.removeprefix(label + '_')}"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data.read())
            kept.append((part, label, place))
    assert len(taken) == 40
    flat = tmp_path / "flat"
    (flat / "val").mkdir(parents=True)
    (flat / "train").symlink_to(root / "train")
    lines = []
    for part, label, place in kept:
        if part == "val":
            (flat / "val" / place.name).write_bytes(place.read_bytes())
            lines.append(f"{place.name} {label}")
    (flat / "val_label.txt").write_text("\n".join(lines))
    text = "".join(f"{place.relative_to(root).as_posix()},{label},{part}\n" for part, label, place in kept)
    (root / "all.csv").write_text("path,label,split\n" + text)
    sources = [opened(root), opened(flat, follow_outside=True), opened(root / "all.csv")]
    assert [source.name for source in sources] == ["folder", "imagenet", "table"]
    policy, augment = Policy(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3), Augment(flip=0.5)
    assert isinstance(augment.crop, NoCrop) and not wants_originals(augment)
    training, held_out = [], []
    for source in sources:
        loader = TrainLoader(source, policy, augment, Data(batch=32, workers=0), 3)
        training.append(next(iter(loader.iterate(0, 1))))
        held_out.append(next(iter(evaluation_batches(source, source.held_out, policy, batch=32, workers=0))))
    for batches in (training, held_out):
        for batch in batches[1:]:
            assert (batch.images == batches[0].images).all() and (batch.labels == batches[0].labels).all()
    assert all(source.classes == sources[0].classes for source in sources)


@pytest.mark.parametrize(
    ("pictures_", "batch", "steps"),
    [(50_000, 32, 1562), (50_000, 64, 781), (1_281_167, 1024, 1251), (1_281_167, 512, 2502)],
)
def test_the_steps_of_an_epoch_are_those_of_the_seeds(pictures_: int, batch: int, steps: int) -> None:
    def unread(index: int) -> bytes:
        raise AssertionError("no picture is needed to count")

    everything = np.arange(pictures_, dtype=np.int64)
    source = Source(
        "labels", "labels", ("a", "b"), everything % 2, everything, everything[:0], unread, str, None, (), (), True, ""
    )
    assert (
        TrainLoader(
            source, Policy(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3), Augment(), Data(batch=batch), 0
        ).steps_per_epoch
        == steps
    )
