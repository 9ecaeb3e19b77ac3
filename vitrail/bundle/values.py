"""Canonical JSON, its strict reading, and what refusals of it say.

Canonical: ASCII, keys sorted, indented by one blank, a newline at the end, no NaN.  Equal values give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from vitrail.errors import BundleError, nearest
from vitrail.formats import json

_LIMIT = 64 << 20  # bytes of a text that is already in memory
MAKE_AGAIN = "make the bundle again from its weights"


def canonical(value: Mapping[str, object]) -> bytes:
    """The one way to write `value`.

    >>> canonical({"b": (1, 2.0), "a": "x"})
    b'{\\n "a": "x",\\n "b": [\\n  1,\\n  2.0\\n ]\\n}\\n'
    """
    return json.dumps(value, indent=1) + b"\n"


def refused(what: str, *, evidence: Sequence[str] = (), hint: str = MAKE_AGAIN) -> BundleError:
    """BundleError V501 with the usual way out."""
    return BundleError("V501", what, evidence=evidence, hint=hint)


def parse(data: bytes, where: str) -> dict[str, Any]:
    """The object that canonical JSON holds; V501 for another form, duplicate keys, NaN, or nesting beyond the limit."""
    try:
        value = json.loads(data, limit=_LIMIT)
    except ValueError as error:
        raise refused(f"{where} is no strict JSON: {error}") from error
    if not isinstance(value, dict):
        raise refused(f"{where} is no JSON object")
    if canonical(value) != data:
        raise refused(f"{where} is not in its one canonical form, so it was edited or damaged")
    return value


def plain(value: object) -> Any:
    """A frozen dataclass as a dict of plain values, tuples as lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    assert value is None or isinstance(value, (str, int, float, bool)), f"{value!r} is no plain value"
    return value


def take(data: object, where: str, known: Sequence[str], *, optional: Sequence[str] = ()) -> dict[str, Any]:
    """`data` as an object with every known key (but the optional ones) and no other; V501 naming what is wrong."""
    if not isinstance(data, dict):
        raise refused(f"{where} is no object")
    missing = [name for name in known if name not in data and name not in optional]
    if missing:
        raise refused(f"{where} lacks `{missing[0]}`")
    for name in data:
        if name not in known:
            raise refused(f"{where} holds the unknown key `{name}`", hint=nearest(name, known) or MAKE_AGAIN)
    return data
