"""Files that are whole or absent: written aside, flushed to the disk, renamed; and hashes and safe joins.

The order of every save is: write the new files aside, fsync each, fsync their folder, rename it to its final name,
fsync the folder that holds the name. A kill, a full disk or a power loss at any point leaves the old state or the new.
What is removed goes the other way: renamed aside first, so that nothing half removed ever carries a real name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from vitrail.errors import BundleError, SystemFault, read_fault, write_fault

CHUNK = 1 << 20
ASIDE = ".aside-"  # prefix of everything that is not finished; whoever holds the folder may remove it
_FILE_MODE, _FOLDER_MODE = 0o644, 0o755  # less what the umask takes; never world-writable


def sha256_bytes(data: bytes | memoryview) -> str:
    """SHA-256 of `data` in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path, *, follow: bool = True) -> str:
    """SHA-256 of a regular file in lower-case hex; SystemFault V702 when it cannot be read.

    follow=False also refuses a link in its place.
    """
    try:
        with _opened(path, follow) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise read_fault(error, path) from error


def read_file(path: Path, *, limit: int, follow: bool = True) -> bytes:
    """The bytes of a regular file of at most `limit` bytes, read through one descriptor.

    SystemFault V702 when it cannot be read or is larger, no regular file, or changes its size meanwhile; with
    follow=False also for a link in its place.
    """
    try:
        with _opened(path, follow) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise OSError(errno.EFBIG, f"{size} bytes, the limit is {limit}")
            data = file.read(size + 1)
            if len(data) != size:
                raise OSError(errno.EIO, f"its size changed from {size} bytes while it was read")
    except OSError as error:
        raise read_fault(error, path) from error
    return data


@contextlib.contextmanager
def _opened(path: Path, follow: bool) -> Iterator[io.BufferedReader]:
    def opener(name: str, flags: int) -> int:
        extra = os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not hang the reader
        return os.open(name, flags | extra | (0 if follow else os.O_NOFOLLOW))

    with open(_known(path), "rb", opener=opener) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        yield file


def _known(path: Path) -> Path:
    """`path`, if the system can express it: NUL and lone surrogates would raise a bare ValueError."""
    try:
        bad = b"\0" in os.fsencode(path)
    except UnicodeEncodeError:
        bad = True
    if bad:
        raise OSError(errno.EINVAL, "the name holds characters that no file can have")
    return path


