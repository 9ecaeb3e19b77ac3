"""All hostile items of all containers in one place: `CONTAINER: ITEM` -> a function that lays it into a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from tests.hostile import hdf5_files
from tests.hostile import tensorflow_files as tf
from tests.hostile import test_hostile_hdf5 as hdf5_items
from tests.hostile import test_hostile_mindspore as mindspore_items
from tests.hostile import test_hostile_npz as npz_items
from tests.hostile import test_hostile_safetensors as safetensors_items
from tests.hostile import test_hostile_sharded as index_items
from tests.hostile import test_hostile_tensorflow as tensorflow_items
from tests.hostile import test_hostile_torch_legacy as legacy_items
from tests.hostile import test_hostile_torch_zip as torch_items
from vitrail.formats import safetensors

Lay = Callable[[Path], Path]


def _file(name: str, data: bytes) -> Lay:
    def lay(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return lay


def _table(data: bytes) -> Lay:
    return lambda folder: tf.write(folder / "m", data, tensorflow_items.DATA)


def _index(data: bytes) -> Lay:
    def lay(folder: Path) -> Path:
        safetensors.write(folder / index_items.A, {"w": index_items.ONE})
        safetensors.write(folder / index_items.B, {"v": index_items.ONE})
        (folder / index_items.INDEX).write_bytes(data)
        return folder / index_items.INDEX

    return lay


def _hdf5(name: str) -> Lay:
    return lambda folder: hdf5_items.folder_with(name, folder)


def _keras(name: str) -> Lay:
    def lay(folder: Path) -> Path:
        """The weights of a hostile HDF5 file, inside a zip with a configuration that would run code."""
        path = hdf5_items.folder_with(name, folder)
        return hdf5_items.keras(folder / "m.keras", path.read_bytes())

    return lay


ITEMS: dict[str, Lay] = {
    **{f"safetensors: {name}": _file("x.safetensors", data) for name, data in safetensors_items.ITEMS.items()},
    **{f"npz: {name}": _file("x.npz", data) for name, data in npz_items.ITEMS.items()},
    **{f"torch_zip: {name}": _file("x.pth", data) for name, data in torch_items.ITEMS.items()},
    **{f"torch_legacy: {name}": _file("x.pth", data) for name, data in legacy_items.ITEMS.items()},
    **{f"mindspore: {name}": _file("x.ckpt", data) for name, data in mindspore_items.ITEMS.items()},
    **{f"tensorflow: {name}": _table(data) for name, data in tensorflow_items.INDEX.items()},
    **{f"index: {name}": _index(data) for name, data in index_items.ITEMS.items()},
    **{f"hdf5: {name}": _hdf5(name) for name in hdf5_files.ITEMS if name != "more objects than allowed"},  # by default
    **{f"keras_zip: {name}": _keras(name) for name in ("external link to /etc/passwd", "hard link cycle", "half")},
}

CONTAINERS = tuple(dict.fromkeys(name.partition(":")[0] for name in ITEMS))


def matching(pattern: str) -> list[str]:
    """The items whose name the pattern is found in."""
    return [name for name in ITEMS if re.search(pattern, name)]


def hdf5_inside(name: str) -> bool:
    return name.startswith(("hdf5", "keras_zip"))


def total(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())
