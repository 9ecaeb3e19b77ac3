"""One process at a time: locks on folders that die with whoever holds them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from vitrail.errors import RunError, write_fault

_held: set[int] = set()  # descriptors of the locks that this process holds


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` alone, by a kernel lock that dies with the process; RunError V606 when another holds it.

    Forked children (workers of a loader) do not inherit it: an orphan of a killed run blocks nobody.
    """
    descriptor = _take_lock(folder)
    _held.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _held:  # not in a child that was forked meanwhile: there the number may mean another file
            _held.remove(descriptor)
            _close(descriptor)


def _close(descriptor: int) -> None:
    """Let a lock go. A disk that refuses even that has let it go all the same, and took nothing that matters."""
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _let_go() -> None:
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)


def _take_lock(folder: Path) -> int:
    path = folder / ".lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise write_fault(error, path) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode("ascii", "replace").strip()
        _close(descriptor)
        raise RunError(
            "V606", f"`{folder}` is in use by {holder or 'another process'}", hint="wait for it, or give another --out"
        ) from error
    except OSError as error:
        _close(descriptor)
        raise write_fault(error, path) from error
    return descriptor


__all__ = ["locked"]
