"""Parquet with the bytes of a picture and a label in each row: a file, or a folder of files.

A column of pictures is Hugging Face's struct of `bytes` and `path`, or one of plain bytes; labels are numbers or names.
Names of numbers come from Hugging Face's metadata, else from a `classes.txt` or `classes.json` beside the files. A word
of the files' paths (`train-00000-of-00002.parquet`) says which are held out. A row group is read when a picture of it
is wanted; few of them are kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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


def unlabelled(root: str) -> tuple[int, Callable[[int], bytes], Callable[[int], str], NDArray[np.int64]]:
    """Of all rows, without a look at labels: how many, the picture and the title of each, the sizes of their files."""
    paths, beside = _paths(root)
    with as_data(), ThreadPoolExecutor(_THREADS, thread_name_prefix="parquet") as pool:
        tables = list(pool.map(open_table, paths))
        column = _column(tables, PICTURES, ("pictures", "binary"), "pictures", root)
    rows = _Rows(tables, [os.path.relpath(path, beside) for path in paths], column)
    return rows.count, rows.picture, rows.title, rows.sizes


def _paths(root: str) -> tuple[list[Path], Path]:
    """The files that `root` means, and the folder beside which they are named."""
    place = Path(root)
    paths = [place] if place.is_file() else _files(place) if place.is_dir() else []
    if not paths:
        raise DataError("V401", f"no Parquet files in `{place}`", hint="give a .parquet file, or a folder of them")
    return paths, place if place.is_dir() else place.parent


def _find(data: Data) -> Found:
    root = data.root or "."
    paths, beside = _paths(root)
    parts = parts_of([os.path.relpath(path, beside) for path in paths], root, first=data.held_out)
    used = [paths[number] for number in parts.used]
    with as_data(), ThreadPoolExecutor(_THREADS, thread_name_prefix="parquet") as pool:
        tables = list(pool.map(open_table, used))
        picture_column = _column(tables, PICTURES, ("pictures", "binary"), "pictures", root)
        label_column = _column(tables, LABELS, ("number", "text"), "labels", root)
        labels = [label for mine in pool.map(lambda table: table.labels(label_column), tables) for label in mine]
    if not labels:
        raise DataError("V401", f"no rows in the {len(paths)} Parquet files of `{root}`", hint="check the files")
    labelled = numbered(labels, _names(tables, label_column, beside), data)
    rows = _Rows(tables, [os.path.relpath(path, beside) for path in used], picture_column)
    if rows.count != len(labels):
        raise DataError("V404", f"`{root}` has {len(labels)} labels in {rows.count} rows", hint="write it again")
    counts = [sum(table.groups) for table in tables]
    found = in_rows(root, labelled, parts, counts, picture=rows.picture, title=rows.title)
    said = f"{count(len(used), 'Parquet file')}, `{picture_column}` and `{label_column}`"
    return replace(found, notes=(said, *found.notes, *_advice(tables)), sizes=rows.sizes)


class _Rows:
    """The rows of tables, one after the other; a row group is read when a picture of it is wanted."""

    def __init__(self, tables: Sequence[Table], names: Sequence[str], column: str) -> None:
        self._names = names
        groups = [(t, g) for t, table in enumerate(tables) for g in range(len(table.groups))]
        self._groups = np.array(groups, np.int64).reshape(-1, 2)  # of all tables: the table, the group in it
        rows = np.array([rows for table in tables for rows in table.groups], np.int64)
        self._starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(rows)])
        self._first = np.cumsum([0, *(sum(table.groups) for table in tables)])
        self._cache = GroupCache(lambda key: tables[key[0]].pictures(column, key[1]))
        self.count = int(self._starts[-1])
        of_tables = np.array([table.file.size for table in tables], np.int64)  # seen by the fingerprint
        self.sizes = np.repeat(of_tables, np.diff(self._first))

    def title(self, index: int) -> str:
        """`FILE:ROW`"""
        table = int(np.searchsorted(self._first, index, side="right")) - 1
        return f"{self._names[table]}:{index - int(self._first[table])}"

    def picture(self, index: int) -> bytes:
        """The bytes of a row; PictureError V304."""
        place = int(np.searchsorted(self._starts, index, side="right")) - 1
        table, group = map(int, self._groups[place])
        try:
            stored = self._cache[table, group][index - int(self._starts[place])]
        except VitrailError as error:
            raise PictureError("V304", f"`{self.title(index)}`: {error.what}", hint=error.hint) from error
        if stored is None:
            raise PictureError(
                "V304", f"`{self.title(index)}` has no bytes in its row", hint="write the pictures into it"
            )
        return stored


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
