"""The files below one place, whatever holds them: a folder, a zip, a tar. Layouts are found in a `Tree`.

Paths are relative, with `/` between, and sorted by their bytes (`os.fsencode`): the same on every file system. Hidden
entries are passed over. Links are followed inside the place and refused where they lead out of it; loops end.
"""

from __future__ import annotations

import os
import stat
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrail import disk
from vitrail.errors import DataError, count, read_fault

LINKED_FOLDERS = 100_000  # reached through links: links to links may multiply beyond all bounds


@dataclass(frozen=True)
class Tree:
    """Files below one place. paths are sorted by their bytes; sizes int64 (N,), -1 where a file cannot be looked at.

    picture(i) is file i: a Path in a folder, its bytes in an archive; it may be called from several threads at once.
    """

    place: str  # how messages call it
    paths: Sequence[str]
    sizes: NDArray[np.int64]
    picture: Callable[[int], Path | bytes]
    empty: Sequence[str] = ()  # folders without any entry that counts
    notes: tuple[str, ...] = ()
    above: Path | None = None  # the folder that holds the place, where that is one on the disk

    def find(self, path: str) -> int | None:
        """The number of a file, or None."""
        at = bisect_left(self.paths, os.fsencode(path), key=os.fsencode)
        return at if at < len(self.paths) and self.paths[at] == path else None

    def read(self, path: str, *, limit: int) -> bytes:
        """A small file of it, such as a list of labels; DataError V404 when it is absent or beyond `limit` bytes."""
        index = self.find(path)
        if index is None:
            raise DataError("V404", f"no `{path}` in `{self.place}`", hint="put the file there")
        if self.sizes[index] > limit:
            raise DataError(
                "V404",
                f"`{path}` in `{self.place}` has {self.sizes[index]:,} bytes, the limit is {limit:,}",
                hint="check that it is what its name says",
            )
        held = self.picture(index)
        return held if isinstance(held, bytes) else disk.read_file(held, limit=limit)

    def below(self, folder: str) -> Tree:
        """The part of it below a folder."""
        start, stop = (bisect_left(self.paths, os.fsencode(folder) + end, key=os.fsencode) for end in (b"/", b"0"))
        lead = len(folder) + 1
        return Tree(
            place=f"{self.place}/{folder}",
            paths=[path[lead:] for path in self.paths[start:stop]],
            sizes=self.sizes[start:stop],
            picture=lambda index: self.picture(start + index),
            empty=[path[lead:] for path in self.empty if path.startswith(f"{folder}/")],
        )


@dataclass
class Listing:
    """What one walk over a folder found, unsorted. stamps: of each folder, what changes when its entries do."""

    root: str
    follow_outside: bool = False
    paths: list[str] = field(default_factory=list)
    sizes: array[int] = field(default_factory=lambda: array("q"))
    folders: list[str] = field(default_factory=list)
    stamps: array[int] = field(default_factory=lambda: array("q"))
    empty: list[str] = field(default_factory=list)
    linked: int = 0  # links that were followed to a file or a folder
    loops: int = 0  # links back to a folder above them


_Chain = tuple[tuple[int, int], "_Chain | None"]  # the folders on the way down, by device and inode


def folder_tree(root: Path, *, follow_outside: bool = False) -> Tree:
    """The files below a folder. DataError V402 for a link that leads out of it; SystemFault V702 when unreadable."""
    return tree_of(listed(root, follow_outside=follow_outside))


def listed(root: Path, *, follow_outside: bool = False) -> Listing:
    """One walk over a folder. Names and kinds come with the entries; each file costs one look at its size."""
    found = Listing(os.fspath(root), follow_outside)
    real = os.path.realpath(root)
    waiting: list[tuple[str, _Chain | None]] = [("", None)]
    while waiting:
        lead, above = waiting.pop()
        folder = os.path.join(found.root, lead)
        try:
            status = os.stat(folder)
            chain: _Chain = ((status.st_dev, status.st_ino), above)
            with os.scandir(folder) as entries:
                before = len(found.paths) + len(waiting)
                for entry in entries:
                    if entry.name[0] == ".":
                        continue
                    if entry.is_symlink():
                        _follow(found, real, lead + entry.name, chain, waiting)
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append((f"{lead}{entry.name}/", chain))
                    else:
                        found.paths.append(lead + entry.name)
                        found.sizes.append(_size(entry))
        except OSError as error:
            raise read_fault(error, folder) from error
        found.folders.append(lead)
        found.stamps.extend(stamp(status))
        if len(found.paths) + len(waiting) == before:
            found.empty.append(lead[:-1])
    return found


