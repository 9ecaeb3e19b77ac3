"""JPEG out of drawn coefficients: no transform is computed, so nothing depends on how one rounds.

Every code of the Huffman tables has one length: 4 bits for DC, 8 for AC.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.pictures.made.draw import Draw, exif, packed

Coefficients = NDArray[np.int64]  # (rows of blocks, columns, 64), in zigzag order

SAMPLINGS = {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2), "4:4:0": (1, 2), "4:1:1": (4, 1)}
COLOURS = {"grey": 1, "ycc": 3, "rgb": 3, "plain": 3, "cmyk": 4, "ycck": 4}  # plain: without JFIF and Adobe
CODINGS = ("baseline", "progressive", "apart", "deep tables")  # apart: a scan for each component

_AC_SYMBOLS = [0x00, 0xF0, *(run << 4 | size for run in range(16) for size in range(1, 11))]
_AC_CODE = np.full(256, -1, np.int64)
_AC_CODE[_AC_SYMBOLS] = np.arange(len(_AC_SYMBOLS))


@dataclass(frozen=True)
class Jpeg:
    colour: str
    sampling: str
    coding: str
    restart: int  # MCUs between restart markers; 0 for none
    orientation: int

    def __str__(self) -> str:
        sampling = "" if self.colour == "grey" else f" {self.sampling}"
        return f"jpeg {self.colour}{sampling} {self.coding}{f' restart {self.restart}' if self.restart else ''}"


@dataclass(frozen=True)
class Plane:
    """A component: blocks as stored (whole MCUs), and how many of them its own scans hold."""

    blocks: Coefficients
    factors: tuple[int, int]  # across, down
    rows: int
    columns: int


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def encode(draw: Draw, height: int, width: int, kind: Jpeg) -> bytes:
    """The bytes of a JPEG of drawn coefficients."""
    planes = _planes(draw, height, width, kind)
    deep = kind.coding == "deep tables"
    frame = {"progressive": 0xC2, "deep tables": 0xC1}.get(kind.coding, 0xC0)
    parts = [b"\xff\xd8", _colour_mark(kind.colour)]
    if kind.orientation:
        parts.append(segment(0xE1, b"Exif\0\0" + exif(kind.orientation, bool(draw.below(2)))))
    steps = 1 + draw.bytes(64).astype(np.int64) % 12
    parts.append(segment(0xDB, b"\x10" + steps.astype(">u2").tobytes() if deep else b"\0" + bytes(steps.tolist())))
    rows = [bytes([n + 1, p.factors[0] << 4 | p.factors[1], 0]) for n, p in enumerate(planes)]
    parts.append(segment(frame, struct.pack(">BHHB", 8, height, width, len(planes)) + b"".join(rows)))
    parts.append(segment(0xC4, b"\x00" + bytes([0, 0, 0, 12] + [0] * 12) + bytes(range(12))))
    counts = bytes([0] * 7 + [len(_AC_SYMBOLS)] + [0] * 8)
    parts.append(segment(0xC4, b"\x10" + counts + bytes(_AC_SYMBOLS)))
    if kind.restart:
        parts.append(segment(0xDD, struct.pack(">H", kind.restart)))
    return b"".join([*parts, *_scans(planes, kind), b"\xff\xd9"])


def _colour_mark(colour: str) -> bytes:
    if colour in ("rgb", "cmyk", "ycck"):
        return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([2 if colour == "ycck" else 0]))
    return b"" if colour == "plain" else segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")


def _planes(draw: Draw, height: int, width: int, kind: Jpeg) -> list[Plane]:
    count = COLOURS[kind.colour]
    across, down = (1, 1) if count == 1 else SAMPLINGS[kind.sampling]
    mcus_down, mcus_across = -(-height // (8 * down)), -(-width // (8 * across))
    planes = []
    for number in range(count):
        factors = (across, down) if number in (0, 3) else (1, 1)
        rows, columns = mcus_down * factors[1], mcus_across * factors[0]
        own_height, own_width = -(-height * factors[1] // down), -(-width * factors[0] // across)
        blocks = _drawn(draw, rows, columns)
        planes.append(Plane(blocks, factors, -(-own_height // 8), -(-own_width // 8)))
    return planes


def _drawn(draw: Draw, rows: int, columns: int) -> Coefficients:
    """Blocks with a DC that wanders and up to four others."""
    blocks = np.zeros((rows * columns, 64), np.int64)
    at = draw.bytes(4 * len(blocks)).reshape(-1, 4) % 63 + 1
    at[:, :3] = at[:, :3] % 9 + 1  # low frequencies are common
    worth = (draw.bytes(4 * len(blocks)).reshape(-1, 4).astype(np.int64) - 128) // 6
    np.put_along_axis(blocks, at.astype(np.int64), worth, axis=1)
    steps = draw.bytes(len(blocks)).astype(np.int64) - 127
    blocks[:, 0] = (np.cumsum(steps // 4) + 400) % 800 - 400
    return blocks.reshape(rows, columns, 64)


def _scans(planes: list[Plane], kind: Jpeg) -> list[bytes]:
    everyone = list(range(len(planes)))
    if kind.coding == "progressive":
        scans = [
            _scan(planes, everyone, kind.restart, (0, 0, 0, 1)),
            _scan(planes, everyone, kind.restart, (0, 0, 1, 0)),
        ]
        for number in everyone:
            scans += [_scan(planes, [number], kind.restart, band) for band in ((1, 5, 0, 0), (6, 63, 0, 2))]
        for band in ((6, 63, 2, 1), (6, 63, 1, 0)):
            scans += [_scan(planes, [number], kind.restart, band) for number in everyone]
        return scans
    if kind.coding == "apart":
        return [_scan(planes, [number], kind.restart, (0, 63, 0, 0)) for number in everyone]
    return [_scan(planes, everyone, kind.restart, (0, 63, 0, 0))]


def _scan(planes: list[Plane], numbers: list[int], restart: int, band: tuple[int, int, int, int]) -> bytes:
    """A scan of some components: SOS, and its codes between restart markers.  band: Ss, Se, Ah, Al"""
    first, last, high, low = band
    body = bytes([len(numbers)]) + b"".join(bytes([number + 1, 0]) for number in numbers)
    head = segment(0xDA, body + bytes([first, last, high << 4 | low]))
    blocks, owners, mcus = _in_order([planes[number] for number in numbers])
    count = int(mcus[-1]) + 1
    parts = [head]
    for number, start in enumerate(range(0, count, restart or count)):
        if number:
            parts.append(bytes([0xFF, 0xD0 + (number - 1) % 8]))
        chosen = (mcus >= start) & (mcus < start + (restart or count))
        codes = _refined if high else _coded
        parts.append(codes(blocks[chosen], owners[chosen], first, last, low).replace(b"\xff", b"\xff\0"))
    return b"".join(parts)


def _in_order(planes: list[Plane]) -> tuple[Coefficients, NDArray[np.int64], NDArray[np.int64]]:
    """Blocks as a scan holds them, the component and the MCU of each."""
    if len(planes) == 1:
        own = planes[0].blocks[: planes[0].rows, : planes[0].columns].reshape(-1, 64)
        return own, np.zeros(len(own), np.int64), np.arange(len(own))
    blocks, owners, mcus = [], [], []
    for owner, plane in enumerate(planes):
        across, down = plane.factors
        rows, columns = plane.blocks.shape[0] // down, plane.blocks.shape[1] // across
        split = plane.blocks.reshape(rows, down, columns, across, 64).transpose(0, 2, 1, 3, 4)
        blocks.append(split.reshape(-1, 64))
        owners.append(np.full(len(blocks[-1]), owner))
        mcus.append(np.repeat(np.arange(rows * columns), down * across))
    order = np.argsort(np.concatenate(mcus), kind="stable")
    return np.concatenate(blocks)[order], np.concatenate(owners)[order], np.concatenate(mcus)[order]


def _size(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bits of each magnitude, by comparison: 0 has none."""
    return (abs(values)[:, None] >= 1 << np.arange(16)).sum(axis=1)


