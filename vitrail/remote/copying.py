"""Data and weights by address: copied once for all processes of a machine into the cache, then opened as local ones.

    CACHE/data/HOST/DIGEST/NAME         the file or folder, with `.whole.json` beside it once nothing is missing

What was fetched whole is used as it is and needs no net: remove its entry to fetch it anew. A file of the web that was
written to since is hashed again, and must be the one of the first time. A copy that was killed goes on where it
stopped, as long as the store vouches by an equal tag that it still has the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from vitrail import disk
from vitrail.errors import SystemFault, UsageError, write_fault
from vitrail.remote import room
from vitrail.remote.cache import Progress, Wanted, bring, cache_folder, read_json
from vitrail.remote.storage import Store, Stored
from vitrail.remote.web import Absent, Again, How, Never, refused

T = TypeVar("T")
PIECE = 16 << 20
FILES = 5_000_000
_THREADS = 8
_LISTING, _PARTS = ".listing.json", ".parts"


def is_address(place: str) -> bool:
    """Whether a text is the address of something remote.

    >>> is_address("s3://bucket/photos"), is_address("photos")
    (True, False)
    """
    return re.match(r"[a-z][a-z0-9+.-]*://", place) is not None


def entry_of(url: str, cache: Path | None = None) -> tuple[Path, str]:
    """The entry of an address in the cache, and the name of what lies in it."""
    parts = urlsplit(url)
    name = unquote(url.rstrip("/").rpartition("/")[2].partition("?")[0])
    if not re.fullmatch(r"[\w+][\w+.,=@() -]{0,199}", name, re.ASCII):
        raise UsageError("V007", f"`{url}` does not end in a plain name", hint="give the address of a file or folder")
    host = re.sub(r"[^\w.-]", "_", parts.hostname or parts.scheme)
    digest = disk.sha256_bytes(url.rstrip("/").encode())[:12]
    return (cache or cache_folder()) / "data" / host / digest, name


def fetched(url: str, *, cache: Path | None = None, progress: Progress | None = None, how: How | None = None) -> Path:
    """The file or the folder at an address, in the cache; fetched by one process while the others wait.

    `https://` gives files; s3, gs, obs and memory also folders, through fsspec. UsageError V003 or V007; SystemFault
    V704 when it cannot be fetched (what came is kept), V701 when there is no room; WeightsError V207 for another file
    than at the first time.
    """
    how = how or How()
    entry, name = entry_of(url, cache)
    web = urlsplit(url).scheme in ("http", "https")
    why = refused(url, how) if web else ""
    if why or (web and url.endswith("/")):
        why = why or "https lists no folders"
        raise UsageError("V007", f"`{url}` is not fetched: {why}", hint="give the https address of one file")
    if not _is_whole(entry, name, web=web):
        store = None if web else Store(url, how)
        with room.alone(entry):
            if not _is_whole(entry, name, web=web):
                _fetch(url, store, entry / name, progress, how)
                note = {"url": url, "seen": _seen(entry / name)}
                disk.write_file(entry / room.WHOLE, (json.dumps(note) + "\n").encode())
    room.in_use(entry)
    return entry / name


def _is_whole(entry: Path, name: str, *, web: bool) -> bool:
    """Whether nothing is missing. A file of the web must also be as it was when it was hashed: by what the file system
    notes at every write, as to hash it at every opening would take minutes."""
    if not (entry / room.WHOLE).is_file():
        return False
    return not web or read_json(entry / room.WHOLE).get("seen") == _seen(entry / name)


def _seen(path: Path) -> list[int]:
    """What no write leaves as it was."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _fetch(url: str, store: Store | None, target: Path, progress: Progress | None, how: How) -> None:
    if store is not None:
        _Copy(url, store, target, progress, how).run()
        return
    room.make_room(target.parents[2], 0)
    try:
        bring(Wanted(url, target, progress=progress, how=how))
    except Absent as error:
        raise _fault(url, str(error), target.parent, lasting=True) from error


