"""What the files of a tree mean: one row a layout. The first one that is there is taken, class folders at the end."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from vitrail.data.configs import Data
from vitrail.data.sources import flowers102, folder, imagenet, table
from vitrail.data.sources.archive import archive_tree, is_archive
from vitrail.data.sources.classes import listed, renamed
from vitrail.data.sources.found import Asked, Found, held_beside
from vitrail.data.sources.index import indexed_tree
from vitrail.data.sources.tree import Tree
from vitrail.errors import DataError


class Layout(NamedTuple):
    """is_here tells a tree of this layout; find gives its pictures, or those to train on and those to hold out."""

    is_here: Callable[[Tree], bool]
    find: Callable[[Tree, Asked], list[Found]]


LAYOUTS: dict[str, Layout] = {
    "flowers102": Layout(flowers102.is_here, flowers102.find),
    "imagenet":   Layout(imagenet.is_here, imagenet.find),
    "table":      Layout(table.is_here, table.find),
    "folder":     Layout(lambda tree: True, folder.find),
}  # fmt: skip


def find(data: Data) -> tuple[str, Found]:
    """The layout and the pictures of `data.root`, with those of `data.val` held out. DataError V401 to V405."""
    tree = tree_at(Path(data.root or "."), data)
    name = _layout(tree) if data.source == "auto" else data.source
    given = None if data.classes is None else listed(data.classes)
    asked = Asked(held_out=data.held_out, val_elsewhere=data.val is not None, classes=given)
    parts, lead = LAYOUTS[name].find(tree, asked), ""
    if data.val is not None:
        if os.path.realpath(data.val) == os.path.realpath(data.root or "."):
            raise DataError(
                "V402",
                f"data.val `{data.val}` is the same place as data.root: what is trained on would be held out, too",
                hint="name another folder, or leave data.val out to hold out a part of each class",
            )
        val = tree_at(Path(data.val), data, key="data.val")
        held_out = LAYOUTS[_layout(val)].find(val, replace(asked, val_elsewhere=False, classes=parts[0].classes))
        parts = [parts[0], held_out[-1]]
        lead = "" if is_table(Path(data.val)) else f"{os.path.basename(os.path.abspath(data.val))}/"
    training, *held = renamed(parts, data.rename)
    found = held_beside(training, held[0], lead=lead) if held else training
    return name, replace(found, place=tree.place)


def tree_at(place: Path, data: Data, *, key: str = "data.root") -> Tree:
    """The tree of a place on the disk, whatever kind of place it is. DataError V402 for none."""
    if place.is_dir():
        return indexed_tree(place, follow_outside=data.follow_outside)
    if is_table(place):
        return table.tree_of_file(place, follow_outside=data.follow_outside)
    if is_archive(place):
        return archive_tree(place)
    raise DataError(
        "V402",
        f"{key} `{place}` is no folder, archive or table" if place.exists() else f"nothing lies at {key} `{place}`",
        hint="give a folder with one folder of pictures per class, a zip or tar of one, a CSV, TSV or Parquet file",
    )


def is_table(place: Path) -> bool:
    """Whether a table itself is named."""
    return place.suffix.lower() in table.ENDINGS and place.is_file()


def _layout(tree: Tree) -> str:
    if tree.place.lower().endswith(table.ENDINGS):
        return "table"
    return next(name for name, layout in LAYOUTS.items() if layout.is_here(tree))
