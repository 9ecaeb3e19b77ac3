"""What is due after a step, and what ends a run before its schedule does: plain values, without torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Unit = Literal["epochs", "steps"]
EndedBy = Literal["schedule", "patience", "time"]

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_TIME = re.compile("".join(rf"(?:(\d+(?:\.\d+)?){unit})?" for unit in _UNITS))


def due(step: int, every: int, unit: Unit, steps_per_epoch: int, *, first: int = 0) -> bool:
    """Whether what is done every so many epochs or steps, from the `first` one on, is to be done after this step.

    >>> [step for step in range(25) if due(step, 2, "epochs", 3, first=4)]
    [12, 18, 24]
    """
    length = steps_per_epoch if unit == "epochs" else 1
    return every > 0 and step > 0 and step % (every * length) == 0 and step >= first * length


def times(steps: int, every: int, unit: Unit, steps_per_epoch: int, *, first: int = 0) -> int:
    """How often that comes in a run of so many steps; after the last one always.

    >>> times(25, 2, "epochs", 3, first=4), times(24, 2, "epochs", 3, first=4), times(24, 0, "epochs", 3)
    (4, 3, 1)
    """
    if every == 0:
        return 1
    length = steps_per_epoch if unit == "epochs" else 1
    left_out = max(0, -(-first * length // (every * length)) - 1)  # before the first one
    found = max(0, steps // (every * length) - left_out)
    return found if found and steps % (every * length) == 0 else found + 1


@dataclass(frozen=True)
class Best:
    """What early stopping knows: the greatest top1 of all evaluations, and how many came since with none greater."""

    top1: float
    since: int = 0


def better(best: Best | None, top1: float) -> Best:
    """After one more evaluation.

    >>> better(better(better(None, 0.5), 0.5), 0.4)
    Best(top1=0.5, since=2)
    """
    return Best(top1) if best is None or top1 > best.top1 else Best(best.top1, best.since + 1)


def given_up(patience: int | None, best: Best | None) -> bool:
    """Whether so many evaluations in a row brought nothing better that the run ends."""
    return patience is not None and best is not None and best.since >= patience


def seconds(text: str) -> float:
    """The length of a time such as `90s`, `30m`, `1h30m` or `2d`; ValueError for any other text.

    >>> seconds("30m"), seconds("1h30m"), seconds("1.5h")
    (1800.0, 5400.0, 5400.0)
    """
    found = _TIME.fullmatch(text)
    if found is None or not any(found.groups()):
        raise ValueError("must be a time such as 90s, 30m, 1h30m or 2d")
    length = sum(float(part) * unit for part, unit in zip(found.groups(), _UNITS.values(), strict=True) if part)
    if length <= 0:
        raise ValueError("must be longer than nothing")
    return length
