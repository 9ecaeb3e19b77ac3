"""JPEG before decoding: size, work and orientation, read from the markers alone (ITU T.81, annex B).

Pillow is handed the tables, the frame and the scans, not the application segments: no EXIF, profile, thumbnail or
multi-picture index is ever parsed by it.
"""

from __future__ import annotations

import re
from dataclasses import replace

from vitrail.pictures.exif import orientation
from vitrail.pictures.limits import MAX_HEAD_BYTES, Frame, Header, beyond, damaged, refused_kind

MAX_PIXELS_PER_BYTE = 1000  # a Huffman code costs a bit or more per 8x8 block, so a whole picture has at most 512
MAX_SCANS = 100
MAX_SCAN_PIXELS = 2_000_000_000  # scans x pixels: what a progressive picture costs

_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # restart markers stand inside a scan
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_DECODED_FRAMES = {0xC0, 0xC1, 0xC2}  # Huffman: baseline, extended, progressive
_PROGRESSIVE = 0xC2
_BARE = {0x01, _SOI, *range(0xD0, 0xD8)}  # markers without a length
_JFIF, _EXIF, _ADOBE = 0xE0, 0xE1, 0xEE  # libjpeg takes the colour space from JFIF and Adobe
_KEPT = {0xC4, 0xDB, 0xDD, _JFIF, _ADOBE} | _FRAMES

# What no scan reads when it is whole: codes that are no grey, and restart markers for a scan that waits for one.
_CODES = bytes((i * i * 37 + i * 11 + 5) % 251 for i in range(512))
_TAIL = _CODES + b"".join(bytes([0xFF, restart]) + _CODES for restart in range(0xD0, 0xD8))


def read_jpeg(data: bytes, name: str) -> Header:
    """The header of a JPEG; PictureError V302, V303 or V305."""
    kept, turned, start = [data[:2]], 1, 2
    frame = b""
    kind = frame_at = 0
    while True:
        marker, start, end = _segment(data, start, name)
        if marker == _EOI:
            raise damaged(name, "it ends before the first scan")
        if end > MAX_HEAD_BYTES:
            raise beyond(name, f"{end} bytes of markers before the first scan, the limit is {MAX_HEAD_BYTES}")
        if marker == _SOS:
            break
        if marker in _FRAMES:
            if frame:
                raise damaged(name, "it has two frame headers")
            kind, frame, frame_at = marker, data[start + 4 : end], sum(map(len, kept))
        if marker == _EXIF and turned == 1 and data[start + 4 : start + 10] == b"Exif\0\0":
            turned = orientation(data[start + 10 : end])
        if marker in _KEPT:
            kept.append(data[start:end])
        start = end
    width, height, components = _frame(kind, frame, name)
    several = kind == _PROGRESSIVE or data[start + 4] < components
    _check_work(data, start, width * height, name, several=several)
    coding = Frame(_sampling(frame, components), not several, frame_at + 5)
    return Header("JPEG", width, height, b"".join([*kept, data[start:]]), turned, coding)


def _segment(data: bytes, start: int, name: str) -> tuple[int, int, int]:
    """The next marker that has a length, or EOI: (marker, start, end)."""
    while match := _MARKER.search(data, start):
        start, marker = match.start(), data[match.end() - 1]
        if marker == _EOI:
            return marker, start, start + 2
        if marker not in _BARE:
            length = int.from_bytes(data[start + 2 : start + 4], "big")
            if length < 2 or start + 2 + length > len(data) or (marker == _SOS and length < 3):
                raise damaged(name, f"the segment at byte {start} is cut")
            return marker, start, start + 2 + length
        start += 2
    raise damaged(name, "it ends before the first scan")


def _frame(kind: int, frame: bytes, name: str) -> tuple[int, int, int]:
    if len(frame) < 6:
        raise damaged(name, "it has no frame header before its first scan")
    bits, components = frame[0], frame[5]
    if kind not in _DECODED_FRAMES:
        raise refused_kind(name, "JPEG, arithmetic coding" if kind >= 0xC9 else "JPEG, lossless or hierarchical")
    if bits != 8:
        raise refused_kind(name, f"JPEG of {bits} bits")
    if components not in (1, 3, 4):
        raise refused_kind(name, f"JPEG of {components} components")
    return int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big"), components


def _sampling(frame: bytes, components: int) -> tuple[tuple[int, int], ...]:
    """Sampling factors of each component; () where the frame is too short for them, which a decoder will refuse."""
    factors = frame[7 : 7 + 3 * components : 3]
    return tuple((both >> 4, both & 15) for both in factors) if len(factors) == components else ()


def cut_below(header: Header, rows: int) -> Header:
    """The same JPEG, one scan long, made to end below its first `rows` rows: what follows is never decoded.

    A row of blocks more is kept than asked for, because chroma is interpolated from the rows on both sides.
    """
    assert header.frame is not None
    assert header.frame.one_scan
    step = 8 * max(vertical for _, vertical in header.frame.sampling)
    height = (-(-rows // step) + 1) * step
    if height >= header.height:
        return header
    place, data = header.frame.height_at, header.data
    return replace(header, height=height, data=data[:place] + height.to_bytes(2, "big") + data[place + 2 :])


def _check_work(data: bytes, first_scan: int, pixels: int, name: str, *, several: bool) -> None:
    if pixels > MAX_PIXELS_PER_BYTE * len(data):
        raise beyond(name, f"{pixels} pixels out of {len(data)} bytes, the limit is {MAX_PIXELS_PER_BYTE} per byte")
    if not several:
        return
    scans, start = 0, first_scan
    while match := _SCAN_END.search(data, start):
        start = match.end()
        if data[start - 1] == _EOI:
            break
        if data[start - 1] == _SOS:
            scans += 1
            if scans > MAX_SCANS:
                raise beyond(name, f"more than {MAX_SCANS} scans")
        if data[start - 1] not in _BARE:
            start += max(int.from_bytes(data[start : start + 2], "big"), 2)
    if scans * pixels > MAX_SCAN_PIXELS:
        raise beyond(name, f"{scans} scans of {pixels} pixels, the limit is {MAX_SCAN_PIXELS} together")


def lengthened(data: bytes) -> bytes:
    """`data` with bytes put after its first scan: the picture stays the same if that scan was whole.

    libjpeg fills what a cut scan does not hold with grey and only warns, and Pillow does not pass warnings on.
    """
    start = 2
    while True:
        marker, start, end = _segment(data, start, "")
        if marker == _SOS:
            break
        start = end
    match = _SCAN_END.search(data, end)
    stop = match.start() if match else len(data)
    return data[:stop] + _TAIL + data[stop:]
