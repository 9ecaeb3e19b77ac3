"""What lists of labels have in common: words that are names or numbers of classes, and problems by line."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from vitrail.errors import DataError, nearest

SHOWN = 20  # problems that are printed in full
_NUMBER = re.compile(r"[0-9]{1,9}")


def text_of(data: bytes, place: str) -> str:
    """The text of a list: UTF-8 with or without a byte order mark; names of files may be any bytes."""
    if b"\0" in data:
        raise DataError("V404", f"`{place}` is no text: it holds zero bytes", hint="save the list as UTF-8 text")
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def labels_of(
    words: Sequence[tuple[int, str]], known: tuple[str, ...] | None
) -> tuple[tuple[str, ...], list[int], list[tuple[int, str]]]:
    """The classes, a label for each (line, word), and the problems (line, what is wrong).

    Without known classes the words are their names, ordered by their bytes. With them the words are names of these,
    or, where none of them is, numbers that count them from 0.
    """
    if known is None:
        classes = tuple(sorted({word for _, word in words}, key=os.fsencode))
        number = {name: label for label, name in enumerate(classes)}
        return classes, [number[word] for _, word in words], []
    number = {name: label for label, name in enumerate(known)}
    if words and not any(word in number for _, word in words):
        number = {str(label): label for label in range(len(known))}
    problems = [(line, _unknown(word, known, number)) for line, word in words if word not in number]
    return known, [number.get(word, -1) for _, word in words], problems


def _unknown(word: str, known: Sequence[str], number: dict[str, int]) -> str:
    if "0" in number and number["0"] == 0 and known[0] != "0":
        return f"label `{word}` is no whole number of 0 to {len(known) - 1}"
    return f"label `{word}` is none of the {len(known)} classes; {nearest(word, known)}".rstrip("; ")


def are_numbers(words: Sequence[tuple[int, str]]) -> bool:
    """Whether the first label of a list is a number, right or not: -1 and 1.5 are meant as one, too."""
    return bool(words) and re.fullmatch(r"[+-]?[0-9][0-9.eE+-]*", words[0][1]) is not None


def refuse(place: str, problems: Sequence[tuple[int, str]], *, hint: str) -> None:
    """DataError V404 with every problem by its line; nothing without one."""
    if not problems:
        return
    ordered = sorted(set(problems))
    lines = [f"line {line}: {what}" if line else what for line, what in ordered[:SHOWN]]
    rest = [str(line) for line, _ in ordered[SHOWN:] if line]
    more = f"and {len(ordered) - SHOWN} more" + (f", in lines {', '.join(rest)}" if rest else "")
    raise DataError(
        "V404",
        f"{len(ordered)} problem{'s' if len(ordered) > 1 else ''} in `{place}`",
        evidence=[*lines, more] if len(ordered) > SHOWN else lines,
        hint=hint,
    )