@dataclass
class _Copy:
    """A file or a tree on its way from a store into an entry."""

    url: str
    store: Store
    target: Path
    progress: Progress | None
    how: How
    _done: int = 0
    _total: int = 0

    def run(self) -> None:
        """Copy what is not there yet, verify it, and note it; SystemFault V704."""
        listing = self._tried(self.store.listed)
        self._check(listing)
        before = self._before(listing)
        self._total = sum(one.size for one in listing)
        missing = [one for one in listing if not (one in before and _length(self._place(one)) == one.size)]
        self._done = self._total - sum(one.size for one in missing)
        room.make_room(self.target.parents[2], sum(one.size for one in missing))
        rows = [asdict(one) for one in listing]
        disk.write_file(self.target.parent / _LISTING, (json.dumps({"files": rows}) + "\n").encode())
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="copy") as pool:
            for _ in pool.map(self._file, missing):
                pass
        parts = self.target.parent / _PARTS
        if parts.is_dir():
            disk.remove_folder(parts)

    def _check(self, listing: Sequence[Stored]) -> None:
        """Names that can only lead below the entry, each once; SystemFault V704 otherwise."""
        if len(listing) > FILES:
            raise self._fault(f"{len(listing):,} files, the limit is {FILES:,}")
        seen: set[str] = set()
        for one in listing:
            parts = one.path.split("/")
            plain = one.path.isprintable() and "\\" not in one.path and not {"", ".", ".."} & set(parts)
            if one.path and (not plain or any(len(part.encode()) > 255 for part in parts)):
                raise self._fault(f"the store lists `{one.path:.100}`, which is no plain path")
            if one.path in seen:
                raise self._fault(f"the store lists `{one.path:.100}` twice")
            seen.add(one.path)

    def _before(self, listing: Sequence[Stored]) -> set[Stored]:
        """What an earlier try knew of the same files. Without a tag nothing tells that they are the same."""
        rows = read_json(self.target.parent / _LISTING).get("files") if self._has_listing() else []
        known = {json.dumps(row, sort_keys=True) for row in rows} if isinstance(rows, list) else set()
        return {one for one in listing if one.tag and json.dumps(asdict(one), sort_keys=True) in known}

    def _has_listing(self) -> bool:
        return (self.target.parent / _LISTING).is_file()

    def _place(self, one: Stored) -> Path:
        return self.target / one.path if one.path else self.target

    def _file(self, one: Stored) -> None:
        """One file: into a part, verified, then under its name."""
        place = self._place(one)
        key = disk.sha256_bytes(f"{one.path}\0{one.tag}\0{one.size}".encode())[:24]
        part = self.target.parent / _PARTS / key
        disk.make_folder(part.parent)
        disk.make_folder(place.parent)
        self._tried(lambda: self._pieces(one, part), grown=lambda: _length(part))
        try:
            os.replace(part, place)
            disk.fsync_folder(place.parent)
        except OSError as error:
            raise write_fault(error, place) from error

    def _pieces(self, one: Stored, part: Path) -> None:
        start = _length(part) if one.tag else 0
        try:
            with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644), "r+b") as file:
                file.truncate(min(start, one.size))
                file.seek(0, os.SEEK_END)
                while file.tell() < one.size:
                    data = self._piece(one, file.tell())
                    file.write(data)
                    file.flush()  # a kill now loses nothing
                os.fsync(file.fileno())
        except OSError as error:
            raise write_fault(error, part) from error
        self._verify(one, part)

    def _piece(self, one: Stored, at: int) -> bytes:
        data = self.store.read(one.path, at, min(at + PIECE, one.size))
        if not data:
            raise Again(f"cut off after {at:,} of {one.size:,} bytes")
        self._done += len(data)
        if self.progress is not None:
            self.progress(min(self._done, self._total), self._total)
        return data

    def _verify(self, one: Stored, part: Path) -> None:
        """The store still has the file that was listed, and its hash where it states one."""
        now = self.store.tag(one.path)
        if now != one.tag:
            part.unlink(missing_ok=True)
            raise Never(f"`{one.path or self.url}` became another file while it was copied: run again")
        if one.md5:
            with part.open("rb") as file:
                found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if found != one.md5:
                part.unlink(missing_ok=True)
                raise Again(f"`{one.path or self.url}` came with MD5 {found}, the store states {one.md5}")

    def _tried(self, call: Callable[[], T], grown: Callable[[], int] = lambda: 0) -> T:
        """The value of a call that may fail `how.tries` times without getting further."""
        idle = 0
        while True:
            before = grown()
            try:
                return call()
            except Never as error:
                raise self._fault(str(error), lasting=True) from error
            except Again as error:
                idle = 0 if grown() > before else idle + 1
                if idle >= self.how.tries:
                    raise self._fault(str(error)) from error
                time.sleep(min(max(self.how.pause * 2 ** max(0, idle - 1), error.wait), 30.0))

    def _fault(self, why: str, *, lasting: bool = False) -> SystemFault:
        return _fault(self.url, why, self.target.parent, lasting=lasting)


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _fault(url: str, why: str, entry: Path, *, lasting: bool = False) -> SystemFault:
    """lasting: whether another try would give the same."""
    again = f"run the same command again: what came is kept in `{entry}`"
    return SystemFault(
        "V704",
        f"cannot fetch {url}",
        evidence=[why],
        hint="check the address, and what may be read there" if lasting else again,
    )
