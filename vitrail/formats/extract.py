"""Archives unpacked so that nothing can reach outside: regular files and folders only, each made anew below one folder.

Every file is created with O_EXCL and O_NOFOLLOW relative to an open folder, so a link has nothing to stand on. Links,
devices, modes and owners of the archive are never made. The folder appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from vitrail import disk
from vitrail.errors import DataError, write_fault
from vitrail.formats import tar
from vitrail.formats.archives import archive_kind
from vitrail.formats.bounds import damaged, hostile, shown
from vitrail.formats.inflated import FREE_RATIO_BYTES, inflated
from vitrail.formats.ranges import Ranges, Read, as_data, ranges
from vitrail.formats.zip_files import zip_files

_PART_BYTES, _DEPTH, _PATH_BYTES = 255, 64, 4096
_CHUNK = 1 << 20

Progress = Callable[[int, int], object]  # (bytes done, bytes in all)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an archive may hold at most."""

    members: int = 5_000_000
    bytes: int = 1 << 40
    reserve: int = 256 << 20  # bytes that stay free on the disk
    ratio: int = 200  # of unpacked to packed bytes, after the first 16 MiB


@dataclass(frozen=True)
class Extracted:
    """What was unpacked."""

    files: int
    bytes: int


def extract(archive: Path, into: Path, *, limits: Limits | None = None, progress: Progress | None = None) -> Extracted:
    """Unpack a zip, or a tar that may be compressed by gzip, xz or bzip2, into the new folder `into`.

    DataError V404 names the member that does not stand: then, as after any fault, nothing is left. V402 for a file of
    another kind; SystemFault V701 when `into` is there or the disk refuses.
    """
    limits = limits or Limits()
    kind = archive_kind(archive)
    if kind not in ("zip", "tar", "gzip", "xz", "bzip2"):
        told = "packed by zstd" if kind == "zstd" else "no zip or tar archive"
        hint = f"unzstd -k {archive.name}" if kind == "zstd" else "name the archive"
        raise DataError("V402", f"`{archive}` is {told}", hint=hint)
    if os.path.lexists(into):
        raise write_fault(FileExistsError(errno.EEXIST, "something of that name is there"), into)
    disk.make_folder(into.absolute().parent)
    room = disk.free_space(into.absolute().parent) - limits.reserve
    file = ranges(archive)
    with (
        as_data(),
        disk.new_folder(into) as folder,
        file.opened() as read,
        _Below(folder, archive, limits, room) as below,
    ):
        if kind == "zip":
            _unzip(file, read, below, limits.ratio, progress)
        elif kind == "tar":
            _take(read, archive, tar.members(read, archive), below, lambda done: progress and progress(done, file.size))
        else:
            stream = inflated(read, kind, archive, ratio=limits.ratio)
            _take(
                stream,
                archive,
                tar.members(stream, archive),
                below,
                lambda done: progress and progress(done, max(done, file.size)),
            )
    return Extracted(below.files, below.bytes)


def _unzip(file: Ranges, read: Read, below: _Below, ratio: int, progress: Progress | None) -> None:
    found = zip_files(file)
    total = int(found.sizes.sum())
    for name in found.folders:
        below.folder(name)
    for index, name in enumerate(found.names):
        size = int(found.sizes[index])
        if size > max(FREE_RATIO_BYTES, ratio * int(found.packed[index])):
            raise hostile(file.path, f"the member `{shown(name)}` grows more than {ratio} times")
        with below.file(name, size) as out:
            for piece in found.chunks(index, read):
                write_all(out, piece)
        if progress is not None:
            progress(below.bytes, total)


def extract_members(read: Read, archive: Path, members: Iterable[tar.Member], into: Path) -> Extracted:
    """Some members of a tar that is open, in the new folder `into`, as safely as `extract` does it."""
    limits = Limits()
    disk.make_folder(into.absolute().parent)
    room = disk.free_space(into.absolute().parent) - limits.reserve
    with (
        as_data(),
        disk.new_folder(into) as folder,
        _Below(folder, archive, limits, room) as below,
    ):
        _take(read, archive, members, below, lambda done: None)
    return Extracted(below.files, below.bytes)


