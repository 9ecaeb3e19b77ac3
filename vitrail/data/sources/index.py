"""The index of a huge folder, kept between runs: the next one starts from it without a walk over every file.

It lies in the cache folder, one file a folder, and is never trusted after a change: the times and the inode of every
folder must be as they were, which sees each entry that came, went or got another name; so must the sizes of up to
10,000 files, evenly chosen, which sees most files that were written anew in their place. A folder that changed so
shortly before its walk that its time could stay the same over another change is not kept, nor is one with links.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrail import disk
from vitrail.data.sources.tree import Listing, Tree, folder_tree, listed, on_disk, stamp, tree_of
from vitrail.errors import SystemFault
from vitrail.remote.cache import cache_folder

FROM = 10_000  # files: a smaller folder is walked each time
SAMPLE = 10_000  # files whose sizes are looked at
SETTLED_NS = 2_000_000_000  # a folder must be older than this at its walk; the coarsest clocks of disks tick so
LIMIT = 4 << 30  # bytes of an index
_MAGIC = b"vitrail index 1\n"


def indexed_tree(root: Path, *, follow_outside: bool = False) -> Tree:
    """As `folder_tree`, from the kept index where it still holds; kept anew where it does not."""
    if follow_outside:
        return folder_tree(root, follow_outside=True)
    path = place_of(root)
    kept = _kept(root, path) if path.is_file() else None
    if kept is not None:
        return kept
    began = time.time_ns()
    found = listed(root)
    tree = tree_of(found)
    if len(tree.paths) >= FROM and not found.linked and not found.loops and _settled(found, began):
        with contextlib.suppress(SystemFault):  # a full or read-only cache costs the next run its walk, no more
            disk.make_folder(path.parent)
            disk.write_file(path, _bytes(found, tree))
    return tree


def place_of(root: Path) -> Path:
    """Where the index of a folder is kept."""
    digest = disk.sha256_bytes(os.fsencode(os.path.realpath(root)))
    return cache_folder() / "index" / f"{digest[:32]}.index"


def _settled(found: Listing, began: int) -> bool:
    stamps = np.frombuffer(found.stamps, np.int64).reshape(-1, 3)
    return bool((stamps[:, :2].max(axis=1) < began - SETTLED_NS).all())


def _bytes(found: Listing, tree: Tree) -> bytes:
    """The file: what it is and its hash | folders | stamps | empty folders | paths | sizes, each behind its length."""
    parts = [
        _joined(found.folders),
        found.stamps.tobytes(),
        _joined(tree.empty),
        _joined(tree.paths),
        tree.sizes.tobytes(),
    ]
    body = b"".join(parts)
    head = {"lengths": [len(part) for part in parts], "files": len(tree.paths), "sha256": disk.sha256_bytes(body)}
    return _MAGIC + json.dumps(head).encode() + b"\n" + body


def _joined(names: list[str] | tuple[str, ...] | object) -> bytes:
    assert isinstance(names, (list, tuple))
    return os.fsencode("".join(chain.from_iterable((name, "\0") for name in names)))


def _split(data: bytes) -> list[str]:
    return os.fsdecode(data).split("\0")[:-1]


def _kept(root: Path, path: Path) -> Tree | None:
    """The tree of a kept index; None where it is damaged, or the folder is no longer what it was."""
    try:
        data = disk.read_file(path, limit=LIMIT)
        head_end = data.index(b"\n", len(_MAGIC))
        head = json.loads(data[len(_MAGIC) : head_end])
        body = data[head_end + 1 :]
        if not data.startswith(_MAGIC) or disk.sha256_bytes(body) != head["sha256"]:
            return None
    except (SystemFault, ValueError, KeyError, TypeError):
        return None  # whatever it is, it is no index of ours
    parts = []
    at = 0
    for length in head["lengths"]:
        parts.append(body[at : at + length])
        at += length
    folders, empty, paths = _split(parts[0]), _split(parts[2]), _split(parts[3])
    stamps = np.frombuffer(parts[1], np.int64).reshape(-1, 3)
    sizes = np.frombuffer(parts[4], np.int64)
    if not len(paths) == len(sizes) == head["files"] or len(folders) != len(stamps):
        return None
    if not (_same_folders(root, folders, stamps) and _same_sizes(root, paths, sizes)):
        return None
    return on_disk(os.fspath(root), paths, sizes, empty=empty, notes=(f"{len(paths):,} files by the kept index",))


def _same_folders(root: Path, folders: list[str], stamps: NDArray[np.int64]) -> bool:
    try:
        return all(
            stamp(os.stat(os.path.join(root, folder))) == tuple(then)
            for folder, then in zip(folders, stamps.tolist(), strict=True)
        )
    except OSError:
        return False


def _same_sizes(root: Path, paths: list[str], sizes: NDArray[np.int64]) -> bool:
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(SAMPLE, len(paths))).astype(np.int64))
    try:
        return all(os.lstat(os.path.join(root, paths[at])).st_size == sizes[at] for at in chosen.tolist())
    except OSError:
        return False
