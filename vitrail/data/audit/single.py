"""What is wrong with single pictures: unreadable, of one colour, of a shape that the policy harms, mislabelled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vitrail.data.audit.findings import Finding, Row
from vitrail.data.audit.mislabelled import doubted
from vitrail.data.audit.shapes import fit
from vitrail.data.looks import Look
from vitrail.data.sources import Source
from vitrail.errors import count
from vitrail.pictures.policy import Policy

HALF = 0.5  # part of a picture that the centre crop should leave
DISTORTED = 2.0  # one side stretched against the other
CROP = "policy.mode=crop keeps the proportions"
FEW = "a network of fewer pixels may do as well, and faster"


def broken(source: Source, looks: Sequence[Look]) -> Iterator[Finding]:
    bad = [(i, one.error(source.title(i))) for i, one in enumerate(looks) if not one.good]
    rows = tuple(Row((i,), f"{error.code} {error.what}") for i, error in bad)
    yield Finding(
        "broken",
        f"{count(len(rows), 'picture')} of {len(looks):,} cannot be read",
        "repair or remove them, or train with data.on_bad=skip",
        rows,
    )


def blank(looks: Sequence[Look]) -> Iterator[Finding]:
    rows = tuple(Row((i,), f"{one.width} x {one.height} pixels") for i, one in enumerate(looks) if one.blank)
    yield Finding(
        "blank", f"{count(len(rows), 'picture')} of one colour", "remove them: there is nothing to learn", rows
    )


def shapes(looks: Sequence[Look], policy: Policy) -> Iterator[Finding]:
    """Pictures that the policy cuts apart, distorts or enlarges, the worst first."""
    good = [i for i, one in enumerate(looks) if one.good]
    fits = fit(*sizes(looks), policy)
    tall, wide = policy.size
    for kind, harm, limit, does, unit, hint in (
        ("cut", 1 - fits.kept, HALF, "cut to less than half by the centre crop", "lost", "policy.mode=squash sees all"),
        ("distorted", fits.stretch, DISTORTED, f"squashed {DISTORTED:g} times or more", "squashed", CROP),
        (
            "enlarged",
            fits.enlarged,
            1.0,
            f"smaller than the {wide} x {tall} that the network sees",
            "enlarged",
            FEW,
        ),
    ):
        which = np.flatnonzero(harm > limit)
        rows = []
        for place in which[np.argsort(-harm[which], kind="stable")].tolist():
            said = f"{100 * harm[place]:.0f} %" if kind == "cut" else f"{harm[place]:.1f} times"
            seen = looks[good[place]]
            rows.append(Row((good[place],), f"{seen.width} x {seen.height}, {unit} {said}"))
        yield Finding(kind, f"{count(len(rows), 'picture')} of {len(good):,} {does}", hint, tuple(rows))


def sizes(looks: Sequence[Look]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    good = [one for one in looks if one.good]
    return np.array([one.width for one in good], float), np.array([one.height for one in good], float)


def mislabelled(source: Source, probabilities: NDArray[np.floating]) -> Iterator[Finding]:
    which, likely, _ = doubted(source.labels, probabilities)
    rows = tuple(
        Row(
            (int(i),),
            f"{source.classes[source.labels[i]]} ({100 * probabilities[i, source.labels[i]]:.0f} %), "
            f"likely {source.classes[j]} ({100 * probabilities[i, j]:.0f} %)",
        )
        for i, j in zip(which.tolist(), likely.tolist(), strict=True)
    )
    yield Finding(
        "mislabelled",
        f"{count(len(rows), 'picture')} of {len(source.labels):,} likely mislabelled, the surest first",
        "look at them; the model may be wrong instead",
        rows,
    )
