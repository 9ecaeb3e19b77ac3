"""A table of pictures: CSV or TSV with a header, `path,label` and, where it is given, `split`.

Paths are relative to the table's folder. The delimiter is the tab of a `.tsv`, else the one of `,` `;` tab that makes
a header of it. Further columns are passed over.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrail import disk
from vitrail.data.sources import folder
from vitrail.data.sources.found import Asked, Found, in_tree
from vitrail.data.sources.lists import labels_of, refuse, text_of
from vitrail.data.sources.tree import Tree, named_files
from vitrail.errors import DataError, count, printable

ENDINGS = (".csv", ".tsv")
LIMIT = 1 << 30  # bytes of a table
PATH, LABEL, SPLIT = ("path", "file", "filename", "image"), ("label", "class"), ("split", "subset")
_HINT = "each line names a picture below the table's folder, once, and its class"


@dataclass(frozen=True)
class _Row:
    line: int
    path: str
    label: str
    split: str


def is_here(tree: Tree) -> bool:
    """Whether a tree has a table at its top, and no class folders beside it that could be meant."""
    return len(folder.folders(tree)) < 2 and bool(_tables(tree))


def tree_of_file(path: Path, *, follow_outside: bool = False) -> Tree:
    """The tree that a table on the disk speaks of: itself and the files that it names, without a look at others."""
    rows, _ = _rows(text_of(disk.read_file(path, limit=LIMIT), str(path)), str(path))
    named = {row.path for row in rows if not _leads_out(row.path)}
    tree = named_files(path.parent, sorted({path.name, *named}, key=os.fsencode), follow_outside=follow_outside)
    return replace(tree, place=str(path))


def find(tree: Tree, asked: Asked) -> list[Found]:
    """The pictures of the one table at the top of a tree. DataError V402, or V404 with every bad line."""
    tables = [Path(tree.place).name] if tree.place.lower().endswith(ENDINGS) else _tables(tree)
    if len(tables) != 1:
        words = ", ".join(f"`{name}`" for name in tables[:5]) or "none"
        raise DataError("V402", f"one table is wanted in `{tree.place}`, there is {words}", hint="name the file itself")
    place = tree.place if tree.place.endswith(tables[0]) else f"{tree.place}/{tables[0]}"
    rows, problems = _rows(text_of(tree.read(tables[0], limit=LIMIT), place), place)
    number = {path: row for row, path in enumerate(tree.paths) if tree.sizes[row] >= 0}
    problems += _path_problems(rows, number)
    classes, labels, unknown = labels_of([(row.line, row.label) for row in rows], asked.classes)
    training, held, said = _parts(rows, asked, problems)
    refuse(place, problems + unknown, hint=_HINT)
    if not rows:
        raise DataError("V401", f"`{place}` lists no pictures", hint=_HINT)
    taken = np.flatnonzero(training | held)
    notes = (f"{len(rows):,} pictures by `{printable(place)}`", *said)
    found = in_tree(
        tree,
        [number[rows[at].path] for at in taken],
        [labels[at] for at in taken],
        tuple(map(printable, classes)),
        held_out=held[taken] if any(row.split for row in rows) else None,
        notes=notes,
    )
    return [_with_all_classes(found, place)]


def _with_all_classes(found: Found, place: str) -> Found:
    if len(set(found.classes)) != len(found.classes):
        raise DataError("V405", f"two classes in `{place}` look alike when they are printed", hint="rename one")
    return found


def _tables(tree: Tree) -> list[str]:
    """The tables at the top of a tree; other files of that ending are none."""
    tops = [path for path in tree.paths if "/" not in path and path.lower().endswith(ENDINGS)]
    return [path for path in tops if _header(tree, path) is not None]


def _header(tree: Tree, path: str) -> tuple[str, list[str]] | None:
    """The delimiter and the columns of a table in a tree; None for another file of that ending."""
    try:
        return _understood(text_of(tree.read(path, limit=LIMIT), path)[:65_536], path)
    except DataError:
        return None  # not this layout; when the table itself is named, its own error is told


def _understood(text: str, place: str) -> tuple[str, list[str]] | None:
    first = text.split("\n", 1)[0].rstrip("\r")
    for delimiter in ("\t",) if place.lower().endswith(".tsv") else (",", ";", "\t"):
        names = [name.strip().strip('"').casefold() for name in first.split(delimiter)]
        if any(name in PATH for name in names) and any(name in LABEL for name in names):
            return delimiter, names
    return None


def _rows(text: str, place: str) -> tuple[list[_Row], list[tuple[int, str]]]:
    """The rows of a table, and the problems of those that are none."""
    head = _understood(text, place)
    if head is None:
        raise DataError(
            "V404",
            f"`{place}` has no header with `path` and `label`",
            evidence=[f"found {printable(text.split(chr(10), 1)[0][:200])}"],
            hint="begin it with the line path,label or path,label,split",
        )
    delimiter, names = head
    at = [next((names.index(name) for name in group if name in names), None) for group in (PATH, LABEL, SPLIT)]
    path_at, label_at, split_at = at
    assert path_at is not None and label_at is not None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, problems = [], []
    try:
        next(reader)
        before = reader.line_num
        for cells in reader:
            line, before = before + 1, reader.line_num
            if not cells:
                problems.append((line, "is empty"))
            elif len(cells) != len(names):
                problems.append((line, f"has {count(len(cells), 'field')}, the header {len(names)}"))
            elif not cells[path_at] or not cells[label_at].strip():
                problems.append((line, "has no path" if not cells[path_at] else "has no label"))
            else:
                split = cells[split_at].strip().casefold() if split_at is not None else ""
                rows.append(_Row(line, cells[path_at].removeprefix("./"), cells[label_at].strip(), split))
    except csv.Error as error:
        problems.append((reader.line_num, f"is no {place[-3:].upper()}: {error}"))
    return rows, problems


def _leads_out(path: str) -> bool:
    return path.startswith("/") or "\0" in path or ".." in path.split("/")


def _path_problems(rows: Sequence[_Row], number: dict[str, int]) -> list[tuple[int, str]]:
    problems = []
    first: dict[str, int] = {}
    for row in rows:
        if _leads_out(row.path):
            problems.append((row.line, f"`{row.path}` leads out of the table's folder"))
        elif row.path not in number:
            problems.append((row.line, f"no file `{row.path}`"))
        elif row.path in first:
            problems.append((row.line, f"`{row.path}` is named in line {first[row.path]} already"))
        first.setdefault(row.path, row.line)
    return problems


def _parts(
    rows: Sequence[_Row], asked: Asked, problems: list[tuple[int, str]]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], tuple[str, ...]]:
    """Which rows train, which are held out, and what is said of it; `problems` takes words that are no split."""
    splits = np.array([row.split for row in rows], object)
    words = sorted({row.split for row in rows if row.split})
    if not words:
        return np.ones(len(rows), bool), np.zeros(len(rows), bool), ()
    known = (*folder.TRAIN, *folder.VAL, *folder.TEST)
    problems += [
        (row.line, f"split `{row.split}` is none of {', '.join(known)}") for row in rows if row.split not in known
    ]
    held_word = folder.held_out_name(words, asked.held_out)
    training = np.isin(splits, folder.TRAIN)
    held = splits == held_word if held_word is not None else np.zeros(len(rows), bool)
    left = sorted(set(words) - {held_word} - set(folder.TRAIN))
    notes = (f"split `{held_word}` held out",) if held_word else ()
    return training, held, notes + ((f"left alone: split `{'`, `'.join(left)}`",) if left else ())