def _extra(values: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(values < 0, values + (1 << sizes) - 1, values)


def _coded(blocks: Coefficients, owners: NDArray[np.int64], first: int, last: int, low: int) -> bytes:
    """A first pass over a band: differences of DC, then runs and sizes of AC, an end of block where zeros follow."""
    keys, values, lengths = [], [], []  # where a code stands, its bits, how many

    def add(key: NDArray[np.int64], value: NDArray[np.int64], length: NDArray[np.int64] | int) -> None:
        keys.append(key)
        values.append(value)
        lengths.append(np.broadcast_to(length, value.shape))

    places = np.arange(len(blocks)) * 1024
    if first == 0:
        steps = np.empty(len(blocks), np.int64)
        for owner in set(owners.tolist()):
            steps[owners == owner] = np.diff(blocks[owners == owner, 0] >> low, prepend=0)
        sizes = _size(steps)
        add(places, sizes << sizes | _extra(steps, sizes), 4 + sizes)
    begin = max(first, 1)
    if last >= begin:
        part = blocks[:, begin : last + 1]
        part = np.sign(part) * (abs(part) >> low)
        row, column = np.nonzero(part)
        before = np.concatenate([[-1], column[:-1]])
        before[np.concatenate([[True], row[1:] != row[:-1]])[: len(row)]] = -1
        runs = column - before[: len(column)] - 1
        found = part[row, column]
        sizes = _size(found)
        long = np.repeat(np.arange(len(row)), runs // 16)
        nth = np.arange(len(long)) - np.repeat(np.cumsum(runs // 16) - runs // 16, runs // 16)
        add(places[row[long]] + (column[long] + 1) * 8 + nth, np.full(len(long), _AC_CODE[0xF0]), 8)
        symbols = _AC_CODE[(runs % 16) << 4 | sizes]
        add(places[row] + (column + 1) * 8 + 7, symbols << sizes | _extra(found, sizes), 8 + sizes)
        open_end = np.flatnonzero(part[:, -1] == 0)
        add(places[open_end] + 1023, np.full(len(open_end), _AC_CODE[0x00]), 8)
    order = np.argsort(np.concatenate(keys), kind="stable")
    return packed(np.concatenate(values)[order], np.concatenate(lengths)[order], fill=1)


def _refined(blocks: Coefficients, owners: NDArray[np.int64], first: int, last: int, low: int) -> bytes:
    """A later pass over a band: one more bit of each coefficient."""
    if first == 0:
        return packed(blocks[:, 0] >> low & 1, np.ones(len(blocks), np.int64), fill=1)
    values: list[int] = []
    lengths: list[int] = []
    for block in blocks[:, first : last + 1].tolist():
        _refine(block, low, values, lengths)
    return packed(np.array(values, np.int64), np.array(lengths, np.int64), fill=1)


def _refine(block: list[int], low: int, values: list[int], lengths: list[int]) -> None:
    run, waiting = 0, []  # zeros since the last code; bits of known coefficients since then

    def put(symbol: int, sign: list[int]) -> None:
        bits = [*sign, *waiting]
        values.append(int(_AC_CODE[symbol]))
        lengths.append(8)
        values.extend(bits)
        lengths.extend([1] * len(bits))
        waiting.clear()

    fresh = [k for k, value in enumerate(block) if abs(value) >> low == 1]
    for value in block[: fresh[-1] + 1] if fresh else []:
        magnitude = abs(value) >> low
        if magnitude > 1:
            waiting.append(magnitude & 1)
        elif magnitude == 1:
            put(run << 4 | 1, [int(value > 0)])
            run = 0
        elif run == 15:
            put(0xF0, [])
            run = 0
        else:
            run += 1
    rest = block[fresh[-1] + 1 :] if fresh else block
    if rest:
        waiting.extend(abs(value) >> low & 1 for value in rest if abs(value) >> low > 1)
        put(0x00, [])
