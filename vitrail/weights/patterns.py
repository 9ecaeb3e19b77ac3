"""Names with numbers left open, `blocks.{i}.norm1.weight`: which letters they hold, and which name two of them share.

`rules.py` says what `{i}`, `{i+1}`, `{_i}` and `{*}` stand for.
"""

from __future__ import annotations

import re
from functools import lru_cache

PIECE = re.compile(r"\{(\*|_[a-z]|[a-z]\+1|[a-z])\}")


def letters(pattern: str) -> tuple[str, ...]:
    """The letters of the numbers, each once.

    >>> letters("stage{s}.unit{u+1}.conv")
    ('s', 'u')
    """
    return tuple(dict.fromkeys(piece.strip("_+1") for piece in PIECE.findall(pattern) if piece != "*"))


@lru_cache(maxsize=4096)
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression, a group for each letter."""
    out, seen = [], set()
    for n, piece in enumerate(PIECE.split(pattern)):  # text, letter, text, letter, ..., text
        letter = piece.strip("_+1")
        if n % 2 == 0:
            out.append(re.escape(piece))
        elif piece == "*":
            out.append(".+")
        elif letter in seen:
            out.append(f"(?P={letter})")
        elif piece.startswith("_"):
            out.append(f"(?:_(?P<{letter}>[1-9][0-9]{{0,5}}))?")
        else:
            out.append(f"(?P<{letter}>0|[1-9][0-9]{{0,5}})")
        seen |= {letter} if n % 2 else set()
    return re.compile("".join(out))


Index = tuple[tuple[str, int], ...]  # (("i", 3),)


def numbers(match: re.Match[str], pattern: str) -> Index | None:
    """The numbers of a match, counted from 0; None for a 0 where they are counted from 1."""
    found: dict[str, int] = {}
    for piece in PIECE.findall(pattern):
        letter = piece.strip("_+1")
        if piece != "*" and letter not in found:
            found[letter] = int(match.group(letter) or 0) - piece.endswith("+1")
    return tuple(found.items()) if min(found.values(), default=0) >= 0 else None


def fill(pattern: str, index: Index) -> str:
    """The pattern with its numbers put in.

    >>> fill("block{s+1}/unit{u+1}/conv", (("s", 0), ("u", 2)))
    'block1/unit3/conv'
    """
    given = dict(index)

    def number(match: re.Match[str]) -> str:
        piece = match.group(1)
        value = given[piece if piece == "*" else piece.strip("_+1")]
        if piece.startswith("_"):
            return f"_{value}" if value else ""
        return str(value + piece.endswith("+1"))

    return PIECE.sub(number, pattern)


def samples(pattern: str) -> tuple[str, ...]:
    """Names that the pattern explains, with small numbers of one and of two digits."""
    own = (*letters(pattern), "*")
    return tuple(fill(pattern, tuple((letter, number) for letter in own)) for number in (0, 1, 2, 10, 11, 12))


def both_explain(one: str, other: str) -> str | None:
    """A name that both patterns explain, as far as small numbers show it; None when there is none.

    >>> both_explain("layer{i}.w", "layer1{j}.w"), both_explain("layer{i}.w", "layer{_i}.w")
    ('layer10.w', None)
    """
    for pattern, against in ((one, other), (other, one)):
        found = next((name for name in samples(pattern) if compiled(against).fullmatch(name)), None)
        if found is not None:
            return found
    return None
