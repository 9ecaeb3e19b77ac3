"""Which classes a source has and in which order: names mapped, ordered and labelled anew, and differences told."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vitrail.class_names import class_names, in_words
from vitrail.data.configs import Data
from vitrail.data.sources.found import Found, mapping
from vitrail.data.sources.lists import text_of
from vitrail.disk import read_file
from vitrail.errors import DataError, nearest, printable

LIMIT = 16 << 20  # bytes of a file of class names


def natural(name: str) -> list[tuple[int, str]]:
    """The key of natural order, timm's: digits count as numbers, letters without their case.

    >>> sorted(["10", "9", "b2", "B10"], key=natural)
    ['9', '10', 'b2', 'B10']
    """
    parts = re.split(r"([0-9]+)", name.lower())
    return [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)]


@dataclass(frozen=True)
class Ordered:
    """A source with its classes in the order that was asked for.

    class_order: by what the names are ordered; None where the source numbers them itself or a list is given.
    open_order: whether bytes and numbers would order the names differently and nobody has said which is meant.
    """

    found: Found
    class_order: Literal["bytes", "natural"] | None
    open_order: bool


def ordered(found: Found, data: Data) -> Ordered:
    """The source with `data.classes` or `data.class_order` applied. DataError V402, V403, V405."""
    words = in_words(found.classes)
    notes = []
    if words != found.classes:
        notes.append(f"classes are ImageNet's synsets, called by their words ({found.classes[0]}: {words[0]})")
    order: Literal["bytes", "natural"] | None = None
    free = False
    if data.classes is not None:
        wanted = _given(data.classes, found, words)
        notes.append(f"class order: as given by data.classes, {len(wanted)} names")
    elif found.own_order:
        if data.class_order is not None:
            raise DataError(
                "V402",
                f"the classes of `{found.place}` are numbered by the source itself",
                hint="leave data.class_order out, or give data.classes",
            )
        wanted = words
    else:
        by_bytes = sorted(range(len(words)), key=lambda label: os.fsencode(found.classes[label]))
        by_number = sorted(by_bytes, key=lambda label: natural(found.classes[label]))
        order = data.class_order or "bytes"
        free = data.class_order is None and by_bytes != by_number
        chosen = by_number if data.class_order == "natural" else by_bytes
        wanted = tuple(words[label] for label in chosen)
        if by_bytes != by_number:
            word = "natural (numbers count)" if data.class_order == "natural" else "by the bytes of the names"
            notes.append(f"class order: {word}: {', '.join(wanted[:4])} ...")
    number = {name: label for label, name in enumerate(wanted)}
    moved = np.array([number[name] for name in words], np.int64)
    if len(wanted) > len(words):
        notes.append(f"{len(wanted) - len(words)} of {len(wanted)} classes have no picture")
    changed = replace(found, classes=wanted, labels=moved[found.labels], notes=(*found.notes, *notes))
    return Ordered(changed, order, free)


def _given(classes: Sequence[str] | str, found: Found, words: tuple[str, ...]) -> tuple[str, ...]:
    """The wanted names; every class of the source must be among them."""
    given = in_words(listed(classes))
    missing = [name for name in words if name not in set(given)]
    if missing:
        extra = [name for name in given if name not in set(words)]
        raise DataError(
            "V403",
            f"data.classes lacks {len(missing)} of the {len(words)} classes of `{found.place}`",
            evidence=[f"only in the data: {name}" for name in missing[:5]]
            + [f"only in data.classes: {name}" for name in extra[:5]],
            hint=f"name every class of the data{mapping(missing, extra)}",
        )
    return given


def listed(classes: Sequence[str] | str) -> tuple[str, ...]:
    """The names that data.classes stands for: a list, a text file with one a line, or `imagenet1k`."""
    if not isinstance(classes, str):
        names = tuple(classes)
    elif classes == "imagenet1k" and not Path(classes).exists():
        return class_names("imagenet1k")
    else:
        if not Path(classes).is_file():
            hint = "give a list, [cat, dog], a text file with one name a line, or imagenet1k"
            raise DataError("V402", f"data.classes `{classes}` is no file", hint=hint)
        text = text_of(read_file(Path(classes), limit=LIMIT), classes)
        names = tuple(printable(line.strip("\r\t ")) for line in text.rstrip("\r\n\t ").split("\n"))
    doubled = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) != len(names) else []
    if doubled or not all(names):
        what = f"`{doubled[0]}` twice" if doubled else "an empty name"
        raise DataError("V405", f"data.classes holds {what}", hint="give each class once, in the order of the labels")
    return names


def renamed(parts: Sequence[Found], names: Mapping[str, str] | None) -> list[Found]:
    """The sources with their classes called as `data.rename` says; DataError V403 and V405."""
    if not names:
        return list(parts)
    known = list(dict.fromkeys(name for part in parts for name in part.classes))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DataError(
            "V403",
            f"data.rename names {len(unknown)} classes that the data do not have",
            evidence=[f"{name}; {nearest(name, known)}".rstrip("; ") for name in unknown[:5]],
            hint="write data.rename={THEIRS: OURS}, THEIRS as `vitrail show DATA` lists them",
        )
    out = []
    for part in parts:
        classes = tuple(names.get(name, name) for name in part.classes)
        if len(set(classes)) != len(classes):
            twice = next(name for name in classes if classes.count(name) > 1)
            raise DataError(
                "V405",
                f"after data.rename two classes of `{part.place}` are called `{twice}`",
                hint="merge their folders, or give them different names",
            )
        count = sum(old != new for old, new in zip(part.classes, classes, strict=True))
        out.append(replace(part, classes=classes, notes=(*part.notes, f"{count} classes renamed by data.rename")))
    return out
