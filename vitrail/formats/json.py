"""Strict JSON, and one canonical text for a value: ASCII, keys sorted, no NaN.  Equal values give equal bytes.

Every refusal is a ValueError that says what is wrong; whoever reads the file knows where it is and what to do.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from vitrail.formats.bounds import HEADER_BYTES, NESTING, shown

VALUES = 500_000


def dumps(value: object, *, indent: int | None = None, in_order: bool = False) -> bytes:
    """The canonical text: on one line without blanks, or indented.  in_order keeps the order of the keys instead.

    ValueError for NaN and Inf, which JSON does not have.

    >>> dumps({"b": (1, 2.0), "a": "é"})
    b'{"a":"\\\\u00e9","b":[1,2.0]}'
    """
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, sort_keys=not in_order, indent=indent, separators=separators, allow_nan=False)
    return text.encode("ascii")


def loads(data: bytes | memoryview, *, limit: int = HEADER_BYTES, depth: int = NESTING) -> object:
    """The value of a JSON text in UTF-8, at most `limit` bytes long and `depth` levels deep.

    ValueError for every other text, for a key that stands twice, NaN, Infinity, a number beyond float's range, and
    for more than 500,000 values.

    >>> loads(b'{"a": [1, true]}')
    {'a': [1, True]}
    """
    if len(data) > limit:
        raise ValueError(f"{len(data)} bytes, the limit is {limit}")
    raw = bytes(data)
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") > VALUES:  # each value needs one of these, or is the first
        raise ValueError(f"more than {VALUES} values")
    try:
        value: object = json.loads(
            raw.decode(), object_pairs_hook=_distinct, parse_constant=_no_constant, parse_float=_finite
        )
    except RecursionError as error:
        raise _too_deep(depth) from error
    _check_depth(value, depth)
    return value


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key `{shown(twice)}` stands twice")
    return found


def _no_constant(word: str) -> object:
    raise ValueError(f"{word} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{shown(text)} is beyond all numbers")
    return value


def _too_deep(depth: int) -> ValueError:
    return ValueError(f"nested deeper than {depth}")


def _check_depth(value: object, depth: int) -> None:
    level: list[object] = [value]
    for _ in range(depth + 1):
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return
    raise _too_deep(depth)


def _inner(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
