"""All dialects by name, and which of them is our own in each family."""

from __future__ import annotations

from vitrail.errors import WeightsError, nearest
from vitrail.weights.dialects.shi_labs import SHI_LABS
from vitrail.weights.rules import Dialect

DIALECTS: dict[str, Dialect] = {
    "shi_labs": SHI_LABS,
}

# family -> the dialect whose names are ours
NATIVE: dict[str, Dialect] = {
    "cct": SHI_LABS,
}


def dialect_of(name: str, family: str) -> Dialect:
    """The dialect of that name, `native` meaning our own; WeightsError V205 when it is none of the family's.

    >>> dialect_of("native", "cct").name
    'shi_labs'
    """
    if name == "native":
        return NATIVE[family]
    known = [dialect.name for dialect in DIALECTS.values() if dialect.family == family]
    if name not in known:
        raise WeightsError(
            "V205", f"`{name}` is no dialect of the family {family}", hint=nearest(name, ["native", *known])
        )
    return DIALECTS[name]