def _take(
    read: Read, path: Path, members: Iterable[tar.Member], below: _Below, progress: Callable[[int], object]
) -> None:
    for member in members:
        if member.kind == "folder":
            below.folder(member.name)
            continue
        if member.kind != "file":
            raise hostile(path, f"the member `{shown(member.name)}` is a link or a device, and no file")
        with below.file(member.name, member.size) as out:
            at, end = member.start, member.start + member.size
            while at < end:
                data = read(at, min(_CHUNK, end - at))
                if not data:
                    raise damaged(path, f"is cut off inside the member `{shown(member.name)}`")
                write_all(out, data)
                at += len(data)
        progress(member.start + member.size)


@dataclass
class _Below:
    """One open folder, and what is made below it: counted, each name once, nothing followed."""

    root: Path
    archive: Path
    limits: Limits
    room: int  # bytes that the disk can take
    files: int = 0
    bytes: int = 0
    _seen: dict[str, str] = field(default_factory=dict)  # names without case -> as they stand; folders end in `/`
    _held: dict[tuple[str, ...], int] = field(default_factory=dict)  # open folders on the way to the newest file

    def __enter__(self) -> Self:
        self._held[()] = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        while self._held:
            os.close(self._held.popitem()[1])

    def folder(self, name: str) -> None:
        """Make a folder of the archive."""
        self._reach(self._parts(name, name.rstrip("/")))

    @contextlib.contextmanager
    def file(self, name: str, size: int) -> Iterator[int]:
        """A new file of `size` bytes, as a descriptor to write to."""
        if name.endswith("/"):
            raise hostile(self.archive, f"the file `{shown(name)}` is named as a folder")
        parts = self._parts(name, name)
        if not parts:
            raise hostile(self.archive, f"the file `{shown(name)}` has no name")
        self.files += 1
        self.bytes += size
        most = self.limits.bytes
        if self.bytes > most:
            raise hostile(self.archive, f"with `{shown(name)}` it holds {self.bytes:,} bytes, {most:,} may be")
        if self.bytes > self.room:
            kept = self.limits.reserve >> 20
            full = f"it needs {self.bytes:,} bytes and more, {kept:,} MiB are left free"
            raise write_fault(OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {full}"), self.root.parent)
        parent = self._reach(parts[:-1])
        self._claim("/".join(parts), name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(parts[-1], flags, 0o644, dir_fd=parent)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _parts(self, name: str, path: str) -> tuple[str, ...]:
        """The parts of a name that can only lead below; V202 names what could lead elsewhere."""
        if len(self._seen) >= self.limits.members:
            raise hostile(self.archive, f"with `{shown(name)}` it holds more than {self.limits.members:,} members")
        if not path.isprintable() or "\\" in path or path.startswith("/") or path[1:2] == ":":
            raise hostile(self.archive, f"the name `{shown(name)}` is absolute, or holds what no plain name does")
        parts = tuple(part for part in path.split("/") if part not in ("", "."))
        long = any(len(part.encode()) > _PART_BYTES for part in parts) or len(path.encode()) > _PATH_BYTES
        if ".." in parts or long or len(parts) > _DEPTH:
            raise hostile(self.archive, f"the name `{shown(name)}` leads upwards, or is too long or too deep")
        return parts

    def _claim(self, path: str, name: str) -> bool:
        """Take a name; False where the same folder has it. V202 where two members would be one on some disk."""
        plain = path.rstrip("/").casefold()
        before = self._seen.setdefault(plain, path)
        if before is path:
            return True
        if before == path and path.endswith("/"):
            return False
        raise hostile(self.archive, f"two members are named `{shown(name)}`, or are equal but for case")

    def _reach(self, parts: tuple[str, ...]) -> int:
        """The open folder at `parts`, made where it is not there."""
        for held in [held for held in self._held if parts[: len(held)] != held]:
            os.close(self._held.pop(held))
        for depth in range(1, len(parts) + 1):
            at = parts[:depth]
            if at in self._held:
                continue
            above = self._held[at[:-1]]
            if self._claim("/".join(at) + "/", "/".join(parts)):
                os.mkdir(at[-1], 0o755, dir_fd=above)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            self._held[at] = os.open(at[-1], flags, dir_fd=above)
        return self._held[parts]


def write_all(descriptor: int, data: bytes) -> None:
    """Every byte of `data`; OSError as the disk gives it."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
