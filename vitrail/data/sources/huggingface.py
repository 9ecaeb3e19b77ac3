"""Data sets of Hugging Face's `datasets`: a folder made by `save_to_disk`, or a name, `hf:OWNER/NAME`, from the hub.

A row has a picture (feature Image) and a class (ClassLabel, or numbers or names). The splits `train` and `validation`,
else `test`, are used as such. Rows are read in place from memory-mapped Arrow; pictures are taken as their stored
bytes and decoded by our own rule, not by the library's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.data.configs import Data
from vitrail.data.sources.found import Found
from vitrail.data.sources.labelled import checked_names, in_rows, numbered, parts_of, with_val
from vitrail.data.sources.parquet import LABELS, PICTURES
from vitrail.errors import DataError, PictureError, SystemFault, UsageError

HUB = "hf:"
_MARKS = ("dataset_dict.json", "dataset_info.json")


def is_here(root: str) -> bool:
    """Whether `root` is a folder of `save_to_disk`, or a name of the hub."""
    place = Path(root)
    if place.is_dir():
        return (place / _MARKS[0]).is_file() or all((place / name).is_file() for name in (_MARKS[1], "state.json"))
    return root.startswith(HUB)


def find(data: Data) -> Found:
    """All rows of `data.root`, and those of `data.val` held out. DataError V401 to V404; UsageError V003 without
    `datasets`; SystemFault V704 for a name that the hub does not give.
    """
    return with_val(_find, data)


def _find(data: Data) -> Found:
    root = data.root or "."
    splits = _splits(root)
    names = sorted(splits, key=os.fsencode)
    parts = parts_of(names, root, first=data.held_out) if len(names) > 1 else parts_of(["train"], root)
    used = [names[number] for number in parts.used]
    tables = [splits[name] for name in used]
    picture_column, label_column = _columns(tables, root)
    labels = [label for table in tables for label in table[label_column]]
    if not labels or any(label is None for label in labels):
        raise DataError("V401" if not labels else "V404", f"`{root}` has rows without a label, or none", hint=_CHECK)
    stated = getattr(tables[0].features[label_column], "names", None)
    labelled = numbered(labels, checked_names(stated, root) if stated else None, data)
    rows = [len(table) for table in tables]
    first = np.cumsum([0, *rows])

    def row(index: int) -> tuple[int, int]:
        table = int(np.searchsorted(first, index, side="right")) - 1
        return table, index - int(first[table])

    def title(index: int) -> str:
        table, at = row(index)
        return f"{used[table]}:{at}"

    def picture(index: int) -> bytes:
        table, at = row(index)
        stored = tables[table][at][picture_column]
        if not isinstance(stored, Mapping) or not isinstance(stored.get("bytes"), bytes):
            raise PictureError("V304", f"`{title(index)}` has no bytes in its row", hint=_CHECK)
        return bytes(stored["bytes"])

    found = in_rows(root, labelled, parts, rows, picture=picture, title=title)
    said = f"Hugging Face data set, `{picture_column}` and `{label_column}`, {', '.join(used)}"
    return replace(found, notes=(said, *found.notes))


_CHECK = "write the pictures and their labels into the data set, by datasets.save_to_disk"


def _splits(root: str) -> dict[str, Any]:
    """The splits by name, pictures undecoded."""
    try:
        import datasets
    except ImportError as error:
        raise UsageError(
            "V003", "this needs datasets, which is not installed", hint='pip install "vitrail[hf]"'
        ) from error
    datasets.disable_progress_bars()
    try:
        found = datasets.load_from_disk(root) if Path(root).is_dir() else datasets.load_dataset(root.removeprefix(HUB))
    except Exception as error:  # the library's own, the hub's and the net's: it raises what it likes
        said = (str(error).splitlines() or [type(error).__name__])[0][:300]
        if Path(root).is_dir():
            raise DataError("V404", f"`{root}` is no data set that opens: {said}", hint=_CHECK) from error
        raise SystemFault(
            "V704",
            f"the hub does not give `{root.removeprefix(HUB)}`",
            evidence=[said],
            hint="check the name and the net, or save it elsewhere by datasets.save_to_disk and name the folder",
        ) from error
    splits = dict(found) if isinstance(found, datasets.DatasetDict) else {"train": found}
    for name, table in splits.items():
        for column, feature in table.features.items():
            if isinstance(feature, datasets.Image):
                splits[name] = splits[name].cast_column(column, datasets.Image(decode=False))
    return splits


def _columns(tables: Sequence[Any], root: str) -> tuple[str, str]:
    """The columns of pictures and labels, the same in every split; DataError V402 with what there is."""
    features = tables[0].features
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    pictures = [name for name, kind in kinds.items() if kind == "Image"]
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"] or [n for n in LABELS if n in kinds]
    picture = next((name for name in PICTURES if name in pictures), pictures[0] if len(pictures) == 1 else None)
    label = next((name for name in LABELS if name in labels), labels[0] if len(labels) == 1 else None)
    if picture is None or label is None or any(table.features != features for table in tables):
        raise DataError(
            "V402",
            f"no one column of pictures and of labels in `{root}`",
            evidence=[f"{name}: {kind}" for name, kind in kinds.items()],
            hint=f"call them `{PICTURES[0]}` (feature Image) and `{LABELS[0]}`, in all splits",
        )
    return picture, label
