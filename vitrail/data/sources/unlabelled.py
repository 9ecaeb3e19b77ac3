"""Pictures of any place, without a look at labels: what `predict` asks about.

Every picture of a folder, a zip or a tar, of tars in a folder, every row of a table or of Parquet files: sources that
hold labels hold pictures too, and those that hold none are understood here alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrail.data.configs import Data
from vitrail.data.sources import BUILT_IN, FINDERS, here, layouts, own_source, parquet
from vitrail.data.sources.archive import archive_tree
from vitrail.data.sources.folder import is_picture
from vitrail.data.sources.found import Found, Stored
from vitrail.data.sources.shards import shard_files
from vitrail.data.sources.tree import Tree
from vitrail.errors import DataError, count, printable
from vitrail.pictures.decode import decode
from vitrail.pictures.limits import ENDINGS

TOGETHER = 4096  # titles that are hashed in one go


@dataclass(frozen=True)
class Pictures:
    """Pictures in the order of their source. fingerprint: SHA-256 over titles and file sizes, or pixels in memory.

    picture(i) is picture i as it is stored, title(i) what it is called: its path below the place, its member of an
    archive, its row of a file. notes say what was understood. Safe to use from several threads.
    """

    place: str
    count: int
    picture: Callable[[int], Stored]
    title: Callable[[int], str]
    fingerprint: str
    notes: tuple[str, ...] = ()

    def read(self, index: int) -> NDArray[np.uint8]:
        """Pixels (H, W, C) of picture `index`, decoded whole; PictureError V301 to V305 names it by its title."""
        stored = self.picture(index)
        return stored if isinstance(stored, np.ndarray) else decode(stored, name=self.title(index))


def open_pictures(root: str, *, follow_outside: bool = False) -> Pictures:
    """The pictures at a place, whatever they show. DataError V401 where there are none, V402 to V404 as `open_source`.

    In a folder and in archives they come by the bytes of their paths, else in the order of the source.
    """
    place = here(root) or root
    data = Data(root=place, follow_outside=follow_outside)
    own = own_source(data)
    if own == "shards":
        found = _of_tars(place)
    elif own == "parquet":
        rows, picture, title, sizes = parquet.unlabelled(place)
        found = _pictures(place, rows, picture, title, [sizes])
    elif own is not None or layouts.is_table(Path(place)):
        found = _of_source(FINDERS[own](data) if own is not None else layouts.find(data)[1])
    else:
        if not Path(place).exists():
            hint = f"name a folder, an archive or a table of pictures, or {', '.join(BUILT_IN)}"
            raise DataError("V402", f"nothing lies at `{place}`", hint=hint)
        found = _of_tree(layouts.tree_at(Path(place), data, key="DATA"))
    if not found.count:
        raise DataError("V401", f"no pictures in `{place}`", hint=f"pictures end in {', '.join(ENDINGS)}")
    return found


def _of_tree(tree: Tree) -> Pictures:
    rows = np.flatnonzero([is_picture(path) for path in tree.paths])
    passed = len(tree.paths) - len(rows)
    notes = (f"passed over: {count(passed, 'file')} in `{printable(tree.place)}` without a picture's ending",)
    return _pictures(
        tree.place,
        len(rows),
        lambda index: tree.picture(int(rows[index])),
        lambda index: tree.paths[rows[index]],
        [tree.sizes[rows]],
        (*tree.notes, *(notes if passed else ())),
    )


def _of_tars(root: str) -> Pictures:
    """The pictures of tars, one after the other; what else lies in them (labels, notes) is passed over."""
    files, beside = shard_files(root)
    trees = [archive_tree(path) for path in files]
    rows = [np.flatnonzero([is_picture(path) for path in tree.paths]) for tree in trees]
    first = np.cumsum([0, *map(len, rows)])

    def at(index: int) -> tuple[int, int]:
        number = int(np.searchsorted(first, index, side="right")) - 1
        return number, int(rows[number][index - int(first[number])])

    def picture(index: int) -> Stored:
        number, row = at(index)
        return trees[number].picture(row)

    def title(index: int) -> str:
        number, row = at(index)
        return f"{os.path.relpath(files[number], beside)}/{trees[number].paths[row]}"

    sizes = [tree.sizes[mine] for tree, mine in zip(trees, rows, strict=True)]
    return _pictures(root, int(first[-1]), picture, title, sizes, (count(len(files), "tar shard"),))


def _of_source(found: Found) -> Pictures:
    memory = [] if found.memory is None else [found.memory]
    sizes = [] if found.sizes is None else [found.sizes]
    return _pictures(found.place, len(found.labels), found.picture, found.title, [*sizes, *memory], found.notes)


def _pictures(
    place: str,
    total: int,
    picture: Callable[[int], Stored],
    title: Callable[[int], str],
    parts: Sequence[NDArray[np.generic]],
    notes: tuple[str, ...] = (),
) -> Pictures:
    digest = hashlib.sha256(f"{total}\0".encode())
    for start in range(0, total, TOGETHER):
        titles = (title(index) + "\0" for index in range(start, min(start + TOGETHER, total)))
        digest.update("".join(titles).encode("utf-8", "surrogatepass"))
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    return Pictures(place, total, picture, title, digest.hexdigest(), notes)
