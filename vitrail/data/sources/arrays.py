"""Pictures that lie in memory: arrays given in Python, or a `.npz` file as Keras' data sets come.

The file holds `x_train`, `y_train` and, where there is one, `x_test`, `y_test`: pixels uint8 (N, H, W), (N, H, W, 1)
or (N, H, W, 3), labels whole numbers (N,) or (N, 1). It is read by own strict rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitrail.data.configs import Data
from vitrail.data.sources.classes import listed
from vitrail.data.sources.found import Found
from vitrail.errors import DataError, WeightsError
from vitrail.formats.held import hold
from vitrail.formats.npz import read
from vitrail.formats.zip_directory import members

LABELS = 1_000_000
TRAIN, TEST = ("x_train", "y_train"), ("x_test", "y_test")
Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]


def is_here(path: Path) -> bool:
    """Whether a file is an npz of pictures, not of weights: by the names in it."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return False
    try:
        with hold(path) as file:
            return "x_train.npy" in members(file)
    except WeightsError:
        return False


def find(data: Data) -> Found:
    """The pictures of a `.npz` file. DataError V402 or V404."""
    path = Path(data.root or ".")
    if data.val is not None:
        raise DataError("V402", "data.val has no effect on a .npz file", hint="put x_test and y_test into the file")
    try:
        tensors = read(path)
    except WeightsError as error:
        raise DataError("V404", error.what, evidence=error.evidence, hint=error.hint) from error
    parts = []
    for x, y in (TRAIN, TEST):
        if (x in tensors) != (y in tensors):
            raise DataError("V404", f"`{path}` has one of `{x}` and `{y}` alone", hint="save both")
        if x in tensors:
            parts.append(_labelled(tensors[x].array(), tensors[y].array(), f"`{path}`: {x}"))
    if not parts:
        raise DataError("V402", f"`{path}` holds no x_train and y_train", hint="save them by numpy.savez")
    left = [name for name in tensors if name not in (*TRAIN, *TEST)]
    notes = (f"left alone in `{path}`: {', '.join(left)}",) if left else ()
    names = None if data.classes is None else listed(data.classes)
    return found(str(path), parts, names, notes=notes)


def found(
    place: str, parts: Sequence[Labelled], classes: Sequence[str] | None, *, notes: tuple[str, ...] = ()
) -> Found:
    """One or two parts as a source; the second is held out. classes: by default the numbers as words."""
    if len({part[0].shape[1:] for part in parts}) > 1:
        shapes = " and ".join(str(part[0].shape[1:]) for part in parts)
        raise DataError("V404", f"{place}: pictures of {shapes}", hint="give pictures of one size and channel count")
    pixels = parts[0][0] if len(parts) == 1 else np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts])
    count = int(labels.max()) + 1
    names = tuple(map(str, range(count))) if classes is None else tuple(classes)
    if len(names) < count or len(set(names)) != len(names) or not all(name.isprintable() and name for name in names):
        raise DataError(
            "V404",
            f"{place}: labels go to {count - 1}, there are {len(names)} class names, {len(set(names))} different",
            hint="give one printable name per class, each once, in the order of the labels",
        )
    first = len(parts[0][1])
    return Found(
        place=place,
        classes=names,
        labels=labels,
        held_out=np.arange(len(labels)) >= first if len(parts) > 1 else None,
        picture=lambda index: pixels[index],
        title=lambda index: f"train-{index:05d}" if index < first else f"test-{index - first:05d}",
        memory=pixels,
        notes=(f"{len(labels):,} pictures of {pixels.shape[1]} x {pixels.shape[2]} pixels in memory", *notes),
        own_order=True,
    )


def labelled(images: ArrayLike, labels: ArrayLike) -> Labelled:
    """Pictures uint8 (N, H, W, C) and labels int64 (N,) out of what was given; DataError V404 for other kinds."""
    return _labelled(np.asarray(images), np.asarray(labels), "the arrays")


def _labelled(images: NDArray[np.generic], labels: NDArray[np.generic], what: str) -> Labelled:
    fits = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
    if images.dtype != np.uint8 or not fits or images.size == 0:
        raise DataError(
            "V404",
            f"{what} is {images.dtype} {images.shape}",
            hint="pictures are uint8 (N, H, W), (N, H, W, 1) or (N, H, W, 3)",
        )
    flat = labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    whole = np.issubdtype(flat.dtype, np.integer)
    if whole and flat.shape == (len(images),) and not 0 <= int(flat.min()) <= int(flat.max()) < LABELS:
        wrong = int(flat.min()) if int(flat.min()) < 0 else int(flat.max())
        raise DataError("V404", f"{what}: a label is {wrong}", hint=f"labels are whole numbers of 0 to {LABELS - 1}")
    if not whole or flat.shape != (len(images),):
        raise DataError(
            "V404",
            f"{what}: labels are {labels.dtype} {labels.shape} for {len(images):,} pictures",
            hint="labels are whole numbers from 0, one a picture",
        )
    pixels = np.ascontiguousarray(images if images.ndim == 4 else images[..., None]).view(np.uint8)
    return pixels, flat.astype(np.int64)
