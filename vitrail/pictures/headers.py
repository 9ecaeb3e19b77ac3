"""PNG, GIF, BMP and WebP before decoding: size, bounds and orientation, read from the bytes alone.

Pillow is handed only what the pixels need. So compressed texts, profiles and animation tables cannot cost anything,
and what Pillow would warn of never reaches it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from vitrail.pictures.exif import orientation
from vitrail.pictures.limits import MAX_TINY_PARTS, Header, beyond, damaged

_TINY_CHUNK = 4096
_TINY_BLOCK = 64
_MAX_RUN_LENGTH_BYTES = 4 << 20  # Pillow decodes run-length BMP in Python, a step per two bytes
PNG_INTERLACED = 28  # byte of its IHDR
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by the colour type of a PNG
_WHOLE = ((0, 0, 1, 1),)  # passes: first row and column, steps
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_AT_ONCE = 1 << 20  # bytes inflated together
_PNG_KEPT = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}


def read_png(data: bytes, name: str) -> Header:
    """The header of a PNG; every chunk that the pixels need is whole and has its right checksum."""
    kept, turned = [data[:8]], 1
    for kind, start, end in _png_chunks(data, name):
        whole = zlib.crc32(memoryview(data)[start + 4 : end - 4]).to_bytes(4, "big") == data[end - 4 : end]
        if kind in _PNG_KEPT:
            if not whole:
                raise damaged(name, f"the {kind.decode()} chunk at byte {start} has a wrong checksum")
            if (kind == b"IHDR") != (start == 8):
                raise damaged(name, "it has a second IHDR chunk")
            kept.append(data[start:end])
        elif kind[:1].isupper():
            raise damaged(name, f"the chunk at byte {start} is critical and unknown")
        elif kind == b"eXIf" and whole:
            turned = orientation(data[start + 8 : end - 4])
    width, height = struct.unpack_from(">II", data, 16)
    return Header("PNG", width, height, b"".join(kept), turned)


def png_is_short(data: bytes) -> bool:
    """Whether the coded pixels end before the last row, in good form: Pillow leaves what is missing black."""
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    wanted = 0
    for top, left, down, across in _ADAM7 if data[PNG_INTERLACED] else _WHOLE:
        rows, columns = max(0, -(-(height - top) // down)), max(0, -(-(width - left) // across))
        wanted += rows * (1 + -(-columns * depth * _SAMPLES[colour] // 8)) if columns else 0
    stream, found = zlib.decompressobj(), 0
    try:
        for kind, start, end in _png_chunks(data, ""):
            rest = data[start + 8 : end - 4] if kind == b"IDAT" else b""
            while rest and found < wanted:
                found += len(stream.decompress(rest, _AT_ONCE))
                rest = stream.unconsumed_tail
    except zlib.error:  # behind the last row: before it Pillow finds it itself
        return False
    return found < wanted


def _png_chunks(data: bytes, name: str) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of every chunk, up to IEND."""
    kind, start, tiny = b"", 8, 0
    while kind != b"IEND":
        if start + 12 > len(data):
            raise damaged(name, f"it ends at byte {len(data)}, before its IEND chunk")
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if end > len(data):
            raise damaged(name, f"the chunk at byte {start} is cut")
        if not kind.isalpha() or (start == 8 and (kind, length) != (b"IHDR", 13)):
            raise damaged(name, f"there is no chunk at byte {start} as a PNG must have one there")
        tiny += length < _TINY_CHUNK
        if tiny > MAX_TINY_PARTS:
            raise beyond(name, f"more than {MAX_TINY_PARTS} chunks below {_TINY_CHUNK} bytes")
        yield kind, start, end
        start = end


def read_gif(data: bytes, name: str) -> Header:
    """The header of a GIF, up to the end of its first frame; later frames are left out."""
    if len(data) < 13:
        raise damaged(name, "its header is cut")
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    start = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    kept, control = [data[:start]], b""
    while data[start : start + 1] == b"!":
        end = _blocks_end(data, start + 2, name)
        if data[start + 1] == 0xF9:  # the graphic control of the frame: its transparent colour fills the canvas
            control = data[start:end]
        start = end
    if data[start : start + 1] != b"," or start + 11 > len(data):
        raise damaged(name, "no whole frame follows its header")
    left, top, across, down, frame_flags = struct.unpack_from("<HHHHB", data, start + 1)
    if left + across > width or top + down > height:
        raise damaged(name, "its first frame leaves the canvas")
    codes = start + 10 + (3 << (frame_flags & 7) + 1 if frame_flags & 0x80 else 0)
    end = _blocks_end(data, codes + 1, name)
    return Header("GIF", width, height, b"".join([*kept, control, data[start:end], b";"]))


def _blocks_end(data: bytes, start: int, name: str) -> int:
    """The byte after a chain of length-prefixed blocks that ends with an empty one."""
    tiny = 0
    while start < len(data):
        length = data[start]
        start += 1 + length
        if length == 0:
            return start
        tiny += length < _TINY_BLOCK
        if tiny > MAX_TINY_PARTS:
            raise beyond(name, f"more than {MAX_TINY_PARTS} blocks below {_TINY_BLOCK} bytes")
    raise damaged(name, "it ends within a chain of blocks")


def read_bmp(data: bytes, name: str) -> Header:
    """The header of a BMP; a negative height means rows from the top, as everywhere."""
    if data[14:18] == b"\x0c\0\0\0" and len(data) >= 26:  # as OS/2 wrote it
        width, height = struct.unpack_from("<HH", data, 18)
        return Header("BMP", width, height, data)
    if len(data) < 34:
        raise damaged(name, "its header is cut")
    width, height = struct.unpack_from("<II", data, 18)
    (compression,) = struct.unpack_from("<I", data, 30)
    if compression in (1, 2) and len(data) > _MAX_RUN_LENGTH_BYTES:
        raise beyond(name, f"{len(data)} bytes of run-length BMP, the limit is {_MAX_RUN_LENGTH_BYTES}")
    return Header("BMP", width, 2**32 - height if height >> 24 == 0xFF else height, data)


def read_webp(data: bytes, name: str) -> Header:
    """The header of a WebP: the canvas size and the EXIF chunk."""
    if len(data) < 30 or int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise damaged(name, "it is shorter than its header says")
    kind = data[12:16]
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
        return Header("WEBP", width, height, data)
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return Header("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, data)
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return Header("WEBP", width, height, data, _webp_orientation(data, name))
    raise damaged(name, "its first chunk is no WebP picture")


def _webp_orientation(data: bytes, name: str) -> int:
    start = 12
    for _ in range(MAX_TINY_PARTS):
        kind, length = data[start : start + 4], int.from_bytes(data[start + 4 : start + 8], "little")
        if kind == b"EXIF":
            return orientation(data[start + 8 : start + 8 + length].removeprefix(b"Exif\0\0"))
        start += 8 + length + (length & 1)
        if start + 8 > len(data):
            return 1
    raise beyond(name, f"more than {MAX_TINY_PARTS} chunks")
