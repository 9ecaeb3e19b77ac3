"""One folder a class: `photos/cat/1.jpg`, alone or below `train` and one of `val`, `valid`, `validation`, `test`.

Class order is by the bytes of the names. Hidden entries are passed over, files without a picture's ending are counted
and passed over. Links are followed inside the root and refused where they lead out of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from vitrail.data.sources.found import Asked, Found, in_tree
from vitrail.data.sources.tree import Tree
from vitrail.errors import DataError, count, printable
from vitrail.pictures.limits import ENDINGS

TRAIN = ("train", "training")
VAL = ("val", "valid", "validation")
TEST = ("test",)


def find(tree: Tree, asked: Asked) -> list[Found]:
    """All pictures of a tree, or those to train on and those held out. DataError V401 to V405."""
    names = folders(tree)
    if names and all(name.lower() in (*VAL, *TEST) and folders(tree.below(name)) for name in names):
        held = held_out_name(names, asked.held_out) or names[0]
        found = class_folders(tree, held)  # made to measure by, not to train on
        return [
            replace(
                _noted(found, f"`{printable(held)}` held out", names, (held,)),
                held_out=np.ones(len(found.labels), bool),
            )
        ]
    train, apart = _split_folders(tree, names, asked)
    if train is None:
        return [class_folders(tree)]
    training = class_folders(tree, train)
    if apart is None:
        return [training]
    note = f"`{printable(train)}` to train on, `{printable(apart)}` held out"
    return [_noted(training, note, names, (train, apart)), class_folders(tree, apart)]


def _noted(found: Found, note: str, names: Sequence[str], used: Sequence[str]) -> Found:
    """With what was taken for what, and which folders were not."""
    unused = [printable(name) for name in names if name not in used]
    notes = (note, *([f"left alone: `{'`, `'.join(unused)}`"] if unused else []))
    return replace(found, notes=(*notes, *found.notes))


def folders(tree: Tree) -> list[str]:
    """The folders at the top of a tree, by the bytes of their names."""
    tops = {path.partition("/")[0] for path in tree.paths if "/" in path}
    tops |= {path.partition("/")[0] for path in tree.empty if path}
    return sorted(tops, key=os.fsencode)


def is_picture(path: str) -> bool:
    """Whether a file has a picture's ending."""
    return path.lower().endswith(ENDINGS)


def held_out_name(names: Iterable[str], first: str) -> str | None:
    """The folder or word that means `held out`: one of `first` (`val` or `test`) before one of the other."""
    by_name = {name.lower(): name for name in sorted(names, key=os.fsencode, reverse=True)}
    order = (*TEST, *VAL) if first == "test" else (*VAL, *TEST)
    return next((by_name[name] for name in order if name in by_name), None)


def _split_folders(tree: Tree, names: Sequence[str], asked: Asked) -> tuple[str | None, str | None]:
    """The folder to train on and the one held out, where there are such; (None, None) where its folders are classes.

    A folder called `train` that holds pictures itself is a class of that name.
    """
    train = next((name for name in names if name.lower() in TRAIN and folders(tree.below(name))), None)
    if train is None:
        return None, None
    others = [name for name in names if name != train]
    if asked.val_elsewhere:
        return train, None
    held = held_out_name(others, asked.held_out)
    if held is None and others:
        raise DataError(
            "V402",
            f"`{tree.place}/{train}` stands beside {', '.join(f'`{name}`' for name in others[:5])}: what is held out?",
            hint=f"call it one of {', '.join((*VAL, *TEST))}, or name it with data.val",
        )
    return train, held


def class_folders(tree: Tree, part: str = "") -> Found:
    """The class folders at the top of a tree, or of its folder `part`, and their pictures."""
    lead = f"{part}/" if part else ""
    names = folders(tree.below(part) if part else tree)
    place = f"{tree.place}/{part}" if part else tree.place
    if not names:
        raise DataError(
            "V401",
            f"no class folders in `{place}`",
            hint=f"expected one folder per class with {', '.join(ENDINGS)} files in it",
        )
    _refuse_near_names(names, place)
    number = {name: label for label, name in enumerate(names)}
    rows, labels, ignored = [], [], 0
    for row, path in enumerate(tree.paths):
        if not path.startswith(lead):
            continue
        if is_picture(path):
            folder, inside, _ = path[len(lead) :].partition("/")
            if inside:
                rows.append(row)
                labels.append(number[folder])
            else:
                ignored += 1
        else:
            ignored += 1
    without = sorted(set(range(len(names))) - set(labels))
    if without:
        raise DataError(
            "V401",
            f"no pictures in `{place}/{names[without[0]]}`",
            evidence=[f"{len(without)} of {len(names)} class folders have none"] if len(without) > 1 else [],
            hint="fill the class folder or remove it",
        )
    passed = f"passed over: {count(ignored, 'file')} in `{printable(place)}`, no pictures of a class by place or ending"
    notes = (passed,) if ignored else ()
    return replace(in_tree(tree, rows, labels, tuple(map(printable, names)), notes=notes), place=place)


def _refuse_near_names(names: Sequence[str], place: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(printable(name).casefold(), name)
        if other != name:
            how = "look alike when they are printed" if printable(other) == printable(name) else "differ by case alone"
            raise DataError(
                "V405",
                f"classes `{other}` and `{name}` in `{place}` {how}",
                hint="merge the two folders, or rename one",
            )