def stamp(status: os.stat_result) -> tuple[int, int, int]:
    """What changes whenever an entry of a folder comes, goes or gets another name."""
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return -1  # vanished since it was listed: reading it will say so


def _follow(found: Listing, real: str, path: str, chain: _Chain, waiting: list[tuple[str, _Chain | None]]) -> None:
    """A link: its file is listed, its folder waits to be walked, unless the way down has passed through it."""
    whole = os.path.join(found.root, path)
    target = os.path.realpath(whole)
    if not found.follow_outside and not _within(target, real):
        raise leads_out(whole, found.root)
    found.linked += 1
    try:
        status = os.stat(whole)
    except OSError:  # it leads nowhere, or to itself: reading it will say so
        found.paths.append(path)
        found.sizes.append(-1)
        return
    if not stat.S_ISDIR(status.st_mode):
        found.paths.append(path)
        found.sizes.append(status.st_size)
        return
    at: _Chain | None = chain
    while at is not None:
        if at[0] == (status.st_dev, status.st_ino):
            found.loops += 1
            return
        at = at[1]
    if found.linked > LINKED_FOLDERS:
        raise DataError(
            "V402", f"more than {LINKED_FOLDERS:,} links in `{found.root}`", hint="copy the files in their place"
        )
    waiting.append((f"{path}/", chain))


def tree_of(found: Listing) -> Tree:
    """The tree of a listing: sorted, with what was passed over in its notes."""
    keys = [os.fsencode(path) for path in found.paths]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    notes = (f"{count(found.loops, 'link')} back to a folder above passed over",) if found.loops else ()
    paths = [found.paths[index] for index in order]
    sizes = np.frombuffer(found.sizes, np.int64)[order] if order else np.zeros(0, np.int64)
    return on_disk(found.root, paths, sizes, empty=sorted(found.empty, key=os.fsencode), notes=notes)


def on_disk(
    root: str,
    paths: Sequence[str],
    sizes: NDArray[np.int64],
    *,
    empty: Sequence[str] = (),
    notes: tuple[str, ...] = (),
) -> Tree:
    """The tree of files that lie below `root`."""
    above = Path(os.path.abspath(root)).parent
    return Tree(root, paths, sizes, lambda index: Path(root, paths[index]), empty, notes, above)


def named_files(root: Path, paths: Sequence[str], *, follow_outside: bool = False) -> Tree:
    """The tree of these files alone, sorted by their bytes: no other is looked at. -1 is the size of an absent one.

    DataError V402 for one that a link leads out of the folder to.
    """
    real = os.path.realpath(root)
    inside: dict[str, bool] = {}
    sizes = array("q")
    for path in paths:
        whole = os.path.join(root, path)
        try:
            status = os.lstat(whole)
            folder = os.path.dirname(whole)
            if folder not in inside:
                inside[folder] = _within(os.path.realpath(folder), real)
            stays = inside[folder]
            if stat.S_ISLNK(status.st_mode):
                stays = _within(os.path.realpath(whole), real)
                status = os.stat(whole)
        except (OSError, ValueError):
            sizes.append(-1)
            continue
        if not (stays or follow_outside):
            raise leads_out(whole, str(root))
        sizes.append(status.st_size)
    return on_disk(os.fspath(root), paths, np.frombuffer(sizes, np.int64) if paths else np.zeros(0, np.int64))


def _within(target: str, real: str) -> bool:
    return target == real or target.startswith(real.rstrip("/") + "/")


def leads_out(path: str, root: str) -> DataError:
    """The refusal of a link."""
    return DataError(
        "V402",
        f"`{path}` is a link that leads out of `{root}`, to `{os.path.realpath(path)}`",
        hint="copy the files in its place, or allow it with data.follow_outside=true",
    )
