"""What a dialect is: a table of rules, each a tensor of ours and what it is called there. `translate.py` reads it.

In a name `{i}` stands for a number, the same on both sides: `blocks.{i}.norm.weight`. On their side `{i+1}` counts
from 1, `{_i}` is nothing for the first and `_1`, `_2`, ... after it, `{*}` in a drop rule is any text. Where only our
side has `{i}`, their tensor holds all layers along its first axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from vitrail.models.configs import ModelConfig
from vitrail.weights.patterns import letters
from vitrail.weights.reshapes import Array, Reshape, same

Rename = Callable[[Sequence[str]], Mapping[str, str]]


@dataclass(frozen=True)
class Rule:
    """One tensor of ours and what it is called there; several of theirs are joined by the reshape.

    optional: networks of the family exist that lack it.
    """

    ours: str
    theirs: str | tuple[str, ...]
    reshape: Reshape = same
    optional: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """Their names, one or more."""
        return (self.theirs,) if isinstance(self.theirs, str) else self.theirs

    @property
    def stacked(self) -> bool:
        """Whether their tensor holds all layers along its first axis."""
        return bool(letters(self.ours)) and not letters(self.parts[0])


@dataclass(frozen=True)
class Drop:
    """A tensor of theirs that no network of ours needs, and why."""

    theirs: str
    why: str


@dataclass(frozen=True)
class Made:
    """A tensor of theirs that the config alone determines: written anew, and held against it when read.

    beside: the tensor of ours that it comes with.
    """

    theirs: str
    value: Callable[[ModelConfig], Array]
    beside: str


@dataclass(frozen=True, eq=False)
class Dialect:
    """One world's names and layouts for the weights of a family.

    form: which generation of names, where a world has several. prefixes: texts that may stand before every name, as
    training code leaves them. numerics: config fields that the world's code fixes. containers: suffixes of the files
    that this form is written to; none for any. rename: for a form that is only read, each of their names in terms of
    the rules.
    """

    name: str
    family: str
    rules: tuple[Rule, ...]
    drop: tuple[Drop, ...] = ()
    made: tuple[Made, ...] = ()
    form: str = ""
    prefixes: tuple[str, ...] = ()
    numerics: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    containers: tuple[str, ...] = ()
    rename: Rename | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.form})" if self.form else self.name
