"""Looks that are kept, so that what was decoded once is not decoded again: by content, never by a file's name alone.

Two tables in vitrail's cache folder. `files`: which content a file had, with its size, its times (changed and status
changed, in nanoseconds) and its number on the disk; when any of them differs, the file is read again. `looks`: a look
by the SHA-256 of the content. A file that was written within the last two seconds is read again the next time: its
times could stay the same through another change. A cache that is damaged, or of another version, is made anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vitrail.data.looks import LOOKS, Look
from vitrail.remote.cache import cache_folder

FRESH_NS = 2_000_000_000  # a file system may tell times only to two seconds
_TABLES = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, ctime INTEGER, inode INTEGER, content TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS looks (content TEXT PRIMARY KEY, said TEXT, thumb BLOB) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Stamp:
    """By what a file is known again: when all of it is equal, the file was not touched."""

    size: int
    mtime: int
    ctime: int
    inode: int

    @staticmethod
    def of(path: Path) -> Stamp | None:
        """The stamp of a file; None when there is none."""
        try:
            status = path.stat()
        except (OSError, ValueError):
            return None
        signed = status.st_ino - (1 << 64) if status.st_ino >= 1 << 63 else status.st_ino  # SQLite's integers
        return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, signed)

    @property
    def fresh(self) -> bool:
        """Whether the file was written so lately that another change may not show."""
        return max(self.mtime, self.ctime) > time.time_ns() - FRESH_NS


class Kept:
    """The kept looks, for any thread; `None` in place of a folder keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._lock = threading.Lock()
        self._base = None if folder is None else _opened(folder / "looks.sqlite")

    def known(self, path: Path, stamp: Stamp) -> Look | None:
        """The look at a file that has not been touched since."""
        row = self._one("SELECT size, mtime, ctime, inode, content FROM files WHERE path = ?", _key(path))
        if row is None or stamp != Stamp(*row[:4]):
            return None
        return self.of_content(str(row[4]))

    def of_content(self, content: str) -> Look | None:
        """The look at that content."""
        row = self._one("SELECT said, thumb FROM looks WHERE content = ?", content)
        if row is None:
            return None
        try:
            return Look(content=content, thumb=bytes(row[1]), **json.loads(row[0]))
        except (TypeError, ValueError):  # written by another version, or damaged
            return None

    def keep(self, looks: Iterable[tuple[Path | None, Stamp | None, Look]]) -> None:
        """Keep looks, and which files they are of. A disk that refuses loses nothing but time."""
        if self._base is None:
            return
        with self._lock, contextlib.suppress(sqlite3.Error), self._base:
            for path, stamp, look in looks:
                if not look.content:
                    continue
                values = {key: value for key, value in asdict(look).items() if key not in ("content", "thumb")}
                said = (look.content, json.dumps(values), look.thumb)
                self._base.execute("INSERT OR REPLACE INTO looks VALUES (?, ?, ?)", said)
                if path is not None and stamp is not None and not stamp.fresh:
                    row = (_key(path), stamp.size, stamp.mtime, stamp.ctime, stamp.inode, look.content)
                    self._base.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", row)

    def close(self) -> None:
        """Let go of the file."""
        if self._base is not None:
            self._base.close()

    def _one(self, query: str, key: bytes | str) -> tuple[Any, ...] | None:
        if self._base is None:
            return None
        try:
            with self._lock:
                row: tuple[Any, ...] | None = self._base.execute(query, (key,)).fetchone()
        except sqlite3.Error:  # damaged meanwhile, or locked for long
            return None
        return row


@contextlib.contextmanager
def kept_looks(folder: Path | None = None) -> Iterator[Kept]:
    """The kept looks of this user, or of `folder`; where they cannot be opened, nothing is kept."""
    place = folder or cache_folder() / "looks"
    try:
        place.mkdir(parents=True, exist_ok=True)
        kept = Kept(place)
    except (OSError, sqlite3.Error):
        kept = Kept(None)
    try:
        yield kept
    finally:
        kept.close()


def _opened(path: Path) -> sqlite3.Connection:
    for attempt in range(2):
        base = sqlite3.connect(path, timeout=10, check_same_thread=False)
        try:
            (version,) = base.execute("PRAGMA user_version").fetchone()
            if version in (0, LOOKS):
                base.executescript(f"PRAGMA synchronous = NORMAL; {_TABLES}")
                base.execute(f"PRAGMA user_version = {LOOKS}")
                return base
        except sqlite3.OperationalError:
            base.close()
            raise
        except sqlite3.DatabaseError:
            if attempt:
                raise
        base.close()
        for end in ("", "-journal"):
            path.with_name(path.name + end).unlink(missing_ok=True)
    raise sqlite3.DatabaseError(f"{path} cannot be made anew")


def _key(path: Path) -> bytes:
    return os.fsencode(os.path.abspath(path))
