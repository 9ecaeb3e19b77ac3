"""ImageNet as people have it: `train/` with class folders and a flat `val/` with a list of labels, or that list alone.

The list is `val_label.txt` in the flat folder or beside it: lines `NAME LABEL`, the label a number that counts the
classes from 0, or a class's name (a synset); the name with or without the picture's ending.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vitrail.class_names import wnids
from vitrail.data.sources import folder
from vitrail.data.sources.found import Asked, Found, in_tree
from vitrail.data.sources.lists import are_numbers, labels_of, refuse, text_of
from vitrail.data.sources.tree import Tree
from vitrail.disk import read_file
from vitrail.errors import DataError, printable

LISTS = ("val_label.txt", "val_labels.txt", "val.txt")
LIMIT = 64 << 20  # bytes of a list; that of ImageNet has 2 MB
_OFFICIAL = re.compile(r"ILSVRC2012_val_\d{8}")
_HINT = "the list must name each picture of the folder once: NAME LABEL, labels counted from 0 or names of classes"


def is_here(tree: Tree) -> bool:
    """Whether a flat folder of pictures with its list lies there."""
    flat = _flat(tree)
    return flat is not None and _list_of(tree, flat) is not None


def find(tree: Tree, asked: Asked) -> list[Found]:
    """The class folders to train on, where there are, and the pictures of the list. DataError V402 to V404."""
    flat = _flat(tree)
    listed = None if flat is None else _list_of(tree, flat)
    if flat is None or listed is None:
        raise DataError(
            "V402", f"no flat folder with {' or '.join(LISTS)} in `{tree.place}`", hint="put the list beside `val`"
        )
    train = next((name for name in folder.folders(tree) if name.lower() in folder.TRAIN), None) if flat else None
    training = None if train is None else folder.class_folders(tree, train)
    if training is not None and asked.val_elsewhere:
        return [training]
    known = training.classes if training is not None else asked.classes
    held = _listed(tree, flat, listed, known)
    if training is None:
        return [replace(held, held_out=np.ones(len(held.labels), bool))]  # made to measure by, not to train on
    note = f"`{printable(train or '')}` to train on, `{printable(flat)}` held out"
    return [replace(training, notes=(note, *training.notes)), held]


def _flat(tree: Tree) -> str | None:
    """The flat folder: "" for the place itself, or one of val, valid, validation, test; None where there is none."""
    if any("/" not in path and folder.is_picture(path) for path in tree.paths):
        return ""
    held = (*folder.VAL, *folder.TEST)
    names = [name for name in folder.folders(tree) if name.lower() in held and _pictures(tree, f"{name}/")]
    return folder.held_out_name(names, "val")


def _pictures(tree: Tree, lead: str) -> list[int]:
    """The pictures that lie in a folder itself."""
    return [
        row
        for row, path in enumerate(tree.paths)
        if path.startswith(lead) and "/" not in path[len(lead) :] and folder.is_picture(path)
    ]


def _list_of(tree: Tree, flat: str) -> tuple[str, bytes] | None:
    """The list of a flat folder, in it, beside it, or, where the place is that folder, above it: its name and bytes."""
    inside = [f"{flat}/{name}" for name in LISTS] if flat else []
    for path in (*inside, *LISTS):
        if tree.find(path) is not None:
            return f"{tree.place}/{path}", tree.read(path, limit=LIMIT)
    if not flat and tree.above is not None:
        for name in LISTS:
            if (tree.above / name).is_file():
                return str(tree.above / name), read_file(tree.above / name, limit=LIMIT)
    return None


def _listed(tree: Tree, flat: str, listed: tuple[str, bytes], known: tuple[str, ...] | None) -> Found:
    place, data = listed
    lead = f"{flat}/" if flat else ""
    rows = _pictures(tree, lead)
    names = [tree.paths[row][len(lead) :] for row in rows]
    lines, problems = _lines(text_of(data, place))
    taken, missing = _matched(names, lines, flat, problems)
    words = [(line, word) for line, _, word in lines]
    if known is None and are_numbers(words):
        known = _numbered_classes(names, place)
    classes, labels, unknown = labels_of(words, known)
    problems += unknown
    if missing or problems:
        problems += [(0, f"a picture without a line: {name}") for name in missing[:5]]
        if len(missing) > 5:
            problems.append((0, f"a picture without a line: {len(missing) - 5} more"))
        problems.append((0, f"{len(lines):,} lines for {len(names):,} pictures"))
    refuse(place, problems, hint=_HINT)
    by_name = {taken[line]: label for (line, _, _), label in zip(lines, labels, strict=True)}
    note = f"{len(names):,} pictures in `{printable(flat or tree.place)}` with labels by `{printable(place)}`"
    return in_tree(tree, rows, [by_name[name] for name in names], classes, notes=(note,))


def _lines(text: str) -> tuple[list[tuple[int, str, str]], list[tuple[int, str]]]:
    """(line, name, label) of each line, and the problems. Blank lines are none at the end alone."""
    good, problems = [], []
    for number, line in enumerate(text.rstrip("\r\n\t ").split("\n"), 1):
        parts = line.strip("\r\t ").rsplit(maxsplit=1)
        if len(parts) == 2:
            good.append((number, parts[0], parts[1]))
        else:
            problems.append((number, f"`{line.strip()}` is not NAME LABEL"))
    return good, problems


def _matched(
    names: Sequence[str], lines: Sequence[tuple[int, str, str]], flat: str, problems: list[tuple[int, str]]
) -> tuple[dict[int, str], list[str]]:
    """line -> picture, and the pictures without a line; `problems` takes names without a picture and doubled ones."""
    exact = set(names)
    stems: dict[str, list[str]] = {}
    for name in names:
        stems.setdefault(name.rsplit(".", 1)[0], []).append(name)
    first: dict[str, int] = {}
    taken: dict[int, str] = {}
    for number, written, _ in lines:
        name = written.removeprefix(f"{flat or 'val'}/")
        found = [name] if name in exact else stems.get(name, [])
        if len(found) != 1:
            problems.append(
                (number, f"no picture is called `{written}`" if not found else f"`{written}` may be {found}")
            )
        elif found[0] in first:
            problems.append((number, f"`{written}` is named in line {first[found[0]]} already"))
        else:
            first[found[0]] = number
            taken[number] = found[0]
    return taken, [name for name in names if name not in first]


def _numbered_classes(names: Sequence[str], place: str) -> tuple[str, ...]:
    """The classes that numbers count where nothing else says so: those of ImageNet's own validation pictures."""
    if all(_OFFICIAL.match(name) for name in names):
        return wnids("imagenet1k")
    raise DataError(
        "V402",
        f"the labels in `{place}` are numbers, and nothing says which classes they count",
        hint="give data.classes=imagenet1k, a list or a file of names, or a data.root with class folders",
    )
