"""Files that are swapped while they are read: the bytes that are used are the bytes that were checked, or a refusal."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hostile import tensorflow_files as tf
from tests.hostile.forked import forking
from tests.hostile.mutants import model
from tests.hostile.test_hostile_torch_legacy import legacy
from vitrail.disk import sha256_file
from vitrail.errors import VitrailError
from vitrail.formats import hdf5, mindspore, npz, read_tensors, safetensors
from vitrail.formats.stored import Stored
from vitrail.weights import torch_file

ONE, TWO, EVIL = b"ones" * 4, b"twos" * 4, b"evil" * 4
CODES = ("V201", "V202", "V206", "V702")
INDEX = {"weight_map": {"v": "a.safetensors", "w": "b.safetensors"}}


def stored(data: bytes) -> Stored:
    return Stored("F32", (4,), data)


def _keras(path: Path, data: bytes) -> None:
    hdf5.write(path, {"w": stored(data)})
    path.write_bytes(model(path.read_bytes()))


def _checkpoint(path: Path, data: bytes) -> None:
    index = tf.table([[(b"", tf.header()), (b"w", tf.entry([4], data))]])
    tf.write(path.with_suffix(""), index, data)


def _sharded(path: Path, data: bytes) -> None:
    path.write_text(json.dumps(INDEX))
    safetensors.write(path.with_name("a.safetensors"), {"v": stored(data)})
    safetensors.write(path.with_name("b.safetensors"), {"w": stored(data)})


# container -> (the file to read, who writes it and what lies beside it)
WRITERS: dict[str, tuple[str, Callable[[Path, bytes], object]]] = {
    "safetensors": ("x.safetensors", lambda path, data: safetensors.write(path, {"w": stored(data)})),
    "npz": ("x.npz", lambda path, data: npz.write(path, {"w": stored(data)})),
    "torch_zip": ("x.pth", lambda path, data: torch_file.write(path, {"w": stored(data)})),
    "torch_legacy": ("x.pth", lambda path, data: path.write_bytes(legacy(storages={"0": data}))),
    "mindspore": ("x.ckpt", lambda path, data: mindspore.write(path, {"w": stored(data)}, crc=True)),
    "tensorflow": ("m.index", _checkpoint),
    "sharded": ("model.safetensors.index.json", _sharded),
    "hdf5": ("x.h5", lambda path, data: hdf5.write(path, {"w": stored(data)})),
    "keras_zip": ("x.keras", _keras),
}
SLOW = ("hdf5", "keras_zip")  # a process for each file
QUICK, FULL = 300, 28_000  # loads of each of the others


def loads(name: str, full: bool = True) -> int:
    return (2_000 if full else 30) if name in SLOW else (FULL if full else QUICK)


def sources(folder: Path, name: str) -> dict[str, list[Path]]:
    """Every file that is swapped -> what takes its place in turn: two honest files, halves, nothing, links."""
    file, write = WRITERS[name]
    for kind, data in (("one", ONE), ("two", TWO), ("evil", EVIL)):
        (folder / kind).mkdir()
        write(folder / kind / file, data)
    places: dict[str, list[Path]] = {}
    for path in sorted((folder / "one").iterdir()):
        half, empty, link = (folder / f"{path.name}.{kind}" for kind in ("half", "empty", "link"))
        half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        empty.touch()
        link.symlink_to(folder / ("two" if path.name == file else "evil") / path.name)
        two = folder / "two" / path.name
        places[path.name] = [
            path,
            link,
            two,
            half,
            path,
            empty,
            two,
        ]  # an honest one last: others are swapped meanwhile
    return places


@contextlib.contextmanager
def swapping(live: Path, places: dict[str, list[Path]]) -> Iterator[None]:
    """Another process puts one file after the other in place, as fast as it can."""
    for name, paths in places.items():
        shutil.copy(paths[0], live / name)
    process = os.fork()
    if process == 0:
        with contextlib.suppress(BaseException):
            aside = live.with_name("aside")
            while True:
                for name, paths in places.items():
                    for path in paths:
                        shutil.copy(path, aside, follow_symlinks=False)
                        os.replace(aside, live / name)
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        yield
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def race(name: str, count: int, folder: Path) -> tuple[int, int]:
    """How many loads gave the right bytes, how many were refused."""
    places = sources(folder, name)
    path = folder / "live" / WRITERS[name][0]
    path.parent.mkdir()
    known = sha256_file(folder / "one" / path.name) if len(places) == 1 else None
    right = refused = 0
    with swapping(path.parent, places), forking() if name in SLOW else contextlib.nullcontext():
        for number in range(count):
            hashed = known is not None and number % 2 == 1
            try:
                tensors, _, _ = read_tensors(path, known if hashed else None)
            except VitrailError as error:
                assert error.code in CODES, error
                refused += 1
                continue
            found = {bytes(tensor.data) for tensor in tensors.values()}
            assert found <= ({ONE} if hashed else {ONE, TWO})
            right += 1
    return right, refused


@pytest.mark.parametrize("name", WRITERS)
def test_C11_the_bytes_used_are_the_bytes_checked(name: str, tmp_path: Path) -> None:
    right, refused = race(name, loads(name, full=False), tmp_path)
    assert right + refused == loads(name, full=False)


def test_C11_there_are_enough_loads() -> None:
    assert sum(loads(name, full=False) for name in WRITERS) >= 2_000
    assert sum(loads(name) for name in WRITERS) >= 200_000


@pytest.mark.prove
@pytest.mark.parametrize("name", WRITERS)
def test_C11_races_at_length(name: str, tmp_path: Path) -> None:
    right, refused = race(name, loads(name), tmp_path)
    assert right and refused


def test_C11_what_is_honest_is_read(tmp_path: Path) -> None:
    for name, (file, _) in WRITERS.items():
        (tmp_path / name).mkdir()
        sources(tmp_path / name, name)
        for kind, data in (("one", ONE), ("two", TWO)):
            tensors, _, _ = read_tensors(tmp_path / name / kind / file)
            assert {bytes(tensor.data) for tensor in tensors.values()} == {data}
