"""Why an export answers otherwise than its source: the single mistake that explains it, if one does.

Each known mistake is made in the source, and what it then answers is held against the export's answers. One that
explains them leaves no gap beyond the gate. Nothing is said where none does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import PictureError, VitrailError
from vitrail.evaluation.answers import CheckPicture, Logits
from vitrail.pictures.predict import Model, probabilities
from vitrail.proof.decoding_faults import of_decoding
from vitrail.proof.faults import Fault, declared, of_pixels, prepared
from vitrail.proof.fitted import of_statistics
from vitrail.proof.network_faults import FEW, Network, of_numerics, of_tensors

LOG = logging.getLogger("vitrail")

if TYPE_CHECKING:
    from vitrail.models.classifier import Classifier

FIRST = 2  # pictures on which every mistake is tried, those of the greatest gaps
HELD = 48  # pictures on which those that are left are: half of them those of the greatest gaps
BETTER = 0.5  # what a mistake must leave of the gaps at most, and how near to the best another one must come
TRIED = 8  # mistakes that are tried on all of these
NAMED = 3


@dataclass(frozen=True)
class Cause:
    """A mistake that explains the answers. before, after: the greatest gap of a logit without it and with it made in
    the source as well, over so many pictures.
    """

    kind: str
    words: str
    before: float
    after: float
    pictures: int


@dataclass(frozen=True, eq=False)
class Measured:
    """What was asked and answered: logits (N, K) of the source in float64, and of the candidate, one a batch size.

    gate: the greatest gap that is none. epsilons: of norms, as far as the candidate's graph tells them.
    """

    source: Classifier
    candidate: Model
    pictures: Sequence[CheckPicture]
    expected: Logits
    found: Sequence[Logits]
    gate: float
    epsilons: tuple[float, ...] = ()


def as_if(causes: Sequence[Cause], who: str = "the export") -> str:
    """The causes in one line."""
    words = [cause.words for cause in causes[:NAMED]]
    more = f", or {len(causes) - NAMED} like them" if len(causes) > NAMED else ""
    return f"{who} answers as if {' or '.join(words)}{more}"


def evidence(causes: Sequence[Cause]) -> list[str]:
    """How well each cause explains the gaps, a line each."""
    return [
        f"if {cause.words}: max |dlogit| {cause.after:.1e} over {cause.pictures} pictures, {cause.before:.1e} if not"
        for cause in causes[:NAMED]
    ]


def explained(measured: Measured, who: str = "the export") -> list[str]:
    """The causes in one line, and how well each explains the gaps, in lines of their own; none where none is found.

    What goes wrong in the search is a warning: it must not stand in the place of what the search was for.
    """
    try:
        causes = diagnose(measured)
    except (VitrailError, np.linalg.LinAlgError, MemoryError) as error:
        LOG.warning("the cause could not be searched for: %s", error)
        return []
    return [as_if(causes, who), *evidence(causes)] if causes else []


def diagnose(measured: Measured) -> tuple[Cause, ...]:
    """The mistakes that explain what was measured, the best first: several where these pictures do not tell them
    apart, none where no single known one explains it, or where there is nothing to explain.
    """
    found = _by_name(measured)
    if found is None:
        return ()
    mean = np.mean(found, axis=0)
    if max(float(np.abs(rows - mean).max()) for rows in found) > measured.gate:
        return ()  # other answers at another batch size: no way of the source does that
    gaps = np.abs(mean - measured.expected).max(axis=1)
    if float(gaps.max()) <= measured.gate:
        return ()
    if (cause := _of_answers(measured, mean, float(gaps.max()))) is not None:
        return (cause,)
    search = _Search(measured, mean, gaps)
    ours, theirs = measured.source.policy, measured.candidate.policy
    return (
        search.explaining(declared(ours, theirs))
        or search.explaining([
            *of_decoding(ours), *of_pixels(ours), *of_numerics(search.network.module, measured.epsilons),
        ])
        or search.explaining(search.fitted())
    )  # fmt: skip


def _by_name(measured: Measured) -> list[Logits] | None:
    """The candidate's answers in the order of the source's classes; None where they cannot be held against them."""
    shape = measured.expected.shape
    if not measured.found or any(rows.shape != shape or not np.isfinite(rows).all() for rows in measured.found):
        return None
    ours, theirs = measured.source.classes, measured.candidate.classes
    if ours == theirs or sorted(ours) != sorted(theirs) or len({*ours}) < len(ours):
        return list(measured.found)
    place = {name: index for index, name in enumerate(theirs)}
    return [rows[:, [place[name] for name in ours]] for rows in measured.found]


def _of_answers(measured: Measured, mean: Logits, before: float) -> Cause | None:
    """What is done to the right logits afterwards."""
    expected, count = measured.expected, len(mean)
    after = float(np.abs(mean - probabilities(expected.astype(np.float32))).max())
    if after <= measured.gate:
        return Cause("softmax", "softmax were in the graph: it gives probabilities, not logits", before, after, count)
    order = _nearest(mean, expected)  # of each class of the export: the source's class that answers so
    after = float(np.abs(mean - expected[:, order]).max())
    if after > measured.gate or len({*order.tolist()}) < len(order):
        return None
    moved = np.flatnonzero(order != np.arange(len(order)))
    names, first = measured.source.classes, int(moved[0])
    words = f"{len(moved)} classes were permuted: `{names[first]}` is answered where `{names[order[first]]}` is meant"
    return Cause("classes", words, before, after, count)


def _nearest(found: Logits, expected: Logits) -> NDArray[np.int64]:
    """Of each class: the one that is expected to answer so, over all pictures; some classes at a time."""
    sizes = (expected**2).sum(axis=0)
    parts = (found[:, start : start + 1024] for start in range(0, found.shape[1], 1024))
    return np.concatenate([(sizes - 2 * part.T @ expected).argmin(axis=1) for part in parts])


class _Search:
    """Mistakes made in the source, on a few pictures and then on more."""

    def __init__(self, measured: Measured, found: Logits, gaps: NDArray[np.float64]) -> None:
        self.measured, self.found, self.gaps = measured, found, gaps
        self.network = Network(measured.source)
        order = np.argsort(-gaps, kind="stable")
        half = order[: HELD // 2]
        rest = np.setdiff1d(np.arange(len(gaps)), half)
        even = rest[np.linspace(0, len(rest) - 1, min(HELD - len(half), len(rest))).astype(np.int64)]
        self.rows = np.concatenate([half, even])
        self.plain = self._images(None, self.rows)

    def explaining(self, faults: Iterable[Fault]) -> tuple[Cause, ...]:
        """Those that leave no gap, the best first, and none that is clearly worse than the best."""
        tried = [(self._left(fault), fault) for fault in faults]
        hopeful = [fault for left, fault in sorted(tried, key=lambda pair: pair[0]) if left <= BETTER]
        held = [(share, cause) for fault in hopeful[:TRIED] for share, cause in self._held(fault)]
        held.sort(key=lambda pair: pair[0])
        causes = [cause for share, cause in held if share <= held[0][0] / BETTER]
        best: dict[str, Cause] = {}
        for cause in causes:
            best.setdefault(cause.words, cause)
        return tuple(best.values())

    def fitted(self) -> list[Fault]:
        """Mistakes with numbers that are found from the answers: the scale of a tensor, any mean and std."""
        few, images = self.rows[:FEW], self.plain[:FEW]
        gaps = self.found[few] - self.network.ask(images)
        policy = self.measured.source.policy
        return [*of_tensors(self.network, images, gaps), *of_statistics(self.network, policy, images, gaps)]

    def _left(self, fault: Fault) -> float:
        """What the mistake leaves of the gaps of the first pictures, as a share."""
        rows = self.rows[:FIRST]
        try:
            images = self.plain[:FIRST] if fault.prepare is None else self._images(fault, rows)
        except PictureError:  # a picture that cannot be prepared so: it was not
            return np.inf
        left = _size(self.network.ask(images, fault, exact=False) - self.found[rows])
        share = left / _size(self.measured.expected[rows] - self.found[rows])
        return share if np.isfinite(share) else np.inf

    def _held(self, fault: Fault) -> list[tuple[float, Cause]]:
        """The cause that the mistake is, with what it leaves of the gaps, if it leaves no gap beyond the gate."""
        try:
            images = self.plain if fault.prepare is None else self._images(fault, self.rows)
        except PictureError:
            return []
        exact, found, expected = (
            self.network.ask(images, fault),
            self.found[self.rows],
            self.measured.expected[self.rows],
        )
        after, before = np.abs(exact - found), np.abs(expected - found)
        share = _size(after) / _size(before)
        if not (after.max() <= self.measured.gate and share <= BETTER):
            return []
        return [(share, Cause(fault.kind, fault.words, float(before.max()), float(after.max()), len(self.rows)))]

    def _images(self, fault: Fault | None, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        prepare = fault.prepare if fault is not None else None
        take = prepare or prepared(self.measured.source.policy)
        return np.stack([take(self.measured.pictures[row].read()) for row in rows.tolist()])


def _size(gaps: Logits) -> float:
    return float(np.sqrt(np.square(gaps).mean()))
