"""Class names of weights that bring none: `class_0`, `class_1`, ..."""

from __future__ import annotations

from collections.abc import Sequence


def numbered(count: int) -> tuple[str, ...]:
    """Names for the classes of a file that holds numbers only.

    >>> numbered(2)
    ('class_0', 'class_1')
    """
    return tuple(f"class_{i}" for i in range(count))


def placeholders(classes: Sequence[str]) -> bool:
    """Whether these are the names of `numbered`, all of them in order: then only the positions mean something.

    >>> placeholders(["class_0", "class_1"]), placeholders(["class_1", "class_0"]), placeholders(["cat", "dog"])
    (True, False, False)
    """
    return len(classes) > 0 and tuple(classes) == numbered(len(classes))
