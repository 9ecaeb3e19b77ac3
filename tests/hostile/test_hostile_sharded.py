"""Hostile indexes of sharded weights: each item is a typed refusal; nothing outside the folder is opened."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.deeds import deeds
from vitrail.errors import VitrailError, WeightsError
from vitrail.formats import read_tensors, safetensors, sharded
from vitrail.formats.stored import Stored

INDEX = "model.safetensors.index.json"
A, B = "a.safetensors", "b.safetensors"
ONE = Stored("F32", (1,), b"abcd")
GOOD = {"weight_map": {"w": A, "v": B}}


def index(weight_map: object, **beside: object) -> bytes:
    return json.dumps({**beside, "weight_map": weight_map}).encode()


def place(shard: object) -> bytes:
    return index({"w": A, "v": shard})


# Refused by the index alone.
ITEMS: dict[str, bytes] = {
    # where a tensor is said to lie
    "../x": place("../secret.safetensors"),
    "..": place(".."),
    "absolute": place("/etc/passwd"),
    "absolute, right suffix": place("/tmp/a.safetensors"),
    "sub/x": place("sub/b.safetensors"),
    "sub/../x": place("sub/../b.safetensors"),
    "./x": place("./b.safetensors"),
    "a..b": place("a..safetensors"),
    "hidden": place(".b.safetensors"),
    "backslash": place("..\\b.safetensors"),
    "drive": place("C:b.safetensors"),
    "URL": place("https://example.com/b.safetensors"),
    "file URL": place("file:///etc/passwd"),
    "home": place("~/b.safetensors"),
    "variable": place("$HOME.safetensors"),
    "NUL": place("b.safetensors\0"),
    "newline": place("b.safetensors\n"),
    "blank": place("b b.safetensors"),
    "option": place("-b.safetensors"),
    "right-to-left": place("b\u202e.safetensors"),
    "full-width dots": place("．．／b.safetensors"),
    "empty name": place(""),
    "300 characters": place("b" * 300 + ".safetensors"),
    "number": place(3),
    "null": place(None),
    "list": place([B]),
    "itself": place(INDEX),
    "another index": place("b.safetensors.index.json"),
    "no suffix": place("b"),
    "pickle suffix": place("b.pkl"),
    "two kinds of files": place("b.bin"),
    "files equal but for case": index({"w": A, "v": "A.safetensors"}),
    # tensors
    "no tensors": index({}),
    "66,000 tensors": index({f"w{i}": A for i in range(66_000)}),
    "5,000 files": index({f"w{i}": f"{i}.safetensors" for i in range(5_000)}),
    "tensors equal but for case": index({"w": A, "W": B}),
    "tensor name ../x": index({"../w": A}),
    "tensor name with an escape": index({"\x1b[31m": A}),
    "tensor name empty": index({"": A}),
    "tensor name a surrogate": b'{"weight_map": {"\\ud800": "a.safetensors"}}',
    "tensor name 600 bytes": index({"w" * 600: A}),
    # the text
    "weight_map a list": index([["w", A]]),
    "weight_map twice": b'{"weight_map": {"w": "a.safetensors"}, "weight_map": {"v": "b.safetensors"}}',
    "tensor twice": b'{"weight_map": {"w": "a.safetensors", "w": "b.safetensors"}}',
    "tensor twice by escape": b'{"weight_map": {"w": "a.safetensors", "\\u0077": "b.safetensors"}}',
    "unknown key": index({"w": A}, code="import os"),
    "metadata a list": index({"w": A}, metadata=[]),
    "metadata null": index({"w": A}, metadata=None),
    "total a text": index({"w": A}, metadata={"total_size": "4"}),
    "total true": index({"w": A}, metadata={"total_size": True}),
    "total negative": index({"w": A}, metadata={"total_size": -1}),
    "total with a fraction": index({"w": A}, metadata={"total_size": 4.5}),
    "total NaN": b'{"metadata": {"total_size": NaN}, "weight_map": {"w": "a.safetensors"}}',
    "total 1e999": b'{"metadata": {"total_size": 1e999}, "weight_map": {"w": "a.safetensors"}}',
    "number of 10^6 digits": b'{"metadata": {"total_size": ' + b"9" * 10**6 + b'}, "weight_map": {"w": "x"}}',
    "100,000 nestings": b'{"weight_map": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nestings in objects": b'{"weight_map": {}, "metadata": ' + b'{"a":' * 500 + b"1" + b"}" * 501,
    "a million lists": b'{"weight_map": {}, "metadata": [' + b"[]," * 10**6 + b"1]}",
    "17 MiB": index({"w": A}) + b" " * (17 << 20),
    "17 MiB of text": index({"w": "x" * (17 << 20)}),
    "not UTF-8": b'{"weight_map": {"w": "\xff.safetensors"}}',
    "UTF-16": '{"weight_map": {"w": "a.safetensors"}}'.encode("utf-16"),
    "cut off": index(GOOD["weight_map"])[:-1],
    "two objects": index(GOOD["weight_map"]) * 2,
    "comma at the end": b'{"weight_map": {"w": "a.safetensors",}}',
    "comment": b'{"weight_map": {"w": "a.safetensors"} /* */}',
    "byte order mark": b"\xef\xbb\xbf" + index(GOOD["weight_map"]),
    "a list": b'[{"weight_map": {}}]',
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good set of two files, and a secret beside their folder."""
    safetensors.write(tmp_path / "secret.safetensors", {"v": ONE})
    inside = tmp_path / "model"
    inside.mkdir()
    safetensors.write(inside / A, {"w": ONE})
    safetensors.write(inside / B, {"v": ONE})
    (inside / INDEX).write_text(json.dumps(GOOD))
    assert list(read_tensors(inside)[0]) == ["w", "v"]
    return inside


