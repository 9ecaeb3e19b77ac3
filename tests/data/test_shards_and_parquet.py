"""Tar shards and Parquet: labels in every form, splits by name, and the same pictures as the folder they came from."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from PIL import Image

from tests.formats.archive_files import END, member, tar_of, wrongly_read
from vitrail.data.configs import Data
from vitrail.data.sources import Source, open_source
from vitrail.errors import DataError, PictureError
from vitrail.formats.parquet import GroupCache


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (5, 4), (value % 256, value // 256, 7)).save(out, "PNG")
    return out.getvalue()


def opened(root: Path | str, **settings: Any) -> Source:
    return open_source(Data(root=str(root), **settings))


def refused(code: str, root: Path | str) -> DataError:
    with pytest.raises(DataError) as caught:
        opened(root)
    assert caught.value.code == code, str(caught.value)
    assert caught.value.hint
    return caught.value


def shard(path: Path, rows: range, label: Callable[[int], Mapping[str, bytes]]) -> Path:
    """Samples number `rows`; label(i) gives the files beside the picture by their ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files = {f"{i:06d}{end}": data for i in rows for end, data in {".png": png(i), **label(i)}.items()}
    path.write_bytes(tar_of(files))
    return path


def cls(i: int) -> dict[str, bytes]:
    return {".cls": b"%d" % (i % 3)}


LABELS: dict[str, Callable[[int], dict[str, bytes]]] = {
    "number": cls,
    "name": lambda i: {".cls": b"class %d\n" % (i % 3)},
    "json": lambda i: {".json": json.dumps({"width": 5, "label": i % 3}).encode()},
    "json name": lambda i: {".json": json.dumps({"class_name": f"c{i % 3}"}).encode()},
    "bare json": lambda i: {".json": b"%d" % (i % 3)},
    "text": lambda i: {".txt": b"c%d" % (i % 3)},
    "cls before json": lambda i: {".json": b'{"label": 9}', ".cls": b"%d" % (i % 3), ".seg.png": b"x"},
}


@pytest.mark.parametrize("form", LABELS)
def test_labels_of_every_form(tmp_path: Path, form: str) -> None:
    for number in range(3):
        shard(tmp_path / f"{number:06d}.tar", range(number * 10, number * 10 + 10), LABELS[form])
    source = opened(tmp_path)
    assert source.name == "shards" and len(source.classes) == 3 and not source.own_split
    assert source.labels.tolist() == [i % 3 for i in range(30)]
    assert source.title(13) == "000001.tar/000013.png" and source.read(13)[0, 0, 0] == 13


@pytest.mark.parametrize("names", ["classes.txt", "classes.json", "numbered json", "named json"])
def test_names_of_numbers_beside_the_shards(tmp_path: Path, names: str) -> None:
    shard(tmp_path / "a-0.tar", range(9), cls)
    words = ["cat", "dog", "fox"]
    text = {
        "classes.txt": "cat\ndog\nfox\n\n", "classes.json": json.dumps(words),
        "numbered json": json.dumps({"1": "dog", "0": "cat", "2": "fox"}),
        "named json": json.dumps({"fox": 2, "cat": 0, "dog": 1}),
    }[names]  # fmt: skip
    (tmp_path / ("classes.txt" if names.endswith("txt") else "classes.json")).write_text(text)
    assert opened(tmp_path).classes == ("cat", "dog", "fox")


@pytest.mark.parametrize("layout", ["names", "folders"])
def test_words_of_the_path_say_what_is_held_out(tmp_path: Path, layout: str) -> None:
    sep = "/" if layout == "folders" else "-"
    shard(tmp_path / f"train{sep}000.tar", range(9), cls)
    shard(tmp_path / f"validation{sep}000.tar", range(9, 15), cls)
    shard(tmp_path / f"test{sep}000.tar", range(15, 18), cls)
    source = opened(tmp_path)
    assert source.own_split and len(source.training) == 9 and len(source.held_out) == 6
    assert any("left alone: 1 file `test`" in note for note in source.notes)
    assert source.read(int(source.held_out[0]))[0, 0, 0] == 9
    assert len(opened(tmp_path, held_out="test").held_out) == 3
    shard(tmp_path / f"extra{sep}000.tar", range(18, 20), cls)
    assert "extra" in refused("V402", tmp_path).what


