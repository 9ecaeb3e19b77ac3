"""A dialect is a table of rules; one engine reads it in both directions and uses every tensor exactly once.

`{i}` in a name stands for a number, the same on both sides: `blocks.{i}.norm.weight`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vitrail.errors import WeightsError
from vitrail.formats.stored import Stored, Tensors
from vitrail.weights.reshapes import Array, Reshape, same


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


@dataclass(frozen=True)
class Drop:
    """A tensor of theirs that no network of ours needs, and why."""

    theirs: str
    why: str


@dataclass(frozen=True)
class Dialect:
    """One world's names and layouts for the weights of a family."""

    name: str
    family: str
    rules: tuple[Rule, ...]
    drop: tuple[Drop, ...] = ()


@dataclass(frozen=True)
class Translation:
    """What one direction gave: the tensors, the names nobody explains, and everything else that is wrong."""

    tensors: Tensors
    unexplained: tuple[str, ...]
    problems: tuple[str, ...]
    dropped: tuple[str, ...] = ()


def to_native(dialect: Dialect, tensors: Tensors) -> Tensors:
    """The tensors under our names and in our layouts.

    WeightsError V205 when a tensor is explained by no rule, V204 when one is missing or cannot be reshaped.
    """
    return _whole(dialect, read(dialect, tensors), "to our names")


def from_native(dialect: Dialect, tensors: Tensors) -> Tensors:
    """Our tensors under their names and in their layouts; errors as `to_native`."""
    return _whole(dialect, write(dialect, tensors), "from our names")


def read(dialect: Dialect, tensors: Tensors) -> Translation:
    """As `to_native`, but problems are listed and nothing is raised."""
    theirs = {(rule, part): name for rule in dialect.rules for part, name in enumerate(rule.parts)}
    found = _place(theirs, tensors)
    out: Tensors = {}
    problems = _absent(dialect, found.filled)
    for (rule, index), parts in found.filled.items():
        names = [_fill(part, index) for part in rule.parts]
        if len(parts) < len(names):
            problems += [f"{name} is missing" for part, name in enumerate(names) if part not in parts]
            continue
        stored = [tensors[name] for name in names]
        try:
            out[_fill(rule.ours, index)] = _read(rule.reshape, stored)
        except ValueError as error:
            shapes = ", ".join(f"{name} {tensor.shape}" for name, tensor in zip(names, stored, strict=True))
            problems.append(f"{shapes}: {rule.reshape.name} does not fit: {error}")
    dropped, left = _dropped(dialect, found.left)
    return Translation(out, left, tuple(problems), dropped)


def write(dialect: Dialect, tensors: Tensors) -> Translation:
    """As `from_native`, but problems are listed and nothing is raised."""
    found = _place({(rule, 0): rule.ours for rule in dialect.rules}, tensors)
    out: Tensors = {}
    problems = _absent(dialect, found.filled, ours=True)
    for rule, index in found.filled:
        name = _fill(rule.ours, index)
        names = [_fill(part, index) for part in rule.parts]
        try:
            out |= zip(names, _write(rule.reshape, tensors[name], len(names)), strict=True)
        except ValueError as error:
            problems.append(f"{name} {tensors[name].shape}: {rule.reshape.name} does not fit: {error}")
    return Translation(out, tuple(found.left), tuple(problems))


def _read(reshape: Reshape, theirs: list[Stored]) -> Stored:
    if reshape is same:
        return theirs[0]
    dtypes = {tensor.dtype for tensor in theirs}
    if len(dtypes) != 1:
        raise ValueError(f"types {' and '.join(sorted(dtypes))} differ")
    return _like(theirs[0], reshape.read([tensor.array() for tensor in theirs]))


def _write(reshape: Reshape, ours: Stored, count: int) -> list[Stored]:
    if reshape is same:
        return [ours]
    return [_like(ours, array) for array in reshape.write(ours.array(), count)]


