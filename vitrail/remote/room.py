"""What is fetched once for all processes of a machine: who waits for whom, and what goes when room is short.

Everything fetched lies in an entry, a folder of its own. One process fetches it under its lock and the others wait;
whoever uses it holds a shared lock for as long as it lives, and no entry in use is ever removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from vitrail import disk
from vitrail.errors import RunError, UsageError, VitrailError, write_fault
from vitrail.locks import locked

WHOLE = ".whole.json"  # lies in an entry in which nothing is missing
USED = ".used"
LIMIT = "VITRAIL_CACHE_GIB"  # the environment's word for how much all entries may have
_SHARE = 0.8  # of the disk, where nothing is said
_RESERVE = 1 << 30
_used: dict[Path, int] = {}  # entries that this process uses, with the descriptor that says so


@contextlib.contextmanager
def alone(entry: Path, *, pause: float = 0.2) -> Iterator[None]:
    """Hold an entry alone, after every other process that fetches it."""
    disk.make_folder(entry)
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(entry))
                break
            except RunError:  # another one is at it; a dead one's lock is free at once
                time.sleep(pause)
        yield


def in_use(entry: Path) -> None:
    """Say until this process ends that it uses the entry, and that it did so now."""
    path = entry / USED
    try:
        if entry not in _used:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            _used[entry] = descriptor
        os.utime(_used[entry])
    except OSError as error:
        raise write_fault(error, path) from error


def make_room(root: Path, need: int) -> None:
    """Let the entries below `root` go that were not used for longest, until `need` bytes more keep to the limit.

    SystemFault V701 when what is in use leaves no room.
    """
    limit = _limit(root)
    entries = {path.parent: _bytes(path.parent) for path in root.glob(f"*/*/{WHOLE}")}
    total = sum(entries.values())
    for entry in sorted(entries, key=_age):
        if total + need <= limit and need + _RESERVE <= disk.free_space(root):
            return
        if _remove(entry):
            total -= entries[entry]
    free = disk.free_space(root)
    if total + need > limit or need > free:
        what = f"{need:,} bytes are to come, {free:,} are free, {total:,} of {limit:,} are taken by what is in use"
        raise write_fault(OSError(errno.ENOSPC, what), root)


def _limit(root: Path) -> int:
    said = os.environ.get(LIMIT, "")
    if not said:
        status = os.statvfs(root)
        return int(_SHARE * status.f_frsize * status.f_blocks)
    try:
        gib = float(said)
    except ValueError:
        gib = -1.0
    if not 0 < gib < 1e9:
        raise UsageError("V007", f"{LIMIT} is `{said}`", hint="give a number of GiB, such as 500")
    return int(gib * (1 << 30))


def _age(entry: Path) -> float:
    with contextlib.suppress(OSError):
        return (entry / USED).stat().st_mtime
    return 0.0


def _bytes(entry: Path) -> int:
    total = 0
    for parent, _, files in os.walk(entry):
        for name in files:
            with contextlib.suppress(OSError):  # it went meanwhile
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def _remove(entry: Path) -> bool:
    """Remove an entry that nobody fetches or uses."""
    try:
        with locked(entry):
            descriptor = os.open(entry / USED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                disk.remove_folder(entry)
            finally:
                os.close(descriptor)
    except (VitrailError, OSError):
        return False
    return True
