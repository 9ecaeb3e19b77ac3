"""A file that another one names, in the same folder: opened by its plain name there, and nowhere else."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from vitrail.errors import VitrailError, read_fault
from vitrail.formats.bounds import FILE_BYTES, hostile
from vitrail.formats.held import Held


@contextlib.contextmanager
def opened_folder(path: Path) -> Iterator[int]:
    """The descriptor of a folder; SystemFault V702 when it cannot be opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise read_fault(error, path) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def hold_beside(
    index: Held, folder: int, name: str, *, missing: Callable[[OSError, Path], VitrailError] = read_fault
) -> Iterator[Held]:
    """The file `name` in the index's folder, a regular one of its own; WeightsError V202 for a link that leads
    elsewhere.  missing: the error for a file that is not there.
    """
    path = index.path.absolute().parent / name
    descriptor = _descriptor(index, folder, path, missing)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise hostile(path, "is no regular file of its own", hint="copy the file in its place")
        if status.st_size > FILE_BYTES:
            raise hostile(path, f"{status.st_size} bytes, the limit is {FILE_BYTES}", hint="split the file")
        yield Held(path, descriptor, status.st_size)
    finally:
        os.close(descriptor)


def _descriptor(index: Held, folder: int, path: Path, missing: Callable[[OSError, Path], VitrailError]) -> int:
    try:
        return _no_link(path.name, folder)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise missing(error, path) from error
        if error.errno != errno.ELOOP:
            raise read_fault(error, path) from error
    try:
        store = _store(index.path)
        target = Path(os.path.realpath(path))  # fails when a link becomes a file meanwhile
        if store is None or target.parent != store:
            raise hostile(path, "is a link", hint="copy the file in its place")
        with opened_folder(store) as blobs:
            return _no_link(target.name, blobs)
    except OSError as error:
        raise read_fault(error, path) from error


def _no_link(name: str, folder: int) -> int:
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)


def _store(index: Path) -> Path | None:
    """Where links may lead: in the cache of a hub the index is itself a link, into the one folder of all files."""
    return Path(os.path.realpath(index)).parent if index.is_symlink() else None