def test_what_is_held_out_may_lie_elsewhere_and_names_may_be_given(tmp_path: Path) -> None:
    shard(tmp_path / "a" / "0.tar", range(9), cls)
    shard(tmp_path / "b" / "0.tar", range(9, 12), cls)
    source = opened(tmp_path / "a", val=str(tmp_path / "b"), classes=("cat", "dog", "fox"))
    assert source.classes == ("cat", "dog", "fox") and source.own_split
    assert source.title(int(source.held_out[0])) == "b/0.tar/000009.png"
    assert source.read(int(source.held_out[0]))[0, 0, 0] == 9


def test_a_pattern_and_a_single_shard(tmp_path: Path) -> None:
    for number in range(12):
        shard(tmp_path / f"s-{number:02d}.tar", range(3 * number, 3 * number + 3), cls)
    assert len(opened(tmp_path / "s-{00..10}.tar").labels) == 33
    assert len(opened(tmp_path / "s-{00..10}.tar").notes) and opened(tmp_path / "s-{02..03}.tar").read(0)[0, 0, 0] == 6
    assert "s-12.tar" in refused("V402", tmp_path / "s-{10..12}.tar").evidence[0]
    assert refused("V402", tmp_path / "s-{5..1}.tar")
    shard(tmp_path / "one" / "one.tar", range(30), cls)
    assert opened(tmp_path / "one" / "one.tar").name == "shards"


BAD: dict[str, bytes] = {
    "without a label": tar_of({"1.png": b"x", "2.png": b"x", "2.cls": b"1"}),
    "without a picture": tar_of({"1.cls": b"1", "2.png": b"x", "2.cls": b"1"}),
    "of two pictures": tar_of({"1.png": b"x", "1.jpg": b"x", "1.cls": b"1"}),
    "twice": tar_of({"1.png": b"x", "1.cls": b"1", "2.png": b"x", "2.cls": b"0", "./1.png": b"x", "./1.cls": b"1"}),
    "negative": tar_of({"1.png": b"x", "1.cls": b"-1"}),
    "huge": tar_of({"1.png": b"x", "1.cls": b"99999999"}),
    "no text": tar_of({"1.png": b"x", "1.cls": b"\xff\xfe"}),
    "empty": tar_of({"1.png": b"x", "1.cls": b" \n"}),
    "no JSON": tar_of({"1.png": b"x", "1.json": b"{"}),
    "JSON without": tar_of({"1.png": b"x", "1.json": b'{"caption": "cat"}'}),
    "a truth": tar_of({"1.png": b"x", "1.json": b'{"label": true}'}),
    "numbers and names": tar_of({"1.png": b"x", "1.cls": b"1", "2.png": b"x", "2.cls": b"cat"}),
    "a link": member(b"1.png", kind=b"2", link=b"/etc/passwd") + member(b"1.cls", b"1") + END,
    "cut": tar_of({"1.png": b"x" * 5000, "1.cls": b"1"})[:4000],
}


@pytest.mark.parametrize("name", BAD)
def test_B10_samples_that_do_not_stand_are_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "000000.tar").write_bytes(BAD[name])
    assert str(tmp_path) in refused("V404", tmp_path).what


def test_B10_the_list_of_names_must_hold_the_labels(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", range(9), cls)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert "there are 2 classes" in refused("V404", tmp_path).what
    (tmp_path / "classes.txt").write_text("cat\ndog\ncat\n")
    assert "twice" in refused("V405", tmp_path).what
    (tmp_path / "classes.txt").write_text("cat\n\ndog\n")
    assert refused("V404", tmp_path)
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "classes.json").write_text('{"a": 0, "b": 2}')
    assert "0, 1, 2" in refused("V404", tmp_path).what


