"""What a source's own file finds, before it is split."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrail.data.sources.tree import Tree
from vitrail.errors import DataError, printable

Stored = Path | bytes | NDArray[np.uint8]  # a file, the bytes of one, or pixels (H, W, C)


@dataclass(frozen=True)
class Found:
    """Labelled pictures. held_out: bool (N,) where the layout itself says which, else None.

    picture(i) gives picture i as it is stored, undecoded; it may be called from several threads at once.
    """

    place: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    held_out: NDArray[np.bool_] | None
    picture: Callable[[int], Stored]
    title: Callable[[int], str]
    memory: NDArray[np.uint8] | None
    notes: tuple[str, ...]
    sizes: NDArray[np.int64] | None = None  # bytes of each picture's file, where there are files
    own_order: bool = False  # whether the source numbers its classes itself, so that no order of names is right


@dataclass(frozen=True)
class Asked:
    """What a layout must know beside its files."""

    held_out: str = "val"  # which of `val` and `test` is held out where there are both
    val_elsewhere: bool = False  # whether the pictures to hold out come from another place
    classes: tuple[str, ...] | None = None  # names in label order, where a list gives numbers


def in_tree(
    tree: Tree,
    rows: Sequence[int] | NDArray[np.int64],
    labels: Sequence[int] | NDArray[np.int64],
    classes: tuple[str, ...],
    *,
    held_out: NDArray[np.bool_] | None = None,
    notes: tuple[str, ...] = (),
) -> Found:
    """Labelled pictures of a tree: file rows[i] has label labels[i]."""
    files = np.asarray(rows, np.int64)
    return Found(
        place=tree.place,
        classes=classes,
        labels=np.asarray(labels, np.int64),
        held_out=held_out,
        picture=lambda index: tree.picture(int(files[index])),
        title=lambda index: tree.paths[files[index]],
        memory=None,
        notes=(*tree.notes, *notes),
        sizes=tree.sizes[files],
    )


def held_beside(training: Found, held_out: Found, *, lead: str = "") -> Found:
    """Both in one: what `training` trains on, and what `held_out` holds out, or all of it; labels matched by name.

    lead: before the titles of the held-out ones. DataError V403 when one has classes that the other lacks.
    """
    same_classes(training, held_out)
    number = {name: label for label, name in enumerate(training.classes)}
    moved = np.array([number[name] for name in held_out.classes], np.int64)
    kept = np.arange(len(training.labels)) if training.held_out is None else np.flatnonzero(~training.held_out)
    left = len(training.labels) - len(kept)
    theirs = np.arange(len(held_out.labels)) if held_out.held_out is None else np.flatnonzero(held_out.held_out)
    first = len(kept)
    sizes = None
    if training.sizes is not None and held_out.sizes is not None:
        sizes = np.concatenate([training.sizes[kept], held_out.sizes[theirs]])

    def other(at: int) -> int:
        return int(theirs[at - first])

    alone = (f"left alone: {left:,} pictures that `{printable(training.place)}` holds out itself",) if left else ()
    return replace(
        training,
        labels=np.concatenate([training.labels[kept], moved[held_out.labels[theirs]]]),
        held_out=np.arange(first + len(theirs)) >= first,
        picture=lambda at: training.picture(int(kept[at])) if at < first else held_out.picture(int(theirs[at - first])),
        title=lambda at: (
            training.title(int(kept[at])) if at < first else lead + held_out.title(int(theirs[at - first]))
        ),
        memory=None,
        sizes=sizes,
        notes=tuple(dict.fromkeys((*training.notes, *held_out.notes, *alone))),
    )


def same_classes(training: Found, held_out: Found) -> None:
    """DataError V403 with the first differences unless both have the same names, in whatever order."""
    missing = [name for name in training.classes if name not in set(held_out.classes)]
    extra = [name for name in held_out.classes if name not in set(training.classes)]
    if missing or extra:
        raise DataError(
            "V403",
            f"`{held_out.place}` has other classes than `{training.place}`",
            evidence=[
                *(f"missing in {_base(held_out.place)}: {name}" for name in missing[:5]),
                *(f"only in {_base(held_out.place)}: {name}" for name in extra[:5]),
                f"{len(missing)} missing, {len(extra)} extra of {len(training.classes)} classes",
            ],
            hint=f"give every class at least one picture in both, under the same name{mapping(extra, missing)}",
        )


def mapping(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """The option that maps the first of names that are not known, where one of ours is near it."""
    for name in theirs:
        near = difflib.get_close_matches(name.casefold(), [one.casefold() for one in ours], n=1, cutoff=0.6)
        if near:
            own = next(one for one in ours if one.casefold() == near[0])
            return f", or map names by data.rename={{{json.dumps(name)}: {json.dumps(own)}}}"
    return ", or map names by data.rename={THEIRS: OURS}" if theirs and ours else ""


def _base(place: str) -> str:
    return place.rstrip("/").rpartition("/")[2] or place
