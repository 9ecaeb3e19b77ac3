"""The Oxford 102 flowers as published: `jpg/image_00001.jpg` to 08189, `imagelabels.mat` and `setid.mat`.

`setid.mat` splits them: `trnid` (1,020) to train on, `valid` (1,020) held out, `tstid` (6,149) left alone unless
data.held_out is `test`. Source: Nilsback, Zisserman 2008, www.robots.ox.ac.uk/~vgg/data/flowers/102.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vitrail.class_names import flowers
from vitrail.data.sources.found import Asked, Found, in_tree
from vitrail.data.sources.tree import Tree
from vitrail.errors import DataError
from vitrail.formats import matlab

LABELS, SPLITS = "imagelabels.mat", "setid.mat"
LIMIT = 1 << 20  # bytes; the published files have 502 and 14,989
PARTS = {"train": "trnid", "val": "valid", "test": "tstid"}
_HINT = "fetch the published file again"


def is_here(tree: Tree) -> bool:
    """Whether both lists of the published layout lie there."""
    return tree.find(LABELS) is not None and tree.find(SPLITS) is not None


def find(tree: Tree, asked: Asked) -> list[Found]:
    """The pictures of the published training part and of the one held out. DataError V404."""
    labels = _numbers(tree, LABELS, "labels")
    names = flowers()
    wrong = np.flatnonzero((labels < 1) | (labels > len(names)))
    if wrong.size:
        first = int(wrong[0])
        raise DataError(
            "V404",
            f"`{tree.place}/{LABELS}`: label {first + 1} is {labels[first]}, expected 1 to {len(names)}",
            evidence=[f"{wrong.size} of {len(labels)} labels are out of range"],
            hint=_HINT,
        )
    parts = {name: _numbers(tree, SPLITS, key) for name, key in PARTS.items()}
    _check_parts(tree, parts, len(labels))
    held_name = asked.held_out
    ids = np.concatenate([parts["train"], parts[held_name]])
    rows = [tree.find(f"jpg/image_{number:05d}.jpg") for number in ids.tolist()]
    missing = [int(number) for number, row in zip(ids, rows, strict=True) if row is None]
    if missing:
        raise DataError(
            "V404",
            f"{len(missing)} of {len(ids)} pictures are missing in `{tree.place}/jpg`",
            evidence=[f"image_{number:05d}.jpg" for number in missing[:5]],
            hint="unpack 102flowers.tgz again",
        )
    other = "test" if held_name == "val" else "val"
    note = (
        f"Oxford 102 flowers as published: {PARTS['train']} to train on, {PARTS[held_name]} held out, "
        f"{len(parts[other]):,} pictures of {PARTS[other]} left alone (data.held_out={other} takes them)"
    )
    held = np.arange(len(ids)) >= len(parts["train"])
    found = in_tree(
        tree, [row for row in rows if row is not None], labels[ids - 1] - 1, names, held_out=held, notes=(note,)
    )
    return [replace(found, own_order=True)]


def _numbers(tree: Tree, path: str, key: str) -> NDArray[np.int64]:
    array = matlab.read(tree.read(path, limit=LIMIT), f"{tree.place}/{path}").get(key)
    if array is None or array.ndim != 2 or min(array.shape) != 1:
        found = "is absent" if array is None else f"is {array.shape}"
        raise DataError("V404", f"`{tree.place}/{path}`: `{key}` {found}, expected one row of numbers", hint=_HINT)
    numbers = array.reshape(-1).astype(np.int64)
    if not np.array_equal(numbers, array.reshape(-1)):
        raise DataError("V404", f"`{tree.place}/{path}`: `{key}` holds what is no whole number", hint=_HINT)
    return numbers


def _check_parts(tree: Tree, parts: dict[str, NDArray[np.int64]], count: int) -> None:
    everything = np.concatenate(list(parts.values()))
    values, times = np.unique(everything, return_counts=True)
    outside = values[(values < 1) | (values > count)]
    if outside.size or (times > 1).any():
        what = f"number {outside[0]} of 1 to {count}" if outside.size else f"{values[times > 1][0]} twice"
        raise DataError("V404", f"`{tree.place}/{SPLITS}` names picture {what}", hint=_HINT)
