"""One descriptor from check to use: a file that is opened once, measured, hashed and read through it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from vitrail.disk import CHUNK
from vitrail.errors import SystemFault, WeightsError, read_fault
from vitrail.formats.bounds import FILE_BYTES, damaged, hostile

ONE_PASS_BYTES = 2 << 30  # a larger file is hashed once before memory is given to it (a sparse file costs no disk)


class Held:
    """An open regular file of known size.  `read` gives exact ranges or refuses; nothing is ever memory-mapped,
    because a map dies with the file (SIGBUS).

    With a hash the bytes are kept as they were hashed, so the bytes used are the bytes checked.
    """

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path = path
        self.size = size
        self._descriptor = descriptor
        self._kept: memoryview | None = None

    def read(self, offset: int, length: int) -> memoryview:
        """`length` bytes from `offset`, read-only; WeightsError V201 where the file ends before."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise damaged(self.path, f"{length} bytes at {offset} lie outside its {self.size} bytes")
        if self._kept is not None:
            return self._kept[offset : offset + length]
        return memoryview(self._fill(offset, length)).toreadonly()

    def _fill(self, offset: int, length: int, digest: hashlib._Hash | None = None) -> bytearray:
        buffer = room(length, self.path)
        view, done = memoryview(buffer), 0
        while done < length:
            try:
                count = os.preadv(self._descriptor, [view[done : done + CHUNK]], offset + done)
            except OSError as error:
                raise read_fault(error, self.path) from error
            if count == 0:
                raise damaged(self.path, f"shrank to {offset + done} bytes while it was read")
            if digest is not None:
                digest.update(view[done : done + count])
            done += count
        return buffer

    def keep_if(self, sha256: str) -> None:
        """Hash the whole file and keep its bytes; WeightsError V201 when the hash is another."""
        if self.size > ONE_PASS_BYTES:
            digest = hashlib.sha256()
            for offset in range(0, self.size, CHUNK):
                self._fill(offset, min(CHUNK, self.size - offset), digest)
            self._compare(digest, sha256)
        digest = hashlib.sha256()
        buffer = self._fill(0, self.size, digest)
        self._compare(digest, sha256)
        self._kept = memoryview(buffer).toreadonly()

    def _compare(self, digest: hashlib._Hash, sha256: str) -> None:
        if digest.hexdigest() != sha256.lower():
            raise WeightsError(
                "V201",
                f"`{self.path}` is not the file it should be: its SHA-256 differs",
                evidence=[f"expected {sha256}", f"found    {digest.hexdigest()}"],
                hint="fetch the file again; nothing of it was parsed",
            )


def room(size: int, path: Path) -> bytearray:
    """Memory for so many bytes of a file; SystemFault V703 where they are not to be had."""
    try:
        return bytearray(size)
    except MemoryError as error:
        raise SystemFault(
            "V703", f"`{path}`: {size} bytes of memory are not to be had", hint="close other programs"
        ) from error


@contextlib.contextmanager
def hold(path: Path, *, sha256: str | None = None) -> Iterator[Held]:
    """Open a weight file once.  With sha256 its bytes are hashed through this descriptor before anything is parsed.

    SystemFault V702 when it cannot be read or is no regular file; WeightsError V201 for another hash, V202 above the
    limit of 64 GiB.
    """
    try:
        # A FIFO must not hang the reader, hence O_NONBLOCK.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise read_fault(error, path) from error
    except ValueError as error:  # a NUL in the path
        raise read_fault(OSError(errno.EINVAL, str(error)), path) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise read_fault(OSError(errno.EINVAL, "not a regular file"), path)
        if status.st_size > FILE_BYTES:
            raise hostile(path, f"{status.st_size} bytes, the limit is {FILE_BYTES}", hint="split the file")
        file = Held(path, descriptor, status.st_size)
        if sha256 is not None:
            file.keep_if(sha256)
        yield file
    finally:
        os.close(descriptor)
