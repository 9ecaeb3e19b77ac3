"""MATLAB's arrays of records with texts and numbers in their fields, as ImageNet's `meta.mat` lists the synsets.

An array of class 2: flags, dimensions, name, length of a field's name, names of the fields, then an array for each
field of each record. Texts are arrays of class 4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from vitrail.formats.matlab import BYTES, elements, inflated, wrong

_ARRAY, _COMPRESSED = 14, 15
_RECORDS, _TEXT = 2, 4
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CHARACTERS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
_LIMIT = 1_000_000

Value = str | float | None


def read_records(data: bytes, name: str, fields: Sequence[str], place: str) -> list[dict[str, Value]]:
    """The records of the array `name`: of each the wanted fields, a text, one number, or None for anything else.

    DataError V404 when the array or a field is not there, or for damage.
    """
    if len(data) > BYTES or data[126:128] != b"IM" or struct.unpack_from("<H", data, 124)[0] != 0x0100:
        raise wrong(place, "is no MATLAB file of level 5, or too large")
    for parts in _arrays(data[128:], place):
        kind, called = _kind(parts, place), parts[2][1].decode("latin-1")
        if kind == _RECORDS and called == name:
            return _records(parts, fields, place)
    raise wrong(place, f"has no records `{name}`")


def _arrays(data: bytes, place: str) -> Iterator[list[tuple[int, bytes]]]:
    left = BYTES
    for kind, content in elements(data, "<", place):
        if kind == _COMPRESSED:
            plain = inflated(content, left, place)
            left -= len(plain)
            ((kind, content),) = list(elements(plain, "<", place))[:1] or [(0, b"")]
        if kind == _ARRAY:
            yield list(elements(content, "<", place))


def _kind(parts: list[tuple[int, bytes]], place: str) -> int:
    if len(parts) < 3 or [kind for kind, _ in parts[:3]] != [6, 5, 1] or len(parts[0][1]) != 8:
        raise wrong(place, "has an array without flags, dimensions and name")
    return parts[0][1][0]


def _records(parts: list[tuple[int, bytes]], fields: Sequence[str], place: str) -> list[dict[str, Value]]:
    if len(parts) < 5 or len(parts[3][1]) != 4:
        raise wrong(place, "has records without names of their fields")
    width = struct.unpack("<i", parts[3][1])[0]
    if not 1 <= width <= 64 or len(parts[4][1]) % width:
        raise wrong(place, f"has names of fields of {width} bytes")
    raw = parts[4][1]
    names = [raw[at : at + width].partition(b"\0")[0].decode("latin-1") for at in range(0, len(raw), width)]
    values = parts[5:]
    missing = [field for field in fields if field not in names]
    if missing or len(values) % max(1, len(names)) or len(values) > _LIMIT:
        raise wrong(place, f"has records of {', '.join(names)[:200]} with {len(values)} values")
    found = []
    for start in range(0, len(values), len(names)):
        mine = dict(zip(names, values[start : start + len(names)], strict=True))
        found.append({field: _value(mine[field], place) for field in fields})
    return found


def _value(element: tuple[int, bytes], place: str) -> Value:
    kind, content = element
    parts = list(elements(content, "<", place)) if kind == _ARRAY else []
    if len(parts) != 4:
        return None
    stored, data = parts[3]
    if _kind(parts, place) == _TEXT:
        return _text(stored, data, place)
    if stored not in _NUMBERS:
        return None
    kind_of = np.dtype(f"<{_NUMBERS[stored]}")
    return float(np.frombuffer(data, kind_of)[0]) if len(data) == kind_of.itemsize else None


def _text(stored: int, data: bytes, place: str) -> str:
    try:
        encoding = _CHARACTERS[stored]
        return data.decode("utf-16-le" if encoding == "utf-16" else encoding)
    except (KeyError, UnicodeDecodeError) as error:
        raise wrong(place, f"has a text of the unknown type {stored}") from error
