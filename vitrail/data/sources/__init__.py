"""Where pictures come from: one file a source, one line here. `open_source` looks at what lies under the root."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrail.data.configs import Data
from vitrail.data.order import split
from vitrail.data.sources import cifar, digits, folder, parquet, shards
from vitrail.data.sources.found import Found, Stored
from vitrail.errors import DataError
from vitrail.pictures.decode import decode

FINDERS: dict[str, Callable[[Data], Found]] = {
    "folder": folder.find,
    "cifar": cifar.find,
    "digits": digits.find,
    "shards": shards.find,
    "parquet": parquet.find,
}

# Sources that need no root: their name is one.
BUILT_IN = {"digits": "1,797 handwritten digits of 8 x 8 grey pixels (UCI, in scikit-learn's package), 10 classes"}


@dataclass(frozen=True)
class Source:
    """Labelled pictures, split into a training and a held-out part.

    classes are in label order; labels int64 (N,); training and held_out are sorted indices into 0..N-1.
    picture(i) is picture i as it is stored, read(i) decodes it to uint8 (H, W, C) or raises PictureError; title(i)
    names it in messages and tables.
    memory holds all pictures (N, H, W, C) where they fit and have one size. notes say what was understood.
    """

    name: str
    place: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    training: NDArray[np.int64]
    held_out: NDArray[np.int64]
    picture: Callable[[int], Stored]
    title: Callable[[int], str]
    memory: NDArray[np.uint8] | None
    notes: tuple[str, ...]
    split_notes: tuple[str, ...]  # those of the notes that speak of the split
    own_split: bool  # whether the layout itself says what is held out
    fingerprint: str  # SHA-256 over classes, titles, labels, file sizes or pixels in memory; not over the split

    def read(self, index: int) -> NDArray[np.uint8]:
        """Pixels (H, W, C) of picture `index`, decoded whole; PictureError V301 to V305 names it by its title."""
        stored = self.picture(index)
        return stored if isinstance(stored, np.ndarray) else decode(stored, name=self.title(index))

    def count(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Pictures per class (K,) among `indices`."""
        return np.bincount(self.labels[indices], minlength=len(self.classes))


def open_source(data: Data, *, seed: int = 0, split_it: bool = True) -> Source:
    """The source that `data` names, split. seed: of the split where the source has none of its own.

    split_it: False holds everything out where the source has no split of its own.

    DataError V401 to V407 when it holds nothing, is not understood, or its classes do not stand.
    """
    name = data.source if data.source != "auto" else _detect(data)
    if data.root is None and name not in BUILT_IN:
        raise DataError("V402", "no data.root is given", hint=f"name a folder of pictures, or {', '.join(BUILT_IN)}")
    return _finish(name, FINDERS[name](data), data, seed if split_it else None)


def _detect(data: Data) -> str:
    if data.root is None:
        raise DataError("V402", "no data.root is given", hint=f"name a folder of pictures, or {', '.join(BUILT_IN)}")
    if data.root in BUILT_IN and not Path(data.root).exists():
        return data.root
    if cifar.is_here(Path(data.root)):
        return "cifar"
    if shards.is_here(data.root):
        return "shards"
    return "parquet" if parquet.is_here(Path(data.root)) else "folder"


def _finish(name: str, found: Found, data: Data, seed: int | None) -> Source:
    split_notes: tuple[str, ...] = ()
    everything = np.arange(len(found.labels), dtype=np.int64)
    if found.held_out is not None:
        held = found.held_out
    elif seed is None:
        held = np.ones(len(found.labels), bool)
    else:
        held = split(found.labels, len(found.classes), part=data.holdout, seed=seed, classes=found.classes)
        split_notes += (f"no validation split: {data.holdout:g} of each class held out, drawn with seed {seed}",)
    training, held_out = everything[~held], everything[held]
    split_notes += (
        f"{len(training):,} pictures to train on, {len(held_out):,} held out, {len(found.classes)} classes",
    )
    digest = hashlib.sha256(repr((name, found.classes)).encode("utf-8", "surrogatepass"))
    for index in everything:
        digest.update(found.title(int(index)).encode("utf-8", "surrogatepass") + b"\0")
    digest.update(found.labels.tobytes())
    if found.sizes is not None:
        digest.update(found.sizes.tobytes())
    if found.memory is not None:
        digest.update(found.memory.tobytes())
    return Source(
        name=name,
        place=found.place,
        classes=found.classes,
        labels=found.labels,
        training=training,
        held_out=held_out,
        picture=found.picture,
        title=found.title,
        memory=found.memory,
        notes=(*found.notes, *split_notes),
        split_notes=split_notes,
        own_split=found.held_out is not None,
        fingerprint=digest.hexdigest(),
    )


def whole(source: Source) -> Source:
    """The same source with every picture in the held-out part: to evaluate all of it."""
    everything = np.arange(len(source.labels), dtype=np.int64)
    notes = (
        *(note for note in source.notes if note not in source.split_notes),
        f"{len(everything):,} pictures, all of them",
    )
    return replace(source, training=everything[:0], held_out=everything, notes=notes)
