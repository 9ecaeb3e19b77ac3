"""The readers of pictures under the engine of mutants: `tests/hostile/campaign.py` reads, watches and counts."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.campaign import Reader, Seed, Tally, put, run
from tests.pictures import hostile, work
from vitrail.pictures.decode import decode

TOTAL = 2_000_000
CODES = frozenset({"V301", "V302", "V303", "V305"})
MEMORY = work.allowed(0, each=10)  # a mutant may be of any size up to the limit, and progressive


@dataclass(frozen=True)
class Pixels:
    """What a mutant gave, comparable."""

    shape: tuple[int, ...]
    hash: int


def _read(path: Path) -> Pixels:
    pixels = decode(path)
    return Pixels(pixels.shape, zlib.crc32(pixels))


def _same_from_bytes(path: Path, found: object) -> None:
    """The other way in gives the same; what is refused by one is looked at by `test_B01_hostile_pictures_...`."""
    pixels = decode(path.read_bytes())
    assert found == Pixels(pixels.shape, zlib.crc32(pixels)), "bytes give other pixels than the path"


def _place(folder: Path, data: bytes) -> Path:
    return put(folder / "picture", data)


def _with_checksums(body: bytes) -> bytes:
    """A PNG whose chunks have the right checksums again, as far as they can be followed."""
    data, start = bytearray(body), 8
    while start + 12 <= len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if end > len(data):
            break
        data[end - 4 : end] = zlib.crc32(data[start + 4 : end - 4]).to_bytes(4, "big")
        start = end
    return bytes(data)


def _head_first(seed: bytes) -> Callable[[], list[Seed]]:
    """Mutants of the whole file, and of its first bytes, where sizes and tables lie."""
    end = min(len(seed), 400)
    return lambda: [Seed(seed), Seed(seed[:end], lambda head: head + seed[end:])]


def _png(seed: bytes) -> Callable[[], list[Seed]]:
    return lambda: [Seed(seed), Seed(seed, _with_checksums)]


_SPLICES = (
    b"\xff\xd9",
    b"\xff\xda",
    b"\xff\xd0",
    b"\xff\xc4",
    b"\xff\x00",
    b"IDAT",
    b"IEND",
    b"fcTL",
    b"ANMF",
    b"!\xf9",
)

_SEEDS: dict[str, Callable[[], list[Seed]]] = {
    "jpeg": _head_first(hostile.JPEG),
    "jpeg progressive": _head_first(hostile.PROGRESSIVE),
    "jpeg restarts": _head_first(hostile.RESTARTS),
    "jpeg grey": _head_first(hostile.GREY),
    "jpeg cmyk": _head_first(hostile.CMYK),
    "png": _png(work.FILES["png"]()),
    "png palette": _png(hostile.PALETTE),
    "gif": _head_first(hostile.GIF),
    "bmp": _head_first(work.FILES["bmp"]()),
    "webp": _head_first(hostile.WEBP),
    "webp lossless": _head_first(work.FILES["webp lossless"]()),
}

READERS: dict[str, Reader] = {
    name: Reader(
        name=name.replace(" ", "-"), promise="B1", full=TOTAL // len(_SEEDS) + 1, seeds=seeds, place=_place,
        read=_read, splices=_SPLICES, check=_same_from_bytes, codes=CODES, memory=MEMORY,
    )
    for name, seeds in _SEEDS.items()
}  # fmt: skip


def attacked(name: str, count: int, folder: Path) -> Tally:
    """What becomes of that many mutants."""
    return run(READERS[name], count, 1, folder)
