"""Names that are one name to somebody: to a file system without case, to Unicode, or to whoever reads them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from vitrail.errors import printable

WAYS = (
    "differ by case alone",
    "look the same and are other Unicode (NFC and NFD)",
    "differ by blanks or characters that do not print",
)


def clashes(names: Sequence[str]) -> list[tuple[tuple[int, ...], str]]:
    """Groups of different names that are one to somebody, each with the way, in order of their first.

    >>> clashes(["cat/A.jpg", "cat/a.jpg", "cat/b.jpg"])
    [((0, 1), 'differ by case alone')]
    """
    folded: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        folded.setdefault(_folded(name), []).append(index)
    groups = (group for group in folded.values() if len({names[index] for index in group}) > 1)
    return [(tuple(group), _way([names[index] for index in group])) for group in groups]


def _plain(name: str) -> str:
    """What is left of a name where nothing but what prints counts."""
    visible = "".join(c for c in unicodedata.normalize("NFC", name) if unicodedata.category(c) != "Cf")
    return "/".join(" ".join(printable(part).split()) for part in visible.split("/"))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", _plain(name).casefold())


def _way(names: Sequence[str]) -> str:
    if len({unicodedata.normalize("NFC", name) for name in names}) == 1:
        return WAYS[1]
    return WAYS[2] if len({_plain(name) for name in names}) == 1 else WAYS[0]
