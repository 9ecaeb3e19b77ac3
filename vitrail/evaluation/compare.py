"""Two models over the same pictures: whether they say the same, and which is right more often."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vitrail.errors import DataError, NumbersBroke, OutsideBound, UsageError
from vitrail.evaluation.answers import CheckPicture, Logits, in_windows
from vitrail.evaluation.intervals import mcnemar, wilson
from vitrail.pictures.predict import Model

BATCH = 7  # a part of a window
BOUND = 1e-3  # of a logit, between engines in float32: their rounding is a hundredth of that
NAMED = 8  # changed decisions that an error names
SIDES = ("first", "second")
Names = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Changed:
    """A picture that the two models name differently, by its place, and the classes that they name."""

    place: int
    classes: tuple[str, str]


@dataclass(frozen=True)
class Comparison:
    """What was measured of two models; pairs are (of the first, of the second).

    max_dlogit: the greatest difference of a logit. norms: Euclidean, of all logits.
    correct: of `labelled` pictures. alone: pictures that only that model names rightly.
    """

    pictures: int
    max_dlogit: float
    norms: tuple[float, float]
    changed: tuple[Changed, ...]
    labelled: int
    correct: tuple[int, int]
    alone: tuple[int, int]
    bound: float

    @property
    def same(self) -> bool:
        """Whether every logit lies within the bound."""
        return self.max_dlogit <= self.bound

    @property
    def p_value(self) -> float:
        """How probable so uneven a split of the right answers is by chance (McNemar, exact)."""
        return mcnemar(*self.alone)

    @property
    def intervals(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Where the top-1 of each lies with 95 % confidence."""
        first, second = (wilson(correct, self.labelled) for correct in self.correct)
        return first, second

    def to_json(self) -> dict[str, object]:
        """Everything in plain values."""
        return {
            "same": self.same,
            "pictures": self.pictures,
            "max_dlogit": self.max_dlogit,
            "bound": self.bound,
            "norms": list(self.norms),
            "changed": [{"place": one.place, "classes": list(one.classes)} for one in self.changed],
            "labelled": self.labelled,
            "correct": list(self.correct),
            "top1": [correct / self.labelled if self.labelled else None for correct in self.correct],
            "top1_intervals": [list(interval) for interval in self.intervals],
            "alone_correct": list(self.alone),
            "mcnemar_p": self.p_value,
        }

    def raise_if_differ(self, title: Callable[[int], str] = str, why: Sequence[str] = ()) -> None:
        """OutsideBound V804 when a logit left the bound. title: what a picture at a place is called. why: the mistake
        that explains it, if one does, and then how well.
        """
        if self.same:
            return
        named = [f"{title(one.place)}: {one.classes[0]}, {one.classes[1]}" for one in self.changed[:NAMED]]
        first, *others = [*why, f"max |dlogit| {self.max_dlogit:.2e}, bound {self.bound:.2e}"]
        raise OutsideBound(
            "V804",
            f"the two models differ: {first}",
            evidence=[*others, f"{len(self.changed)} of {self.pictures} decisions changed", *named],
            hint="if they are meant to differ, give a --bound that says by how much",
        )


def compare(
    first: Model,
    second: Model,
    pictures: Sequence[CheckPicture],
    *,
    bound: float = BOUND,
    names: Names | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Ask both models of every picture, each prepared by that model's own policy; classes are matched by name.

    names: of both models' classes, where other words for them are to be matched. progress: called with pictures done
    and in all. UsageError V007 where they do not name the same classes, or for a bound below 0; DataError V405 where a
    model calls two classes by one name, V401 without a picture; NumbersBroke V811 for a logit that is NaN or Inf. What
    a picture's `read` raises passes through.
    """
    if not (math.isfinite(bound) and bound >= 0):
        raise UsageError("V007", f"the bound is {bound}", hint="give a finite number from 0")
    ours, theirs = names or (first.classes, second.classes)
    order = matched_classes(ours, theirs)
    if not pictures:
        raise DataError("V401", "no pictures to compare on", hint="give data that holds pictures")
    tally = _Tally(ours)
    for window in in_windows([(first, (BATCH,)), (second, (BATCH,))], pictures):
        (a,), (b,) = window.logits
        for which, rows in zip(SIDES, (a, b), strict=True):
            _check_finite(rows, which, tally.pictures)
        tally.add(a, b[:, order], [one.label for one in pictures[tally.pictures : tally.pictures + len(a)]])
        if progress is not None:
            progress(tally.pictures, len(pictures))
    return tally.done(bound)


def matched_classes(ours: tuple[str, ...], theirs: tuple[str, ...]) -> list[int]:
    """Where each class of the first model stands in the second."""
    if ours == theirs:
        return list(range(len(ours)))
    if sorted(ours) != sorted(theirs):
        pairs = zip(SIDES, ((ours, theirs), (theirs, ours)), strict=True)
        only = [f"only in the {which}: {name}" for which, (a, b) in pairs for name in sorted({*a} - {*b})[:5]]
        raise UsageError(
            "V007",
            f"the two models name other classes: {len(ours)} and {len(theirs)}",
            evidence=only,
            hint="compare models of the same classes; `vitrail show MODEL` has their names",
        )
    place = {name: index for index, name in enumerate(theirs)}
    if len(place) < len(theirs):
        raise DataError(
            "V405", "a model calls two of its classes by one name", hint="give it other names: train or convert again"
        )
    return [place[name] for name in ours]


def _check_finite(rows: Logits, which: str, before: int) -> None:
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(broken):
        raise NumbersBroke(
            "V811",
            f"logits of the {which} model are NaN or Inf, for picture {before + int(broken[0])}",
            hint="the weights are broken, or overflow in their number type: take an earlier checkpoint",
        )


class _Tally:
    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.pictures = self.labelled = 0
        self.worst = 0.0
        self.squares = np.zeros(2)
        self.correct, self.alone = np.zeros(2, np.int64), np.zeros(2, np.int64)
        self.changed: list[Changed] = []

    def add(self, a: Logits, b: Logits, labels: Sequence[int | None]) -> None:
        self.worst = max(self.worst, float(np.abs(a - b).max()))
        self.squares += [float(np.square(a).sum()), float(np.square(b).sum())]
        named = np.stack([a.argmax(axis=1), b.argmax(axis=1)])
        for row in np.flatnonzero(named[0] != named[1]).tolist():
            says = self.classes[named[0, row]], self.classes[named[1, row]]
            self.changed.append(Changed(self.pictures + row, says))
        known = np.array([label is not None for label in labels])
        true = np.array([-1 if label is None else label for label in labels])
        right = (named == true) & known
        self.labelled += int(known.sum())
        self.correct += right.sum(axis=1)
        self.alone += [int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())]
        self.pictures += len(labels)

    def done(self, bound: float) -> Comparison:
        first, second = np.sqrt(self.squares).tolist()
        return Comparison(
            pictures=self.pictures,
            max_dlogit=self.worst,
            norms=(first, second),
            changed=tuple(self.changed),
            labelled=self.labelled,
            correct=(int(self.correct[0]), int(self.correct[1])),
            alone=(int(self.alone[0]), int(self.alone[1])),
            bound=bound,
        )
