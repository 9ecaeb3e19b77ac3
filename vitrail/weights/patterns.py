"""Names with numbers left open, `blocks.{i}.norm1.weight`: which letters they hold, and which name two of them share.

`rules.py` says what `{i}`, `{i+1}`, `{_i}` and `{*}` stand for.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

PIECE = re.compile(r"\{(\*|_[a-z]|[a-z]\+1|[a-z])\}")
_ANY = "x"  # stands for any character where both sides leave it open
_DIGITS = 6


def letters(pattern: str) -> tuple[str, ...]:
    """The letters of the numbers, each once.

    >>> letters("stage{s}.unit{u+1}.conv")
    ('s', 'u')
    """
    return tuple(dict.fromkeys(piece.strip("_+1") for piece in PIECE.findall(pattern) if piece != "*"))


def samples(pattern: str) -> tuple[str, str]:
    """Two names that the pattern explains, with numbers of one and of two digits."""
    return PIECE.sub("0", pattern), PIECE.sub("10", pattern)


def both_explain(one: str, other: str) -> str | None:
    """The shortest name that both patterns explain, None when there is none.

    >>> both_explain("layer{i}.w", "layer1{j}.w"), both_explain("layer{i}.w", "layer{_i}.w")
    ('layer11.w', None)

    A letter that stands twice in a pattern is taken as two free numbers.
    """
    if not _prefixes_agree(one, other):
        return None
    a, b = _Machine(one), _Machine(other)
    start = [(p, q) for p in a.closed(0) for q in b.closed(0)]
    came: dict[tuple[int, int], tuple[tuple[int, int], str] | None] = dict.fromkeys(start)
    queue = deque(start)
    while queue:
        here = queue.popleft()
        if here == (a.end, b.end):
            return _spelled(came, here)
        for char, p, q in _steps(a, b, here):
            for there in ((x, y) for x in a.closed(p) for y in b.closed(q)):
                if there not in came:
                    came[there] = (here, char)
                    queue.append(there)
    return None


def _prefixes_agree(one: str, other: str) -> bool:
    a, b = PIECE.split(one, maxsplit=1)[0], PIECE.split(other, maxsplit=1)[0]
    return (one == other) if a == one and b == other else a.startswith(b) or b.startswith(a)


class _Machine:
    """The pattern as a machine: from a state the characters that may come and where they lead.  `""` is any."""

    def __init__(self, pattern: str) -> None:
        self.edges: list[list[tuple[str, int]]] = [[]]
        self.free: dict[int, list[int]] = {}  # state -> states that need no character
        for n, piece in enumerate(PIECE.split(pattern)):
            if n % 2 == 0:
                for char in piece:
                    self._step(char)
            elif piece == "*":
                state = self._step("")
                self.edges[state].append(("", state))
            else:
                self._number(optional=piece.startswith("_"))
        self.end = len(self.edges) - 1

    def closed(self, state: int) -> list[int]:
        """The state, and what is reached from it without a character."""
        found = [state]
        for one in found:
            found += self.free.get(one, [])
        return found

    def _step(self, chars: str) -> int:
        self.edges.append([])
        self.edges[-2].append((chars, len(self.edges) - 1))
        return len(self.edges) - 1

    def _number(self, *, optional: bool) -> None:
        start = len(self.edges) - 1
        if optional:
            self._step("_")
        first = len(self.edges) - 1
        digits = [self._step("123456789")] + [self._step("0123456789") for _ in range(_DIGITS - 1)]
        self.edges.append([])
        end = len(self.edges) - 1
        for state in digits:
            self.free.setdefault(state, []).append(end)
        if optional:
            self.free.setdefault(start, []).append(end)
        else:
            self.edges[first].append(("0", end))


def _steps(a: _Machine, b: _Machine, here: tuple[int, int]) -> Iterator[tuple[str, int, int]]:
    for chars, p in a.edges[here[0]]:
        for others, q in b.edges[here[1]]:
            both = [char for char in (chars or others or _ANY) if char in (others or char)]
            if both:
                yield both[0], p, q


def _spelled(came: dict[tuple[int, int], tuple[tuple[int, int], str] | None], end: tuple[int, int]) -> str:
    text, step = "", came[end]
    while step is not None:
        text, step = step[1] + text, came[step[0]]
    return text
