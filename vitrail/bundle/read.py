"""Opening a bundle: every listed file is measured and hashed, through descriptors that stay open, before any use."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from vitrail import disk
from vitrail.bundle.manifest import MAX_BYTES, NAME, File, Manifest
from vitrail.bundle.values import refused
from vitrail.errors import BundleError, read_fault
from vitrail.machine import cores

IN_MEMORY = 64 << 20  # smaller files are read once; the bytes that were hashed are the bytes handed on
COPY_AGAIN = "copy or fetch the bundle again"

# a link, a folder or another kind of file where an ordinary one was
_CHANGED = (errno.ELOOP, errno.ENOTDIR, errno.ENOENT, errno.ENXIO)


class OpenFile:
    """One file of a checked bundle, held open."""

    def __init__(self, name: str, entry: File, descriptor: int) -> None:
        self.name = name
        self.entry = entry
        self._descriptor = descriptor
        self._kept: bytes | None = None
        self._hashed: tuple[int, ...] = ()

    def check(self) -> None:
        """Hash the file; BundleError V502 when size or SHA-256 are not the manifest's."""
        if self.entry.size < IN_MEMORY:
            self._kept = self._read_and_hash()
            return
        self._hashed = _state(self._descriptor)
        digest = hashlib.sha256()
        for chunk in self._chunks():
            digest.update(chunk)
        self._compare(digest)
        self.unchanged()

    def read(self) -> bytes:
        """The bytes, which were hashed after they were read: what is used is what was checked."""
        return self._kept if self._kept is not None else self._read_and_hash()

    @property
    def large(self) -> bool:
        """Whether it stays on the disk: give its readers `path` or `part`, and ask `unchanged` when they are done."""
        return self.entry.size >= IN_MEMORY

    def part(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; BundleError V502 when the file ends before."""
        found = b""
        while len(found) < length:
            try:
                chunk = os.pread(self._descriptor, length - len(found), offset + len(found))
            except OSError as error:
                raise read_fault(error, self.name) from error
            if not chunk:
                raise _differs(self.name, f"size     {self.entry.size}", f"found    {offset + len(found)}")
            found += chunk
        return found

    def unchanged(self) -> None:
        """BundleError V502 when the file was written to after it was hashed."""
        if _state(self._descriptor) != self._hashed:
            raise _differs(self.name, "it changed while it was read")

    def path(self) -> Path:
        """A path to this very file for readers that need one; give them `entry.sha256` to hash what they read."""
        return Path(f"/proc/self/fd/{self._descriptor}")

    def close(self) -> None:
        """Let go of descriptor and bytes; afterwards the file cannot be read."""
        self._kept = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _read_and_hash(self) -> bytes:
        data = b"".join(self._chunks())
        self._compare(hashlib.sha256(data))
        return data

    def _chunks(self) -> Iterator[bytes]:
        done = 0
        while done < self.entry.size:
            try:
                chunk = os.pread(self._descriptor, min(disk.CHUNK, self.entry.size - done), done)
            except OSError as error:
                raise read_fault(error, self.name) from error
            if not chunk:
                raise _differs(self.name, f"size     {self.entry.size}", f"found    {done}")
            done += len(chunk)
            yield chunk

    def _compare(self, digest: hashlib._Hash) -> None:
        if digest.hexdigest() != self.entry.sha256:
            raise _differs(self.name, f"expected {self.entry.sha256}", f"found    {digest.hexdigest()}")


@dataclass
class Opened:
    """A checked bundle: its manifest and a held file for each name in it. Use it in a `with`, or close it."""

    folder: Path
    manifest: Manifest
    files: dict[str, OpenFile] = field(default_factory=dict)

    def read(self, name: str) -> bytes:
        """The checked bytes of one file; BundleError V502 when the manifest lists no such file."""
        return self.file(name).read()

    def file(self, name: str) -> OpenFile:
        """The held file of that name; BundleError V502 when the manifest lists none."""
        if name not in self.files:
            raise BundleError("V502", f"the manifest of `{self.folder}` lists no `{name}`", hint=COPY_AGAIN)
        return self.files[name]

    def close(self) -> None:
        """Close every held file."""
        for file in self.files.values():
            file.close()

    def __enter__(self) -> Opened:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check(folder: Path, *, meanwhile: Callable[[Opened], object] | None = None) -> Opened:
    """The bundle in `folder`, every byte of it checked against its manifest. Files that it does not list are ignored.

    meanwhile: called while the large files are hashed; it may look at the manifest alone.

    BundleError V501 for the manifest, V502 for a missing or different file, V503 for a path that leads out;
    SystemFault V702 for a file that may not be read.
    """
    opened = Opened(folder, read_manifest(folder))
    try:
        for name, entry in opened.manifest.files.items():  # sizes first: they cost nothing
            opened.files[name] = OpenFile(name, entry, _open_inside(folder, name, entry.size))
        with ThreadPoolExecutor(cores()) as threads:  # hashing leaves the interpreter to others
            large = [threads.submit(file.check) for file in opened.files.values() if file.large]
            for file in opened.files.values():
                if not file.large:
                    file.check()
            if meanwhile is not None:
                meanwhile(opened)
            for done in large:
                done.result()
    except BaseException:
        opened.close()
        raise
    return opened


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone, checked against its digest; BundleError V501 where there is none."""
    try:
        there = (folder / NAME).is_symlink() or (folder / NAME).exists()
    except OSError as error:
        raise read_fault(error, folder / NAME) from error
    if not there:
        raise refused(f"`{folder}` holds no {NAME}", hint="give the folder of a bundle")
    descriptor = _open_inside(folder, NAME, None)
    try:
        with open(descriptor, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise read_fault(error, folder / NAME) from error
    try:
        return Manifest.from_json(data)
    except BundleError as error:
        where = (f"in `{folder / NAME}`", *error.evidence)
        raise BundleError(error.code, error.what, evidence=where, hint=error.hint) from error


def _open_inside(folder: Path, name: str, size: int | None) -> int:
    """A descriptor of `folder/name`, reached without following a link below `folder`; the caller closes it."""
    path = disk.member(folder, name)
    try:
        descriptor = _walk(folder, name.split("/"))
    except OSError as error:
        if error.errno not in _CHANGED:
            raise read_fault(error, path) from error
        raise BundleError("V503", f"`{name}` in `{folder}` changed while it was opened", hint=COPY_AGAIN) from error
    status = os.fstat(descriptor)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise BundleError("V503", f"`{path}` is no regular file of its own", hint="copy the file in its place")
        if size is not None and status.st_size != size:
            raise _differs(name, f"size     {size}", f"found    {status.st_size}")
        stack.pop_all()
    return descriptor


def _walk(folder: Path, parts: list[str]) -> int:
    """Open each part relative to the one before; O_NONBLOCK so that a FIFO does not hang us."""
    current = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for index, part in enumerate(parts):
        kind = os.O_DIRECTORY if index < len(parts) - 1 else os.O_NONBLOCK
        try:
            following = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=current)
        finally:
            os.close(current)
        current = following
    return current


def _state(descriptor: int) -> tuple[int, ...]:
    """What changes when a file is written to."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _differs(name: str, *evidence: str) -> BundleError:
    return BundleError("V502", f"`{name}` is not the file of the manifest", evidence=evidence, hint=COPY_AGAIN)
