"""A file compressed by gzip, xz or bzip2 as ranges that only go forward, never growing beyond a ratio."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, Protocol

from vitrail.formats.bounds import damaged, hostile
from vitrail.formats.ranges import Read

FREE_RATIO_BYTES = 16 << 20  # what may come before a ratio is looked at
_XZ_MEMORY = 256 << 20
_IN, _OUT = 1 << 16, 1 << 20


class _Inflate(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the manners of the others."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)


_KINDS: dict[str, Callable[[], _Inflate]] = {
    "gzip": _Gzip,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
    "bzip2": bz2.BZ2Decompressor,
}


def inflated(read: Read, kind: Literal["gzip", "xz", "bzip2"], path: Path, *, ratio: int) -> Read:
    """Ranges of what `read` gives compressed; each call at or after the end of the one before.

    WeightsError V201 where it is cut or damaged, V202 where it grows more than `ratio` times after 16 MiB.
    """
    pieces = _pieces(read, _KINDS[kind], path, ratio)
    kept, start = bytearray(), 0  # what came and was not asked for, and where it lies

    def ahead(offset: int, length: int) -> bytes:
        nonlocal start
        assert offset >= start, "a stream does not go back"
        while start + len(kept) < offset + length and (piece := next(pieces, b"")):
            gone = min(offset - start, len(kept))
            del kept[:gone]
            start += gone
            kept.extend(piece)
        gone = min(offset - start, len(kept))
        data = bytes(kept[gone : gone + length])
        del kept[: gone + len(data)]
        start += gone + len(data)
        return data

    return ahead


def _pieces(read: Read, new: Callable[[], _Inflate], path: Path, ratio: int) -> Iterator[bytes]:
    taken = given = 0
    rest = read(0, _IN)
    taken = len(rest)
    try:
        while rest:  # several streams may stand one after the other
            inflate = new()
            while not inflate.eof:
                if inflate.needs_input and not rest:
                    rest = read(taken, _IN)
                    taken += len(rest)
                    if not rest:
                        raise damaged(path, "is cut off")
                piece = inflate.decompress(rest, _OUT)
                rest = b""
                given += len(piece)
                if given > max(FREE_RATIO_BYTES, ratio * taken):
                    raise hostile(path, f"grows more than {ratio} times")
                if piece:
                    yield piece
            rest = inflate.unused_data or read(taken, _IN)
            taken += 0 if inflate.unused_data else len(rest)
    except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
        raise damaged(path, f"its compression is damaged: {error}") from error
