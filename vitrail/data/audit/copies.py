"""Equal and near copies, told by what they do: leak, contradict, or only weigh double."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vitrail.data.audit import alike
from vitrail.data.audit.findings import Finding, Row
from vitrail.data.looks import Look
from vitrail.data.sources import Source
from vitrail.errors import count


def copies(source: Source, looks: Sequence[Look]) -> Iterator[Finding]:
    """Equal and near copies, told by what they do: leak, contradict, or only weigh double."""
    held = np.zeros(len(looks), bool)
    held[source.held_out] = len(source.training) > 0
    exact = [group for group in alike.same(looks) if looks[group[0]].good]
    first, second, likeness = alike.near(looks)
    twins = {group[0]: group for group in exact}  # of equal pictures one was compared
    surest: dict[int, float] = {}
    for i, j, value in zip(first.tolist(), second.tolist(), likeness.tolist(), strict=True):
        surest.setdefault(i, value)
        surest.setdefault(j, value)
    groups = [tuple(sorted({t for i in g for t in twins.get(i, (i,))})) for g in alike.joined(first, second)]
    near = [Row(g, f"{100 * max(surest.get(i, 0) for i in g):.0f} % alike") for g in groups]
    for rows, prefix, things in (([Row(g) for g in exact], "", "equal pictures"), (near, "near ", "near copies")):
        both = [row for row in rows if len(set(held[list(row.pictures)])) > 1]
        apart = [row for row in rows if len({int(source.labels[i]) for i in row.pictures}) > 1]
        told = {id(row) for row in (*both, *apart)}
        rest = [row for row in rows if id(row) not in told]
        leaked = sum(int(held[list(row.pictures)].sum()) for row in both)
        yield Finding(
            f"{prefix}leak",
            f"{count(leaked, 'held-out picture')} also among those to train on, "
            f"in {count(len(both), 'group')} of {things}",
            "remove them from one part: what was trained on measures nothing",
            tuple(_first_of_each(row, held) for row in both),
        )
        yield Finding(
            f"{prefix}conflict",
            f"{count(len(apart), 'group')} of {things} with different labels",
            "give each the right label, or remove it",
            tuple(_labelled(source, row) for row in apart),
        )
        spare = sum(len(row.pictures) - 1 for row in rest)
        yield Finding(
            f"{prefix}duplicate",
            f"{count(spare, 'picture')} too many within a part, in {count(len(rest), 'group')} of {things}",
            "harmless where few; they weigh double in training and in the score",
            tuple(rest),
        )


def _labelled(source: Source, row: Row) -> Row:
    labels = sorted({int(source.labels[i]) for i in row.pictures})
    names = " and ".join(source.classes[label] for label in labels)
    return Row(_first_of_each(row, source.labels).pictures, f"{names}{', ' + row.note if row.note else ''}")


def _first_of_each(row: Row, kinds: NDArray[np.generic]) -> Row:
    """The case with the first picture of each kind in front: what makes it one is seen where a group is cut short."""
    front: dict[object, int] = {}
    for index in row.pictures:
        front.setdefault(kinds[index].item(), index)
    return Row((*front.values(), *(index for index in row.pictures if index not in front.values())), row.note)
