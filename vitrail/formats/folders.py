"""From a path as people name it to the file to read: a folder of a model hub, or a TensorFlow checkpoint."""

from __future__ import annotations

import os
import re
from pathlib import Path

from vitrail import disk
from vitrail.errors import WeightsError, read_fault
from vitrail.formats.bounds import damaged, hostile, shown

# What a folder is read from, the first of them that lies there.
FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
TF_STATE, TF_INDEX = "checkpoint", ".index"
_TF_LINE = re.compile(r'model_checkpoint_path: "([^"]*)"')
_TF_LIMIT = 1 << 20


def file_of(path: Path) -> tuple[Path, list[str]]:
    """The file to read for a file, a folder or the prefix of a TensorFlow checkpoint, and notes on what it won over.

    WeightsError V206 naming what lies in a folder without weights; V201 or V202 for a `checkpoint` text that names no
    plain name; SystemFault V702 for a folder that cannot be read.
    """
    if os.path.isdir(path):  # as the others here: no error of the system comes out of it, opening will tell
        return _in_folder(path)
    index = f"{path}{TF_INDEX}"
    return (Path(index) if not os.path.lexists(path) and os.path.isfile(index) else path), []


def _in_folder(folder: Path) -> tuple[Path, list[str]]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise read_fault(error, folder) from error
    there = [name for name in (*FILES, TF_STATE) if name in names]
    if not there:
        lies = [shown(name) for name in names[:10]] + ([f"... {len(names) - 10} more"] if len(names) > 10 else [])
        raise WeightsError(
            "V206",
            f"the folder `{folder}` holds no weights under a known name",
            evidence=lies or ["it is empty"],
            hint=f"name the file itself; known names are {', '.join(FILES)} and TensorFlow's {TF_STATE}",
        )
    chosen, *others = there
    notes = [f"passed over `{other}`: `{chosen}` wins" for other in others]
    return (_tf_index(folder) if chosen == TF_STATE else folder / chosen), notes


def _tf_index(folder: Path) -> Path:
    """The index of the newest checkpoint, which the text `checkpoint` names in its first line."""
    path = folder / TF_STATE
    text = disk.read_file(path, limit=_TF_LIMIT).decode("utf-8", "replace")
    first = _TF_LINE.match(text)
    if first is None:
        raise damaged(path, "does not begin with `model_checkpoint_path`", hint="name the `.index` file itself")
    name = first[1]
    if not name.isprintable() or not name or re.search(r"[/\\]|^\.", name):
        raise hostile(
            path, f"names `{shown(name)}`, which is no plain name in its folder", hint="name the `.index` file itself"
        )
    return folder / (name + TF_INDEX)
