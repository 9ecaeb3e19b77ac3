"""What is wrong with the classes as such: their sizes, their names, their order; and with the names of files."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vitrail.data.audit.findings import Finding, Row
from vitrail.data.audit.names import clashes
from vitrail.data.sources import Source
from vitrail.data.sources.classes import natural
from vitrail.errors import count

TINY = 10  # pictures to train on
UNEVEN = 10  # largest class against smallest


def classes(source: Source) -> Iterator[Finding]:
    if len(source.training):
        counts, other = source.count(source.training), source.count(source.held_out)
        absent = [Row((), f"{source.classes[i]}: none held out") for i in np.flatnonzero((other == 0) & (counts > 0))]
        absent += [Row((), f"{source.classes[i]}: none to train on") for i in np.flatnonzero(counts == 0)]
        yield Finding(
            "missing class",
            f"{count(len(absent), 'class', 'classes')} without pictures in one part",
            "add pictures, or take the class out of both parts",
            tuple(absent),
        )
    else:
        counts = source.count(source.held_out)
    tiny = [Row((), f"{source.classes[i]}: {count(int(counts[i]), 'picture')}") for i in np.flatnonzero(counts < TINY)]
    yield Finding(
        "tiny class",
        f"{count(len(tiny), 'class', 'classes')} of {len(source.classes)} with fewer than {TINY} pictures to train on",
        "add pictures, merge classes, or start from trained weights",
        tuple(tiny),
    )
    most, least = int(counts.argmax()), int(np.where(counts > 0, counts, counts.max()).argmin())
    if counts[least] and counts[most] >= UNEVEN * counts[least]:
        yield Finding(
            "imbalance",
            f"the largest class has {counts[most] / counts[least]:.0f} times the pictures of the smallest",
            "read the balanced accuracy beside top-1",
            tuple(Row((), f"{source.classes[i]}: {count(int(counts[i]), 'picture')}") for i in (most, least)),
        )


def names(source: Source) -> Iterator[Finding]:
    same = tuple(Row((), f"{' and '.join(source.classes[i] for i in g)} {way}") for g, way in clashes(source.classes))
    yield Finding(
        "class names",
        f"{count(len(same), 'group')} of class names that are easily taken for one another",
        "rename or merge them: a model is matched to data by these names",
        same,
    )
    count_of = range(len(source.classes))
    by_number = sorted(count_of, key=lambda i: natural(source.classes[i])) if source.open_order else count_of
    moved = tuple(
        Row((), f"{source.classes[i]}: {i} here, {place} in natural order")
        for place, i in enumerate(by_number)
        if place != i
    )
    yield Finding(
        "class order",
        f"{len(moved)} of {count(len(source.classes), 'class', 'classes')} stand at another number in natural order "
        "(timm's) than by the bytes of their names",
        "vitrail matches classes by name; beware when a model of another toolkit counts them",
        moved,
    )
    files = clashes([source.title(index) for index in range(len(source.labels))])
    yield Finding(
        "file names",
        f"{count(len(files), 'group')} of file names that are easily taken for one another",
        "rename them: on another file system one may replace the other",
        tuple(Row(group, way) for group, way in files),
    )