def _like(stored: Stored, array: Array) -> Stored:
    return Stored.of(array, "BF16" if stored.dtype == "BF16" else None)


Index = tuple[tuple[str, int], ...]  # (("i", 3),)
Filled = dict[tuple[Rule, Index], set[int]]  # which parts of a rule are there


@dataclass(frozen=True)
class _Placed:
    filled: Filled
    left: list[str]


def _place(patterns: Mapping[tuple[Rule, int], str], names: Iterable[str]) -> _Placed:
    """Give every name to the one rule that explains it."""
    compiled = [(rule, part, _compile(pattern)) for (rule, part), pattern in patterns.items()]
    filled: Filled = {}
    left = []
    for name in names:
        hits = [(rule, part, match) for rule, part, regex in compiled if (match := regex.fullmatch(name))]
        assert len(hits) <= 1, f"{name} is explained by {len(hits)} rules"
        if not hits:
            left.append(name)
            continue
        rule, part, match = hits[0]
        index = tuple((letter, int(number)) for letter, number in match.groupdict().items())
        filled.setdefault((rule, index), set()).add(part)
    return _Placed(filled, left)


def _absent(dialect: Dialect, filled: Filled, *, ours: bool = False) -> list[str]:
    """What must be there and is not: plain rules, and for `{i}` rules every index that any of them has."""
    seen: dict[tuple[str, ...], set[Index]] = {(): {()}}
    for _, index in filled:
        seen.setdefault(tuple(letter for letter, _ in index), set()).add(index)
    missing = []
    for rule in dialect.rules:
        indices = seen.get(tuple(_LETTER.findall(rule.ours)), set())
        for index in sorted(indices) if not rule.optional else ():
            if (rule, index) not in filled:
                missing += [f"{_fill(name, index)} is missing" for name in ([rule.ours] if ours else rule.parts)]
    for letters, indices in seen.items():
        numbers = sorted(index[0][1] for index in indices if len(index) == 1)
        gap = next((i for i, number in enumerate(numbers) if i != number), None)
        if gap is not None:
            missing.append(f"the numbers of {{{letters[0]}}} go up to {numbers[-1]}, but {gap} is missing")
    return missing


def _dropped(dialect: Dialect, left: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    lines, unexplained = [], []
    compiled = [(drop, _compile(drop.theirs)) for drop in dialect.drop]
    for name in left:
        why = next((drop.why for drop, regex in compiled if regex.fullmatch(name)), None)
        if why is None:
            unexplained.append(name)
        else:
            lines.append(f"{name} dropped: {why}")
    return tuple(lines), tuple(unexplained)


_LETTER = re.compile(r"\{([a-z]+)\}")


def _compile(pattern: str) -> re.Pattern[str]:
    pieces = _LETTER.split(pattern)  # text, letter, text, letter, ..., text
    regex = "".join(
        f"(?P<{piece}>0|[1-9][0-9]{{0,5}})" if odd else re.escape(piece)
        for odd, piece in ((n % 2, piece) for n, piece in enumerate(pieces))
    )
    return re.compile(regex)


def _fill(pattern: str, index: Index) -> str:
    return pattern.format(**dict(index))


def _whole(dialect: Dialect, result: Translation, way: str) -> Tensors:
    if result.unexplained:
        raise WeightsError(
            "V205",
            f"{len(result.unexplained)} tensors are explained by no rule of dialect `{dialect.name}` {way}",
            evidence=_some([*result.unexplained, *result.problems]),
            hint="name another dialect, or convert the file with the tool that wrote it",
        )
    if result.problems:
        raise WeightsError(
            "V204",
            f"the tensors do not make a whole network of dialect `{dialect.name}` {way}",
            evidence=_some(result.problems),
            hint="the file is incomplete, or of another variant or dialect",
        )
    return result.tensors


def _some(lines: Iterable[str], limit: int = 20) -> list[str]:
    shown = list(lines)
    return shown if len(shown) <= limit else [*shown[:limit], f"... and {len(shown) - limit} more"]
