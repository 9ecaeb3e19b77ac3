"""A local folder's files in an object store: sent whole, retried, listed, removed, brought back."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from vitrail import disk
from vitrail.errors import SystemFault
from vitrail.remote.storage import Store, Stored
from vitrail.remote.web import Absent, Again, How, Never

T = TypeVar("T")
PIECE = 16 << 20
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)*", re.ASCII)


class Sent:
    """One address. Opening it asks nothing; UsageError V003 or V007 where it cannot be one."""

    def __init__(self, url: str, how: How | None = None) -> None:
        self.url = url.rstrip("/")
        self._how = how or How()
        self._store = Store(self.url, self._how)

    def listed(self) -> dict[str, Stored]:
        """What lies there, by its path below the address; names that are none of ours are passed over."""
        try:
            found = self._tried(self._store.listed, "read")
        except Absent:
            return {}
        return {one.path: one for one in found if _NAME.fullmatch(one.path) and ".." not in one.path.split("/")}

    def hurried(self, seconds: float) -> Sent:
        """The same address, where each call is tried once and for so long."""
        return Sent(self.url, replace(self._how, tries=1, timeout=seconds))

    def send(self, place: Path, name: str) -> None:
        """Put a file there, whole or not at all; SystemFault V701."""
        try:
            self._tried(lambda: self._store.write(place, name), "write")
        except Absent as error:
            raise self._fault("write", str(error)) from error

    def _piece(self, one: Stored, start: int, stop: int) -> bytes:
        def piece() -> bytes:
            data = self._store.read(one.path, start, stop)
            if len(data) != stop - start:
                raise Again(f"cut off after {start + len(data):,} of {one.size:,} bytes")
            return data

        try:
            return self._tried(piece, "read")
        except Absent as error:
            raise self._fault("read", str(error)) from error

    def bring(self, one: Stored, place: Path) -> None:
        """Write a listed file to a new place, piece by piece; SystemFault V704."""
        disk.make_folder(place.parent)
        with place.open("xb") as file:
            for start in range(0, one.size, PIECE):
                file.write(self._piece(one, start, min(start + PIECE, one.size)))

    def remove(self, name: str) -> None:
        """Remove a file; one that is gone already is no fault."""
        try:
            self._tried(lambda: self._store.remove(name), "write")
        except Absent:
            return

    def _tried(self, call: Callable[[], T], deed: str) -> T:
        for attempt in range(self._how.tries):
            if attempt:
                time.sleep(min(self._how.pause * 2 ** (attempt - 1), 30.0))
            try:
                return call()
            except Absent:
                raise
            except Never as error:
                raise self._fault(deed, str(error)) from error
            except Again as error:
                last = error
        raise self._fault(deed, str(last)) from last

    def _fault(self, deed: str, why: str) -> SystemFault:
        code = "V701" if deed == "write" else "V704"
        return SystemFault(
            code,
            f"cannot {deed} {self.url}",
            evidence=[why],
            hint="check the address and its keys, then run the same command with --resume: what is missing is sent",
        )
