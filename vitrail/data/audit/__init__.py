"""What is wrong with a source of pictures, before training shows it: broken, leaked, doubled, mislabelled, misshapen.

`audit` takes looks at all pictures (`data/scan.py`) and gives findings in the order of `findings.KINDS`, each with all
its cases, and facts: shares that are neither good nor bad. Nothing depends on worker count, time or the order of files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.audit.classes import classes, names
from vitrail.data.audit.copies import copies
from vitrail.data.audit.facts import facts
from vitrail.data.audit.findings import KINDS, Finding, Row
from vitrail.data.audit.single import blank, broken, mislabelled, shapes
from vitrail.data.looks import Look
from vitrail.data.sources import Source
from vitrail.pictures.policy import Policy

__all__ = ["Audit", "Finding", "Row", "audit"]


@dataclass(frozen=True, eq=False)
class Audit:
    """findings: ordered by what matters most. facts: (name, value) of all pictures. looks: one a picture."""

    source: Source
    policy: Policy
    looks: tuple[Look, ...]
    findings: tuple[Finding, ...]
    facts: tuple[tuple[str, str], ...]

    def of(self, kind: str) -> Finding | None:
        """The finding of that kind, if there is one."""
        return next((one for one in self.findings if one.kind == kind), None)

    def to_json(self) -> dict[str, Any]:
        """Every finding with all its cases, in plain values; pictures by name."""
        title = self.source.title
        return {
            "data": self.source.place,
            "notes": list(self.source.notes),
            "pictures": len(self.looks),
            "policy": self.policy.to_json(),
            "facts": dict(self.facts),
            "findings": [
                {
                    "kind": one.kind,
                    "weight": one.weight,
                    "what": one.what,
                    "hint": one.hint,
                    "cases": [{"pictures": [title(i) for i in row.pictures], "note": row.note} for row in one.rows],
                }
                for one in self.findings
            ],
        }


def audit(
    source: Source, looks: Sequence[Look], policy: Policy, *, probabilities: NDArray[np.floating] | None = None
) -> Audit:
    """Everything that can be said of a source. policy: against which sizes are held.

    probabilities: (N, K) of a model in the source's class order, NaN rows where it was not asked; see `mislabelled`.
    """
    found = [*broken(source, looks), *copies(source, looks), *classes(source), *names(source)]
    found += [*blank(looks), *shapes(looks, policy)]
    if probabilities is not None:
        found += mislabelled(source, probabilities)
    order = list(KINDS)
    findings = tuple(sorted((one for one in found if one.rows), key=lambda one: order.index(one.kind)))
    return Audit(source, policy, tuple(looks), findings, tuple(facts(source, looks, policy)))
