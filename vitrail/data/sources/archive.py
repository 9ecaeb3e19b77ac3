"""A zip or a tar as a tree of files, read in place: every layout of folders also opens inside one.

The directory of a zip, or the headers of a tar, are read once; pictures come by their offsets, at any time and from any
thread. A folder that holds all the rest, as most packers make it, is seen through.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrail.data.sources.tree import Tree
from vitrail.errors import DataError, PictureError, VitrailError, printable
from vitrail.formats import tar
from vitrail.formats.archives import archive_kind
from vitrail.formats.bounds import hostile, shown
from vitrail.formats.ranges import as_data, ranges
from vitrail.formats.zip_files import zip_files
from vitrail.pictures.limits import ENDINGS

UNPACKERS = {"gzip": "gunzip", "xz": "unxz", "bzip2": "bunzip2", "zstd": "unzstd"}
_MAC = "__MACOSX"  # what macOS packs beside the files


def is_archive(path: Path) -> bool:
    """Whether a file is one that `archive_tree` opens, or refuses by its compression."""
    return path.is_file() and archive_kind(path) not in (None, "parquet")


def archive_tree(path: Path) -> Tree:
    """The files in a zip or a tar. DataError V404 for an archive that does not stand, V402 for one that is compressed
    as a whole and so cannot be read in place; SystemFault V702 when it cannot be read.
    """
    kind = archive_kind(path)
    if kind in UNPACKERS:
        raise DataError(
            "V402",
            f"`{path}` is compressed as a whole ({kind}): pictures inside cannot be reached one by one",
            hint=f"{UNPACKERS[kind]} -k {path}, then name the .tar; or vitrail data prepare archive {path} FOLDER",
        )
    if kind not in ("zip", "tar"):
        raise DataError("V402", f"`{path}` is no zip or tar archive", hint="give a folder, or an archive of one")
    return _zip(path) if kind == "zip" else _tar(path)


def _zip(path: Path) -> Tree:
    with as_data():
        found = zip_files(ranges(path))
    return _tree(path, found.names, found.sizes, found.read)


def _tar(path: Path) -> Tree:
    file = ranges(path)
    with as_data(), file.opened() as read:
        members = []
        for member in tar.members(read, path):
            if member.kind in ("link", "special"):
                raise hostile(path, f"the member `{shown(member.name)}` is a link or a device, and no file")
            if member.kind == "file":
                members.append(member)
                if member.start + member.size > file.size:
                    raise hostile(path, f"the member `{shown(member.name)}` does not lie inside the file")
    starts = np.array([member.start for member in members], np.int64)
    sizes = np.array([member.size for member in members], np.int64)
    names = [member.name for member in members]
    return _tree(path, names, sizes, lambda index: file.read(int(starts[index]), int(sizes[index])))


def _tree(path: Path, names: Sequence[str], sizes: NDArray[np.int64], read: Callable[[int], bytes]) -> Tree:
    clean = [_clean(name, path) for name in names]
    rows = [row for row, name in enumerate(clean) if not any(p[:1] in (".", "") or p == _MAC for p in name.split("/"))]
    rows.sort(key=lambda row: os.fsencode(clean[row]))
    paths = [clean[row] for row in rows]
    for one, other in itertools.pairwise(paths):
        if one == other:
            raise DataError(
                "V404", f"`{path}`: two members are named `{printable(one)}`", hint="pack it again, each file once"
            )
    lead = _top(paths)
    order = np.array(rows, np.int64)

    def picture(index: int) -> bytes:
        try:
            return read(int(order[index]))
        except VitrailError as error:
            raise PictureError("V302", f"`{path}/{paths[index]}`: {error.what}", hint="pack it again") from error

    notes = (f"all of it lies in the folder `{printable(lead[:-1])}`",) if lead else ()
    return Tree(str(path), [name[len(lead) :] for name in paths], sizes[order], picture, notes=notes)


def _clean(name: str, path: Path) -> str:
    parts = [part for part in name.split("/") if part != "."]
    if ".." in parts or name.startswith("/") or "" in parts:
        raise DataError(
            "V404", f"`{path}`: the member `{shown(name)}` leads out of the archive", hint="pack it again from a folder"
        )
    return "/".join(parts)


def _top(paths: Sequence[str]) -> str:
    """The folders, with their `/`, in which all files lie; not the last one, where it holds nothing but pictures."""
    lead = ""
    while paths:
        first = paths[0][len(lead) :].partition("/")
        inside = f"{lead}{first[0]}/"
        if not first[1] or not all(path.startswith(inside) for path in paths):
            break
        rest = [path[len(inside) :] for path in paths]
        if all("/" not in name and name.lower().endswith(ENDINGS) for name in rest):
            break
        lead = inside
    return lead