@pytest.mark.parametrize("item", ITEMS)
def test_C03_hostile_index_is_refused_before_any_other_file_is_opened(
    item: str, folder: Path, refused: Callable[[Callable[[Path], object], Path], VitrailError]
) -> None:
    path = folder / INDEX
    path.write_bytes(ITEMS[item])
    assert refused(sharded.read, path).code in ("V201", "V202", "V206")
    with pytest.raises(VitrailError):
        read_tensors(folder)


def test_C03_list_is_broad() -> None:
    assert len(ITEMS) >= 55
    assert len(set(ITEMS.values())) == len(ITEMS)


def _missing(folder: Path) -> None:
    (folder / B).unlink()


def _link_out(folder: Path) -> None:
    (folder / B).unlink()
    (folder / B).symlink_to("../secret.safetensors")


def _link_inside(folder: Path) -> None:
    (folder / B).rename(folder / "c.safetensors")
    (folder / B).symlink_to("c.safetensors")


def _link_to_nothing(folder: Path) -> None:
    (folder / B).unlink()
    (folder / B).symlink_to("absent")


def _link_loop(folder: Path) -> None:
    (folder / B).unlink()
    (folder / B).symlink_to(B)


def _hard_link(folder: Path) -> None:
    (folder / B).unlink()
    os.link(folder.parent / "secret.safetensors", folder / B)


def _pipe(folder: Path) -> None:
    (folder / B).unlink()
    os.mkfifo(folder / B)


def _folder(folder: Path) -> None:
    (folder / B).unlink()
    (folder / B).mkdir()


def _device(folder: Path) -> None:
    (folder / B).unlink()
    (folder / B).symlink_to("/dev/zero")


def _index_in_place(folder: Path) -> None:
    (folder / B).write_bytes((folder / INDEX).read_bytes())


def _foreign(folder: Path) -> None:
    safetensors.write(folder / B, {"u": ONE})


def _tensor_too_many(folder: Path) -> None:
    safetensors.write(folder / B, {"v": ONE, "u": ONE})


def _tensor_in_two_files(folder: Path) -> None:
    safetensors.write(folder / B, {"v": ONE, "w": ONE})


def _swapped(folder: Path) -> None:
    (folder / A).rename(folder / "c")
    (folder / B).rename(folder / A)
    (folder / "c").rename(folder / B)


def _other_container(folder: Path) -> None:
    import torch

    torch.save({"v": torch.zeros(1)}, folder / B)


def _cut(folder: Path) -> None:
    (folder / B).write_bytes((folder / B).read_bytes()[:-1])


def _empty(folder: Path) -> None:
    (folder / B).write_bytes(b"")


def _total_too_large(folder: Path) -> None:
    (folder / INDEX).write_bytes(index(GOOD["weight_map"], metadata={"total_size": 9}))


def _total_too_small(folder: Path) -> None:
    (folder / INDEX).write_bytes(index(GOOD["weight_map"], metadata={"total_size": 4}))


def _beyond_the_limit(folder: Path) -> None:
    os.truncate(folder / B, (64 << 30) + 1)  # sparse


FOLDERS = {
    f.__name__.strip("_"): f
    for f in (
        _missing, _link_out, _link_inside, _link_to_nothing, _link_loop, _hard_link, _pipe, _folder, _device,
        _index_in_place, _foreign, _tensor_too_many, _tensor_in_two_files, _swapped, _other_container, _cut, _empty,
        _total_too_large, _total_too_small, _beyond_the_limit,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_C09_hostile_folder_is_refused(name: str, folder: Path) -> None:
    FOLDERS[name](folder)
    before = len(os.listdir("/proc/self/fd"))
    with deeds() as seen, pytest.raises(VitrailError) as caught:
        read_tensors(folder)
    assert caught.value.code in ("V201", "V202", "V702") and caught.value.hint
    assert {what for event, what in seen if event == "open"} <= {str(folder / INDEX), str(folder), A, B}
    del caught
    assert len(os.listdir("/proc/self/fd")) == before


def test_C09_a_link_beside_a_plain_index_is_never_followed(folder: Path) -> None:
    _link_inside(folder)
    with pytest.raises(WeightsError, match="is a link") as caught:
        read_tensors(folder)
    assert caught.value.code == "V202"


def test_C11_a_link_that_becomes_a_file_meanwhile_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def became_a_file(path: object) -> str:
        raise OSError(22, "Invalid argument")

    _link_inside(folder)
    monkeypatch.setattr(os.path, "realpath", became_a_file)
    with pytest.raises(VitrailError) as caught:
        read_tensors(folder)
    assert caught.value.code == "V702"
