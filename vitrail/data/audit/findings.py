"""What an audit can find, and in which order it is told: what spoils answers first, then what only costs quality."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Weight = Literal["wrong", "warning", "advice"]

# kind -> (weight, heading of its section). The order is the one in which findings are told.
KINDS: dict[str, tuple[Weight, str]] = {
    "broken": ("wrong", "Pictures that cannot be read"),
    "leak": ("warning", "The same picture to train on and held out"),
    "near leak": ("warning", "Near copies to train on and held out"),
    "conflict": ("warning", "The same picture under different labels"),
    "near conflict": ("warning", "Near copies under different labels"),
    "class names": ("warning", "Class names that are easily taken for one another"),
    "mislabelled": ("warning", "Likely mislabelled"),
    "blank": ("warning", "Pictures of one colour"),
    "missing class": ("warning", "Classes without pictures in one part"),
    "duplicate": ("advice", "The same picture more than once"),
    "near duplicate": ("advice", "Near copies"),
    "tiny class": ("advice", "Classes with few pictures to train on"),
    "imbalance": ("advice", "Classes of very different sizes"),
    "cut": ("advice", "Pictures that the centre crop cuts apart"),
    "distorted": ("advice", "Pictures that squashing distorts"),
    "enlarged": ("advice", "Pictures smaller than the network sees"),
    "class order": ("advice", "Class order"),
    "file names": ("advice", "File names that are easily taken for one another"),
}


@dataclass(frozen=True)
class Row:
    """One case of a finding: the pictures it is about (indices into the source), or a class, and what is said of it."""

    pictures: tuple[int, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """Everything of one kind. what: one line with the count; hint: what to do."""

    kind: str
    what: str
    hint: str
    rows: tuple[Row, ...] = field(default=())

    @property
    def weight(self) -> Weight:
        """How much it matters: `wrong` is what makes the exit code 2."""
        return KINDS[self.kind][0]

    @property
    def drawn(self) -> bool:
        """Whether its pictures can be shown."""
        return self.kind != "broken" and any(row.pictures for row in self.rows)

    @property
    def heading(self) -> str:
        """The title of its section."""
        return KINDS[self.kind][1]
