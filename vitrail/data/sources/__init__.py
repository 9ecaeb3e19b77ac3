"""Where pictures come from: one file a source, one line here. `open_source` looks at what lies under the root.

`FINDERS` are sources of their own; `layouts.LAYOUTS` are what the files of a folder may mean.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitrail.data.configs import Data
from vitrail.data.order import split
from vitrail.data.sources import archive, arrays, cifar, digits, huggingface, layouts, parquet, shards
from vitrail.data.sources.classes import ordered, renamed
from vitrail.data.sources.found import Found, Stored
from vitrail.errors import DataError, count
from vitrail.formats import sniff
from vitrail.pictures.decode import decode
from vitrail.remote import fetched, is_address

FINDERS: dict[str, Callable[[Data], Found]] = {
    "cifar": cifar.find,
    "digits": digits.find,
    "arrays": arrays.find,
    "shards": shards.find,
    "parquet": parquet.find,
    "huggingface": huggingface.find,
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
    fingerprint: str  # SHA-256 over classes, titles, labels, file sizes or pixels in memory; not over split or order
    class_order: Literal["bytes", "natural"] | None = None  # None: the source's own, or a given list
    open_order: bool = False  # whether numbers in the names would order the classes otherwise, and nobody has chosen

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
    given = data
    data = replace(given, root=here(given.root), val=here(given.val))
    if data.root is None and data.source not in BUILT_IN:
        raise DataError("V402", "no data.root is given", hint=f"name a folder of pictures, or {', '.join(BUILT_IN)}")
    own = data.source if data.source in FINDERS else own_source(data) if data.source == "auto" else None
    if own is None:
        name, found = layouts.find(data)
    else:
        name, found = own, renamed([FINDERS[own](data)], data.rename)[0]
    source = _finish(name, found, data, seed if split_it else None)
    places = zip((given.root, given.val), (data.root, data.val), strict=True)
    notes = [f"`{url}` lies in `{path}`" for url, path in places if url != path]
    return replace(source, notes=(*notes, *source.notes))


def here(place: str | None) -> str | None:
    """Where data lie on this machine: an address is fetched once into the cache."""
    return str(fetched(place)) if place is not None and is_address(place) else place


def own_source(data: Data) -> str | None:
    """The source of its own that lies at the root; None where its files are to be understood by their layout."""
    root = data.root or ""
    if root in BUILT_IN and not Path(root).exists():
        return root
    if arrays.is_here(Path(root)):
        return "arrays"
    if cifar.is_here(Path(root)):
        return "cifar"
    if huggingface.is_here(root):
        return "huggingface"
    if shards.is_here(root):
        return "shards"
    return "parquet" if parquet.is_here(Path(root)) else None


def is_data(place: str) -> bool:
    """Whether a name or a path means pictures, not a model: a folder, an archive, a table, arrays, a built-in name."""
    place = here(place) or place
    path = Path(place)
    if path.is_dir() or layouts.is_table(path) or arrays.is_here(path) or place in BUILT_IN:
        return True
    if parquet.is_here(path) or shards.is_here(place):
        return True
    return archive.is_archive(path) and sniff(path) in ("zip", "torch_tar", "compressed")


def from_arrays(
    images: ArrayLike,
    labels: ArrayLike,
    classes: Sequence[str] | None = None,
    *,
    val: tuple[ArrayLike, ArrayLike] | None = None,
    seed: int = 0,
) -> Source:
    """A source of pictures in memory: images uint8 (N, H, W[, 1 or 3]), labels whole numbers (N,).

    classes: names in label order, by default the numbers. val: images and labels to hold out; else a part of each
    class is, drawn with `seed`. DataError V404 for arrays that do not fit.

    >>> pictures = np.zeros((4, 8, 8, 3), np.uint8)
    >>> from_arrays(pictures, [0, 1, 0, 1], ["cat", "dog"], val=(pictures, [0, 0, 1, 1])).classes
    ('cat', 'dog')
    """
    parts = [arrays.labelled(images, labels)] + ([] if val is None else [arrays.labelled(*val)])
    return _finish("arrays", arrays.found("arrays in memory", parts, classes), Data(), seed)


def _finish(name: str, raw: Found, data: Data, seed: int | None) -> Source:
    arranged = ordered(raw, data)
    found = arranged.found
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
        f"{len(training):,} pictures to train on, {len(held_out):,} held out, "
        f"{count(len(found.classes), 'class', 'classes')}",
    )
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
        fingerprint=_fingerprint(name, found),
        class_order=arranged.class_order,
        open_order=arranged.open_order,
    )


def _fingerprint(name: str, found: Found) -> str:
    """The same for the same pictures of the same classes, in whatever order the classes are."""
    by_bytes = sorted(range(len(found.classes)), key=lambda label: os.fsencode(found.classes[label]))
    rank = np.empty(len(by_bytes), np.int64)
    rank[by_bytes] = np.arange(len(by_bytes))
    digest = hashlib.sha256(repr((name, sorted(found.classes))).encode("utf-8", "surrogatepass"))
    titles = (found.title(index) + "\0" for index in range(len(found.labels)))
    digest.update("".join(titles).encode("utf-8", "surrogatepass"))
    digest.update(rank[found.labels].tobytes())
    if found.sizes is not None:
        digest.update(found.sizes.tobytes())
    if found.memory is not None:
        digest.update(found.memory.tobytes())
    return digest.hexdigest()


def whole(source: Source) -> Source:
    """The same source with every picture in the held-out part: to evaluate all of it."""
    everything = np.arange(len(source.labels), dtype=np.int64)
    notes = (
        *(note for note in source.notes if note not in source.split_notes),
        f"{len(everything):,} pictures, all of them",
    )
    return replace(source, training=everything[:0], held_out=everything, notes=notes)
