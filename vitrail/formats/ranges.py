"""Ranges of a large file that stays as it was first seen: opened for each use, so that any thread may read any time.

A thousand shards keep no descriptor open, a forked worker shares no offset, and a file that is cut, grown or replaced
meanwhile is refused and never read as another.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vitrail.errors import DataError, WeightsError, read_fault
from vitrail.formats.bounds import damaged

PACK_AGAIN = "pack it again, or fetch it again"

Read = Callable[[int, int], bytes]  # (offset, bytes) -> so many bytes, fewer only at the end


@dataclass(frozen=True)
class Ranges:
    """A regular file of known size. `read` gives exact ranges; WeightsError V201 where the file is no longer the same,
    SystemFault V702 where it cannot be read.
    """

    path: Path
    size: int
    stamp: tuple[int, int, int]  # device, inode, time of the last change in ns

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`."""
        with self.opened() as read:
            data = read(offset, length)
        if len(data) != length:
            raise damaged(self.path, f"{length} bytes at {offset} lie outside its {self.size} bytes")
        return data

    @contextlib.contextmanager
    def opened(self) -> Iterator[Read]:
        """The file, held open for many reads."""
        descriptor = _open(self.path)
        try:
            status = os.fstat(descriptor)
            if (status.st_size, _stamp(status)) != (self.size, self.stamp):
                raise damaged(self.path, "changed after it was opened", hint="leave the data alone while it is used")
            yield lambda offset, length: _pread(descriptor, offset, length, self.path)
        finally:
            os.close(descriptor)


def ranges(path: Path) -> Ranges:
    """The file as it is now; SystemFault V702 when it cannot be opened or is no regular file."""
    descriptor = _open(path)
    try:
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise read_fault(OSError(errno.EINVAL, "not a regular file"), path)
    return Ranges(path, status.st_size, _stamp(status))


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hang the reader
    except OSError as error:
        raise read_fault(error, path) from error
    except ValueError as error:  # a NUL in the path
        raise read_fault(OSError(errno.EINVAL, str(error)), path) from error


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _pread(descriptor: int, offset: int, length: int, path: Path) -> bytes:
    if offset < 0 or length < 0 or offset >= 1 << 63:
        raise damaged(path, f"{length} bytes at {offset} lie outside it")
    parts: list[bytes] = []
    while length:
        try:
            data = os.pread(descriptor, min(length, 1 << 30), offset)
        except OSError as error:
            raise read_fault(error, path) from error
        if not data:
            break
        parts.append(data)
        offset, length = offset + len(data), length - len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


@contextlib.contextmanager
def as_data() -> Iterator[None]:
    """What a reader of containers says of its bytes, said of a source of pictures: DataError V404."""
    try:
        yield
    except WeightsError as error:
        raise DataError("V404", error.what, evidence=error.evidence, hint=PACK_AGAIN) from error