def fsync_folder(path: Path) -> None:
    """Make the names inside `path` durable; OSError when the disk does not confirm it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder and say so
            raise
    finally:
        os.close(descriptor)


def write_new(path: Path, data: bytes | Callable[[IO[bytes]], object]) -> None:
    """Write and fsync a file that must not exist yet, for use inside `new_folder`; OSError as the disk gives it.

    The pages are then dropped from memory, so whoever reads the file back reads the disk.
    """
    with open(path, "xb", opener=_create) as file:
        if callable(data):
            data(file)
        else:
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _create(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE)


def _aside(path: Path) -> Path:
    """A name beside `path` that no other process or thread uses, and that fits where the longest name fits."""
    return _known(path).absolute().parent / f"{ASIDE}{os.getpid()}-{secrets.token_hex(4)}"


def _refuse_device(path: Path) -> None:
    """A device is not replaced by a file, whatever links lead to it."""
    try:
        mode = os.stat(_known(path)).st_mode
    except OSError:  # nothing is there, or what writing will find out
        return
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise SystemFault("V701", f"cannot write `{path}`: it is a device", hint="give the name of a file")


def write_file(path: Path, data: bytes | Callable[[IO[bytes]], object]) -> None:
    """Write a file whole or not at all. data: the bytes, or a function that writes them to a binary file.

    SystemFault V701 with the true errno when the disk refuses, or where a device stands; the old file, if any, is then
    untouched.
    """
    try:
        _refuse_device(path)
        aside = _aside(path)
        with _removed_on_error(aside):
            write_new(aside, data)
            os.replace(aside, path)
    except OSError as error:
        raise write_fault(error, path) from error
    _settle(path)


@contextlib.contextmanager
def new_folder(path: Path, *, many: bool = False) -> Iterator[Path]:
    """A folder that appears under `path` whole, or not at all: fill the yielded one; it is fsynced and renamed.

    many: of small files; the file system is then flushed once, where each fsync would wait for the disk.
    An empty folder that stands there is replaced. SystemFault V701 when the disk refuses, or for any OSError of the
    body.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     with new_folder(Path(place) / "result") as folder:
    ...         _ = (folder / "a.txt").write_text("whole")
    ...     (Path(place) / "result" / "a.txt").read_text()
    'whole'
    """
    try:
        aside = _aside(path)
        make_folder(aside.parent)
        with _removed_on_error(aside):
            aside.mkdir(_FOLDER_MODE)
            yield aside
            (_sync_around if many else _fsync_tree)(aside)
            os.rename(aside, path)
    except OSError as error:
        raise write_fault(error, path) from error
    _settle(path)


@contextlib.contextmanager
def _removed_on_error(aside: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        _remove_quietly(aside)
        raise


def _settle(path: Path) -> None:
    """Make the new name durable.  Only here may a fault come too late to keep what the name meant before."""
    try:
        fsync_folder(path.absolute().parent)
    except OSError as error:
        raise SystemFault(
            "V701",
            f"`{path}` is written whole, but the disk does not confirm it: {error.strerror or error}",
            evidence=[f"errno {error.errno} ({errno.errorcode.get(error.errno or 0, '?')})"],
            hint="check the disk; after a power loss the state before may come back",
        ) from error


def _fsync_tree(folder: Path) -> None:
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders.sort()
        for name in sorted(files):
            descriptor = os.open(Path(parent) / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        fsync_folder(Path(parent))


def _sync_around(folder: Path) -> None:
    """Everything written to the file system in which a folder lies, durable; OSError when the disk does not confirm it.

    Python has no word for it, and `os.sync` tells of no failure.
    """
    import ctypes

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


def _raise(error: OSError) -> None:
    raise error


def _remove_quietly(path: Path) -> None:
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(path.lstat().st_mode):
            _remove_tree(path)
        else:
            path.unlink()


def make_folder(path: Path) -> None:
    """Create `path` and its parents, each durably; SystemFault V701 when that fails."""
    missing: list[Path] = []
    try:
        at = _known(path)
        while not at.is_dir() and at != at.parent:
            missing.append(at)
            at = at.parent
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another process was quicker
                folder.mkdir(_FOLDER_MODE)
            fsync_folder(folder.parent)
        if not path.is_dir():
            raise FileExistsError(errno.EEXIST, "something else has that name")
    except OSError as error:
        raise write_fault(error, path) from error


def remove_folder(path: Path) -> None:
    """Remove a folder at once: it is renamed aside, durably, before its first file goes.

    SystemFault V701 when that fails; it then stands untouched, or what is left of it is aside.
    """
    try:
        aside = _aside(path)
        os.rename(path, aside)
        fsync_folder(aside.parent)
        _remove_tree(aside)
    except OSError as error:
        raise SystemFault(
            "V701",
            f"cannot remove `{path}`: {error.strerror or error}",
            evidence=[f"errno {error.errno} ({errno.errorcode.get(error.errno or 0, '?')})"],
            hint="check the folder and its permissions; nothing else was touched",
        ) from error


def _remove_tree(folder: Path) -> None:
    """As shutil.rmtree, which closes a descriptor twice when closing fails and then hides the true errno."""
    for parent, folders, files in os.walk(folder, topdown=False, onerror=_raise):
        for name in files:
            os.unlink(os.path.join(parent, name))
        for name in folders:
            path = os.path.join(parent, name)
            (os.unlink if os.path.islink(path) else os.rmdir)(path)
    os.rmdir(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left aside in `folder`. Only for whoever holds its lock."""
    for entry in sorted(folder.glob(f"{ASIDE}*")):
        _remove_quietly(entry)


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
                "V502",
                f"`{name}` is missing in `{root}`",
                evidence=[error.strerror or str(error)],
                hint="make the bundle again",
            ) from error
        if stat.S_ISLNK(status.st_mode):
            raise BundleError("V503", f"`{name}` in `{root}` is a link", hint="copy the file in its place")
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise BundleError(
            "V503", f"`{name}` in `{root}` is no regular file of its own", hint="copy the file in its place"
        )
    return path


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
    "make_folder",
    "member",
    "new_folder",
    "read_file",
    "remove_folder",
    "remove_leftovers",
    "sha256_bytes",
    "sha256_file",
    "write_file",
    "write_new",
]