def test_a_shard_that_changes_gives_bad_pictures(tmp_path: Path) -> None:
    path = shard(tmp_path / "0.tar", range(9), cls)
    source = opened(tmp_path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(PictureError, match=r"0\.tar/000004\.png"):
        source.read(4)


def table(path: Path, rows: range, *, group: int = 4, **columns: Any) -> Path:
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    values = columns or {"image": [{"bytes": png(i), "path": f"{i}.png"} for i in rows], "label": [i % 3 for i in rows]}
    parquet.write_table(pyarrow.table(values), path, row_group_size=group)
    return path


def test_parquet_as_hugging_face_writes_it(tmp_path: Path) -> None:
    from pyarrow import parquet

    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog", "fox"], "_type": "ClassLabel"}}
    note = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    for name, rows in (("data/train-00000-of-00002", range(9)), ("data/train-00001-of-00002", range(9, 18)),
                       ("data/validation-00000-of-00001", range(18, 24))):  # fmt: skip
        path = table(tmp_path / f"{name}.parquet", rows)
        parquet.write_table(parquet.read_table(path).replace_schema_metadata(note), path, row_group_size=4)
    source = opened(tmp_path)
    assert source.name == "parquet" and source.classes == ("cat", "dog", "fox")
    assert len(source.training) == 18 and len(source.held_out) == 6
    assert [int(source.read(i)[0, 0, 0]) for i in (0, 8, 9, 23)] == [0, 8, 9, 23]
    assert source.title(10) == "data/train-00001-of-00002.parquet:1"


@pytest.mark.parametrize("kind", ["bytes", "names", "dictionary"])
def test_parquet_with_plain_columns(tmp_path: Path, kind: str) -> None:
    labels: Any = [f"c{i % 3}" for i in range(9)] if kind != "bytes" else [i % 3 for i in range(9)]
    if kind == "dictionary":
        labels = pyarrow.array(labels).dictionary_encode()
    path = table(tmp_path / "x.pq", range(9), picture=[png(i) for i in range(9)], category=labels, note=["x"] * 9)
    source = opened(path)
    assert source.labels.tolist() == [i % 3 for i in range(9)] and source.read(7)[0, 0, 0] == 7


def test_parquet_refusals(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    table(path, range(3), a=[b"1", b"2", b"3"], b=[b"1", b"2", b"3"], label=[0, 1, 2])
    assert "a: binary" in refused("V402", path).evidence
    table(path, range(3), image=[b"1", b"2", b"3"])
    assert "labels" in refused("V402", path).what
    table(path, range(3), image=[b"1", b"2", b"3"], label=[0, None, 1])
    assert "row 1" in refused("V404", path).what
    table(path, range(3), image=[b"1", b"2", b"3"], label=[0, -1, 1])
    assert "label -1" in refused("V404", path).what
    path.write_bytes(path.read_bytes()[:-10] + b"\0" * 6 + b"PAR1")
    assert "pyarrow" in refused("V404", path).what
    path.write_bytes(b"PAR1")
    assert refused("V404", path)


def test_a_row_without_bytes_is_a_bad_picture(tmp_path: Path) -> None:
    rows = [
        {"bytes": png(0), "path": None},
        {"bytes": None, "path": "/etc/passwd"},
        None,
        {"bytes": png(3), "path": ""},
    ]
    source = opened(table(tmp_path / "x.parquet", range(4), image=rows, label=[0, 1, 0, 1]))
    for index in (1, 2):
        with pytest.raises(PictureError, match=f"parquet:{index}"):
            source.read(index)
    assert source.read(3)[0, 0, 0] == 3


def test_row_groups_are_read_once_by_many_threads_and_few_are_kept() -> None:
    loads: list[tuple[int, int]] = []

    class Group(list[bytes]):
        nbytes = 100

    def load(key: tuple[int, int]) -> Group:
        loads.append(key)
        return Group([b"%d" % key[1]] * 4)

    cache = GroupCache(load, limit=300)
    threads = [threading.Thread(target=lambda: [cache[0, g] for g in range(3)]) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(loads) == [(0, 0), (0, 1), (0, 2)]
    assert cache[0, 3][0] == b"3" and cache[0, 2][0] == b"2" and len(loads) == 4
    assert cache[0, 0][0] == b"0" and len(loads) == 5


def test_rows_of_parquet_from_many_threads(tmp_path: Path) -> None:
    source = opened(table(tmp_path / "x.parquet", range(64)))
    assert not wrongly_read(lambda index: bool(source.read(index)[0, 0, 0] == index), 64)
