"""Parquet with the bytes of a picture and a label in each row: a file, or a folder of files.

A column of pictures is Hugging Face's struct of `bytes` and `path`, or one of plain bytes; labels are numbers or names.
Names of numbers come from Hugging Face's metadata, else from a `classes.txt` or `classes.json` beside the files. A word
of the files' paths (`train-00000-of-00002.parquet`) says which are held out. A row group is read when a picture of it
is wanted; few of them are kept.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitrail.data.configs import Data
from vitrail.data.sources.found import Found
from vitrail.data.sources.labelled import checked_names, in_rows, names_beside, numbered, parts_of, with_val
from vitrail.errors import DataError, PictureError, VitrailError, count
from vitrail.formats.archives import archive_kind
from vitrail.formats.parquet import CACHE_BYTES, GroupCache, Table, open_table
from vitrail.formats.ranges import as_data

PICTURES = ("image", "img", "picture", "jpg", "jpeg", "png", "bytes", "image_bytes", "data")
LABELS = ("label", "labels", "cls", "class", "class_id", "fine_label", "target", "category", "class_name")
_ENDINGS = (".parquet", ".pq")
_THREADS = 4


def is_here(root: Path) -> bool:
    """Whether `root` is a Parquet file, or a folder with some and nothing else but notes."""
    if root.is_file():
        return archive_kind(root) == "parquet"
    return root.is_dir() and bool(_files(root))


def find(data: Data) -> Found:
    """All samples of `data.root`, and those of `data.val` held out. DataError V401 to V405."""
    return with_val(_find, data)


def _find(data: Data) -> Found:
    root = Path(data.root or ".")
    paths = [root] if root.is_file() else _files(root) if root.is_dir() else []
    if not paths:
        raise DataError("V401", f"no Parquet files in `{root}`", hint="give a .parquet file, or a folder of them")
    beside = root if root.is_dir() else root.parent
    parts = parts_of([os.path.relpath(path, beside) for path in paths], str(root), first=data.held_out)
    used = [paths[number] for number in parts.used]
    with as_data(), ThreadPoolExecutor(_THREADS, thread_name_prefix="parquet") as pool:
        tables = list(pool.map(open_table, used))
        picture_column = _column(tables, PICTURES, ("pictures", "binary"), "pictures", str(root))
        label_column = _column(tables, LABELS, ("number", "text"), "labels", str(root))
        labels = [label for mine in pool.map(lambda table: table.labels(label_column), tables) for label in mine]
    if not labels:
        raise DataError("V401", f"no rows in the {len(paths)} Parquet files of `{root}`", hint="check the files")
    labelled = numbered(labels, _names(tables, label_column, beside), data)
    places = np.array(
        [(t, g, r) for t, table in enumerate(tables) for g, rows in enumerate(table.groups) for r in range(rows)],
        np.int32,
    ).reshape(-1, 3)  # of each row: file, row group, row in it
    if len(places) != len(labels):
        raise DataError("V404", f"`{root}` has {len(labels)} labels in {len(places)} rows", hint="write it again")
    rows = [sum(table.groups) for table in tables]
    first = np.cumsum([0, *rows])
    cache = GroupCache(lambda key: tables[key[0]].pictures(picture_column, key[1]))

    def title(index: int) -> str:
        table = int(places[index, 0])
        return f"{os.path.relpath(used[table], beside)}:{index - int(first[table])}"

    def picture(index: int) -> bytes:
        table, group, row = map(int, places[index])
        try:
            stored = cache[table, group][row]
        except VitrailError as error:
            raise PictureError("V304", f"`{title(index)}`: {error.what}", hint=error.hint) from error
        if stored is None:
            raise PictureError("V304", f"`{title(index)}` has no bytes in its row", hint="write the pictures into it")
        return stored

    found = in_rows(str(root), labelled, parts, rows, picture=picture, title=title)
    return replace(
        found,
        notes=(
            f"{count(len(used), 'Parquet file')}, `{picture_column}` and `{label_column}`",
            *found.notes,
            *_advice(tables),
        ),
        sizes=np.array([tables[table].file.size for table in places[:, 0]], np.int64),  # seen by the fingerprint
    )


def _files(root: Path) -> list[Path]:
    """Parquet files in a folder and in the folders right below it, by the bytes of their names."""
    entries = [entry for entry in root.iterdir() if entry.name[0] != "."]
    folders = [entry for entry in entries if entry.is_dir()]
    inside = [path for folder in folders for path in folder.iterdir()]
    found = [path for path in (*entries, *inside) if path.suffix in _ENDINGS and path.is_file()]
    return sorted(found, key=os.fsencode)


def _column(tables: Sequence[Table], names: Sequence[str], kinds: Sequence[str], what: str, place: str) -> str:
    """The column of all files that holds `what`: by its kind and its name, or the only one of the kind."""
    columns = tables[0].columns
    for kind in kinds:
        fitting = [name for name in columns if all(table.columns.get(name) == kind for table in tables)]
        named = [name for name in names if name in fitting]
        if named or len(fitting) == 1:
            return (named or fitting)[0]
    raise DataError(
        "V402",
        f"no one column of {what} in `{place}`",
        evidence=[f"{name}: {kind}" for name, kind in list(columns.items())[:20]],
        hint=f"call it `{names[0]}`, in all files, of the kind {' or '.join(kinds)}",
    )


def _names(tables: Sequence[Table], column: str, beside: Path) -> tuple[str, ...] | None:
    stated = {table.names[column] for table in tables if column in table.names}
    if len(stated) > 1:
        raise DataError(
            "V403",
            f"the files of `{beside}` name the classes of `{column}` differently",
            hint="write them again as one",
        )
    return checked_names(stated.pop(), f"{beside}: {column}") if stated else names_beside(beside)


def _advice(tables: Sequence[Table]) -> list[str]:
    if sum(table.file.size for table in tables) <= CACHE_BYTES:
        return []
    largest = max(table.group_bytes for table in tables) >> 20
    return [f"for one picture a row group of up to {largest} MiB is read: pack them into shards to train faster"]
