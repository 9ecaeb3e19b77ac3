"""Files that are whole or absent: written aside, flushed to the disk, renamed; and hashes, safe joins, locks.

The order of every save is: write the new files aside, fsync each, fsync their folder, rename it to its final name,
fsync the folder that holds the name. A kill, a full disk or a power loss at any point leaves the old state or the new.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from vitrail.errors import BundleError, RunError, read_fault, write_fault

CHUNK = 1 << 20
ASIDE = ".aside-"  # prefix of everything that is not finished; whoever holds the folder may remove it


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of `data` in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a regular file in lower-case hex; SystemFault V702 when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise read_fault(error, path) from error


def fsync_folder(path: Path) -> None:
    """Make the names inside `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_durably(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    with path.open("xb", buffering=0) as file:
        write(_Whole(file))
        os.fsync(file.fileno())


class _Whole:
    """A raw file whose write() writes everything or raises: raw writes may be short."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, data: bytes | bytearray | memoryview) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            done += self._file.write(view[done : done + CHUNK])
        return len(view)


def write_file(path: Path, data: bytes | Callable[[IO[bytes]], object]) -> None:
    """Write a file whole or not at all. data: the bytes, or a function that writes them to a binary file.

    SystemFault V701 with the true errno when the disk refuses; the old file, if any, is then untouched.
    """
    aside = path.with_name(f"{ASIDE}{os.getpid()}-{path.name[-150:]}")
    write = data if callable(data) else (lambda file: file.write(data))
    try:
        aside.unlink(missing_ok=True)
        _write_durably(aside, write)
        os.replace(aside, path)
        fsync_folder(path.parent)
    except OSError as error:
        _remove_quietly(aside)
        raise write_fault(error, path) from error
    except BaseException:
        _remove_quietly(aside)
        raise


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder that appears under `path` whole, or not at all: fill the yielded one; it is fsynced and renamed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     with new_folder(Path(place) / "result") as folder:
    ...         _ = (folder / "a.txt").write_text("whole")
    ...     (Path(place) / "result" / "a.txt").read_text()
    'whole'
    """
    aside = path.with_name(f"{ASIDE}{os.getpid()}-{path.name[-150:]}")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        yield aside
        _fsync_tree(aside)
        os.rename(aside, path)
        fsync_folder(path.parent)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise write_fault(error, path) from error
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _fsync_tree(folder: Path) -> None:
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            descriptor = os.open(Path(parent) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        fsync_folder(Path(parent))


def _remove_quietly(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def make_folder(path: Path) -> None:
    """Create `path` and its parents; SystemFault V701 when that fails."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_fault(error, path) from error


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left aside in `folder`. Only for whoever holds its lock."""
    for entry in sorted(folder.glob(f"{ASIDE}*")):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            _remove_quietly(entry)


def read_file(path: Path, *, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes, read through one descriptor.

    SystemFault V702 when it cannot be read or is larger, no regular file, or changes its size meanwhile.
    """
    try:
        with path.open("rb", opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(22, "not a regular file")
            if status.st_size > limit:
                raise OSError(27, f"{status.st_size} bytes, the limit is {limit}")
            data = file.read(limit + 1)
    except OSError as error:
        raise read_fault(error, path) from error
    if len(data) > limit:
        raise read_fault(OSError(27, f"grew beyond {limit} bytes while it was read"), path)
    return data


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not hang the reader


def member(root: Path, name: str) -> Path:
    """The regular file `name` inside `root`; BundleError V503 for anything that leads, or could lead, out of it.

    name is a relative path with `/`. Refused: absolute, `..`, backslash, control characters, links anywhere on the
    way, hard links to other names, and everything that is no regular file.
    """
    parts = name.split("/")
    if not name or not name.isprintable() or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise BundleError("V503", f"`{name}` is no plain path inside the bundle", hint="make the bundle again")
    path = root
    for part in parts:
        path = path / part
        try:
            status = path.lstat()
        except OSError as error:
            raise BundleError(
                "V502", f"`{name}` is missing in `{root}`", evidence=[error.strerror or str(error)], hint="make it again"
            ) from error
        if stat.S_ISLNK(status.st_mode):
            raise BundleError("V503", f"`{name}` in `{root}` is a link", hint="copy the file in its place")
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise BundleError(
            "V503", f"`{name}` in `{root}` is no regular file of its own", hint="copy the file in its place"
        )
    return path


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` alone, by a kernel lock that dies with the process; RunError V606 when another holds it."""
    descriptor = _take_lock(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def _take_lock(folder: Path) -> int:
    path = folder / ".lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise write_fault(error, path) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 64, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise RunError(
            "V606", f"`{folder}` is in use by process {holder or '?'}", hint="wait for it, or give another --out"
        ) from error
    except OSError as error:
        os.close(descriptor)
        raise write_fault(error, path) from error
    return descriptor


def free_space(path: Path) -> int:
    """Bytes free for us where `path` lies."""
    try:
        return shutil.disk_usage(path).free
    except OSError as error:
        raise read_fault(error, path) from error


__all__ = [
    "ASIDE",
    "free_space",
    "fsync_folder",
    "locked",
    "make_folder",
    "member",
    "new_folder",
    "read_file",
    "remove_leftovers",
    "sha256_bytes",
    "sha256_file",
    "write_file",
]
