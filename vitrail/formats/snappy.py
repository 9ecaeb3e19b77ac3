"""Snappy's raw format, read by strict rules: what comes out has exactly the length that stands in front."""

from __future__ import annotations

from vitrail.formats.protobuf import varint


def decompress(data: bytes, limit: int) -> bytes:
    """The plain bytes; ValueError, in words, when the data is damaged or would become larger than `limit`.

    >>> decompress(bytes([8, 4 << 0, 97, 98, (4 - 4) << 2 | 1 | 8, 2]), 100)
    b'abababab'
    """
    length, at = varint(data, 0)
    if length > limit:
        raise ValueError(f"{length} bytes when unpacked, the limit is {limit}")
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        at = _copy(data, at, tag, out) if tag & 3 else _literal(data, at, tag >> 2, out)
        if len(out) > length:
            raise ValueError(f"more than the {length} bytes that it announces")
    if len(out) != length:
        raise ValueError(f"{len(out)} bytes, it announces {length}")
    return bytes(out)


def _number(data: bytes, at: int, size: int) -> int:
    if at + size > len(data):
        raise ValueError("ends within an element")
    return int.from_bytes(data[at : at + size], "little")


def _literal(data: bytes, at: int, short: int, out: bytearray) -> int:
    """Bytes as they are; lengths above 60 stand in 1 to 4 bytes of their own."""
    extra = max(0, short - 59)
    count = (_number(data, at, extra) if extra else short) + 1
    at += extra
    if at + count > len(data):
        raise ValueError("ends within a literal")
    out += data[at : at + count]
    return at + count


def _copy(data: bytes, at: int, tag: int, out: bytearray) -> int:
    """Bytes that came before, which may overlap what they become."""
    if tag & 3 == 1:
        size, count, back = 1, (tag >> 2 & 7) + 4, (tag >> 5) << 8
    else:
        size, count, back = (2, 4)[(tag & 3) - 2], (tag >> 2) + 1, 0
    back |= _number(data, at, size)
    if not 1 <= back <= len(out):
        raise ValueError(f"a copy from {back} bytes back, where {len(out)} are known")
    piece = bytes(out[-back:][:count])
    out += (piece * (count // len(piece) + 1))[:count]
    return at + size
