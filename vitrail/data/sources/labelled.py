"""What sources with a label beside each picture share: labels to numbers, names of classes, and which file is what."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrail import disk
from vitrail.data.configs import Data
from vitrail.data.sources.classes import listed
from vitrail.data.sources.found import Found, held_beside
from vitrail.errors import DataError, count, printable
from vitrail.formats import json

CLASS_FILES = ("classes.txt", "classes.json")
_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    "test": "test",
}
_FILE_BYTES = 16 << 20
_CLASSES = 1 << 20

Label = int | str


@dataclass(frozen=True)
class Parts:
    """Which of some files are trained on and which held out; the others are left alone."""

    training: tuple[int, ...]
    held_out: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def used(self) -> tuple[int, ...]:
        return (*self.training, *self.held_out)


def parts_of(names: Sequence[str], place: str, *, first: str = "val") -> Parts:
    """Files by a word of their path: `train`, one of `val`, `valid`, `validation`, or `test`; all to train on where
    none has one. first: which of `val` and `test` is held out where there are both.

    DataError V402 where some have a word and some have none.
    """
    words = [_word(name) for name in names]
    if not any(words):
        return Parts(tuple(range(len(names))), (), ())
    if None in words:
        raise DataError(
            "V402",
            f"`{printable(names[words.index(None)])}` in `{place}`: to train on, or held out?",
            evidence=[f"{sum(word is not None for word in words)} of {len(words)} files say so in their names"],
            hint="put `train` or `val` into its name, or the files of each into a folder of that name",
        )
    held, other = (
        ("test", "val") if words.count("test") and (first == "test" or "val" not in words) else ("val", "test")
    )
    numbers = {word: tuple(i for i, mine in enumerate(words) if mine == word) for word in ("train", "val", "test")}
    notes = [f"{count(len(numbers['train']), 'file')} `train`"]
    if numbers[held]:
        notes[0] += f", {count(len(numbers[held]), 'file')} `{held}` held out"
    if numbers[other]:
        notes.append(f"left alone: {count(len(numbers[other]), 'file')} `{other}`")
    return Parts(numbers["train"], numbers[held], tuple(notes))


def with_val(find: Callable[[Data], Found], data: Data) -> Found:
    """What `find` makes of data.root, with all of data.val held out where that is given."""
    if data.val is None:
        return find(data)
    val = find(replace(data, root=data.val, val=None))
    return held_beside(find(replace(data, val=None)), val, lead=f"{os.path.basename(os.path.abspath(data.val))}/")


def in_rows(
    place: str,
    labelled: tuple[tuple[str, ...], NDArray[np.int64], bool],
    parts: Parts,
    rows: Sequence[int],
    *,
    picture: Callable[[int], bytes],
    title: Callable[[int], str],
) -> Found:
    """What was found where files lie one after the other, as `parts.used` has them, with so many rows each.

    labelled: what `numbered` made of their labels.
    """
    classes, labels, own_order = labelled
    held = np.arange(len(labels)) >= sum(rows[: len(parts.training)])
    return Found(
        place=place,
        classes=classes,
        labels=labels,
        held_out=held if parts.held_out else None,
        picture=picture,
        title=title,
        memory=None,
        notes=parts.notes,
        own_order=own_order,
    )


def _word(name: str) -> str | None:
    """The word nearest to the end of the path that says what a file is for."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((_WORDS[word] for word in reversed(words) if word in _WORDS), None)


def label_of(text: bytes, where: str) -> Label:
    """A label as a small file holds it: a number, or a name on one line; DataError V404."""
    try:
        word = text.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        word = ""
    if not word or not word.isprintable() or len(word) > 512:
        raise DataError("V404", f"the label of `{where}` is neither a number nor a name", hint="write one of them")
    return int(word) if re.fullmatch(r"-?\d{1,9}", word, re.ASCII) else word


def numbered(
    labels: Sequence[Label], names: Sequence[str] | None, data: Data
) -> tuple[tuple[str, ...], NDArray[np.int64], bool]:
    """The classes, labels (N,) as numbers, and whether the source itself says their order.

    names: of the numbers, in their order; without them `data.classes`, else numbers are names. DataError V404 for
    numbers beside names, or labels beyond the classes.
    """
    place = data.root or ""
    if all(isinstance(label, int) for label in labels):
        if names is None and data.classes is not None:
            names = listed(data.classes)
        values = np.array(labels, np.int64)
        return (*_by_number(values, names, place), True)
    if not all(isinstance(label, str) for label in labels):
        raise DataError("V404", f"labels in `{place}` are numbers and names", hint="write all as one of them")
    words = [printable(str(label)) for label in labels]
    classes = tuple(names) if names is not None else tuple(sorted(set(words), key=os.fsencode))
    number = {name: label for label, name in enumerate(classes)}
    unknown = sorted(set(words) - set(number))
    if unknown:
        raise DataError(
            "V404",
            f"{len(unknown)} labels in `{place}` are no classes of its list",
            evidence=unknown[:5],
            hint="add them to the list of class names",
        )
    return classes, np.array([number[word] for word in words], np.int64), names is not None


def _by_number(
    values: NDArray[np.int64], names: Sequence[str] | None, place: str
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    classes = len(names) if names is not None else min(int(values.max(initial=-1)) + 1, _CLASSES)
    wrong = np.flatnonzero((values < 0) | (values >= classes))
    if wrong.size:
        raise DataError(
            "V404",
            f"label {values[wrong[0]]} in `{place}`, there are {classes:,} classes",
            evidence=[f"{wrong.size:,} of {len(values):,} labels are none of 0 to {classes - 1}"],
            hint="check the labels, and the list of class names",
        )
    return tuple(names) if names is not None else tuple(map(str, range(classes))), values


def names_beside(folder: Path) -> tuple[str, ...] | None:
    """Class names in label order from `classes.txt` or `classes.json` in a folder, or None; DataError V404."""
    for name in CLASS_FILES:
        path = folder / name
        if path.is_file():
            data = disk.read_file(path, limit=_FILE_BYTES)
            try:
                found = _json_names(data) if path.suffix == ".json" else data.decode("utf-8-sig").splitlines()
            except ValueError as error:
                raise DataError("V404", f"`{path}` holds no class names: {error}", hint=_WAYS) from error
            return checked_names([word.strip() for word in found], str(path))
    return None


def checked_names(names: Sequence[str], where: str) -> tuple[str, ...]:
    """The names, printable; DataError V404 where one is empty, V405 where one stands twice."""
    while names and not names[-1]:
        names = names[:-1]
    if not names or not all(names):
        raise DataError("V404", f"`{where}` has no names, or an empty one", hint=_WAYS)
    clean = tuple(map(printable, names))
    twice = next((name for name in clean if clean.count(name) > 1), None) if len(set(clean)) != len(clean) else None
    if twice is not None:
        raise DataError("V405", f"the class `{twice}` stands twice in `{where}`", hint="give every class its own name")
    return clean


_WAYS = "write one name a line, or a JSON list, or a JSON object of number and name"


def _json_names(data: bytes) -> list[str]:
    """A list of names, or an object from number to name or from name to number."""
    value = json.loads(data, limit=_FILE_BYTES)
    if isinstance(value, dict):
        pairs = {int(k): v for k, v in value.items()} if all(re.fullmatch(r"\d{1,7}", k) for k in value) else {
            number: name for name, number in value.items()
        }  # fmt: skip
        if set(pairs) != set(range(len(pairs))) or len(pairs) != len(value):
            raise ValueError("its numbers are not 0, 1, 2 ... once each")
        value = [pairs[number] for number in range(len(pairs))]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("it is no list of names")
    return value
