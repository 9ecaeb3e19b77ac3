"""A cursor over the protobuf fields of a file that is too large to be held: it sees one small window at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from vitrail.errors import WeightsError
from vitrail.formats.bounds import RANK, damaged, hostile

WINDOW = 4096  # bytes


class Readable(Protocol):
    """What is parsed: a held file, or what was decrypted from one."""

    path: Path
    size: int

    def read(self, offset: int, length: int) -> memoryview:
        """`length` bytes from `offset`, which lie inside."""


class Span(NamedTuple):
    """Bytes of the file, `end` excluded."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """How many they are."""
        return self.end - self.start


class Wire:
    """A cursor over protobuf fields, which holds one small window of the file."""

    def __init__(self, file: Readable) -> None:
        self.file = file
        self._at = 0
        self._window = b""
        self._window_at = 0

    def fields(self, span: Span) -> Iterator[tuple[int, int | Span]]:
        """(field number, value) in turn; of a field with a length, its place, and the cursor stands at its start.

        WeightsError V201 where a field does not end inside `span`, or is of a form that checkpoints do not use.
        """
        self._at = span.start
        while self._at < span.end:
            number, form = divmod(self.varint(span.end), 8)
            if form == 0:
                yield number, self.varint(span.end)
            elif form == 2:
                length = self.varint(span.end)
                if length > span.end - self._at:
                    raise self.wrong(f"a field of {length} bytes where {span.end - self._at} are left")
                inner = Span(self._at, self._at + length)
                yield number, inner
                self._at = inner.end
            else:
                raise self.wrong(f"a field of wire type {form}")

    def varint(self, end: int) -> int:
        """The number at the cursor, which must be over before `end`; WeightsError V201 above 64 bits."""
        value = 0
        for shift in range(0, 70, 7):
            if self._at >= end:
                raise self.wrong("a number that is cut off")
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128 and value < 1 << 64:
                return value
        raise self.wrong("a number of more than 64 bits")

    def _byte(self) -> int:
        if not 0 <= self._at - self._window_at < len(self._window):
            self._look(self._at)
        self._at += 1
        return self._window[self._at - 1 - self._window_at]

    def _look(self, at: int) -> None:
        self._window = bytes(self.file.read(at, min(WINDOW, self.file.size - at)))
        self._window_at = at

    def sizes(self, value: int | Span) -> list[int]:
        """One size, or several that are packed; at most one more than a shape may have."""
        if isinstance(value, int):
            return [value]
        if not value.size:
            raise self.wrong("a list of no sizes")
        found: list[int] = []
        while self._at < value.end and len(found) <= RANK:
            found.append(self.varint(value.end))
        return found

    def text(self, span: Span, limit: int, what: str) -> str:
        """The text at `span`; WeightsError V202 beyond `limit` bytes, V201 where it is not UTF-8."""
        if span.size > limit:
            raise hostile(self.file.path, f"{what} of {span.size} bytes, the limit is {limit}")
        assert limit <= WINDOW
        if span.start < self._window_at or span.end > self._window_at + len(self._window):
            self._look(span.start)
        try:
            return self._window[span.start - self._window_at : span.end - self._window_at].decode()
        except UnicodeDecodeError:
            raise self.wrong(f"{what} that is not UTF-8") from None

    def wrong(self, what: str) -> WeightsError:
        """V201 with the place of the cursor."""
        return damaged(self.file.path, f"{what}, at byte {self._at}")


__all__ = ["Readable", "Span", "Wire"]
