"""A dialect read in both directions by one engine, which uses every tensor exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from vitrail.errors import WeightsError
from vitrail.formats.stored import Stored, Tensors
from vitrail.models.configs import ModelConfig
from vitrail.weights.patterns import Index, compiled, fill, letters, numbers
from vitrail.weights.reshapes import Array, Reshape, same, stack_head_biases, stack_heads
from vitrail.weights.rules import Dialect, Made, Rule


@dataclass(frozen=True)
class Translation:
    """What one direction gave: the tensors, the names nobody explains, and everything else that is wrong.

    dropped: a line for each reason. made: their names that the config determines, with the rule for each. heads: how
    many attention has, where their layout shows it.
    """

    tensors: Tensors
    unexplained: tuple[str, ...]
    problems: tuple[str, ...]
    dropped: tuple[str, ...] = ()
    made: Mapping[str, Made] = field(default_factory=dict)
    heads: int | None = None

    @property
    def whole(self) -> bool:
        """Whether every tensor was explained and nothing is missing."""
        return not (self.unexplained or self.problems)


def to_native(dialect: Dialect, tensors: Tensors) -> Tensors:
    """The tensors under our names and in our layouts.

    WeightsError V205 when a tensor is explained by no rule, V204 when one is missing or cannot be reshaped.
    """
    return whole(dialect, read(dialect, tensors), "to our names")


def from_native(dialect: Dialect, tensors: Tensors, config: ModelConfig) -> Tensors:
    """Our tensors under their names and in their layouts, in the order of the table; errors as `to_native`."""
    return whole(dialect, write(dialect, tensors, config), "from our names")


def read(dialect: Dialect, tensors: Tensors, *, values: bool = True) -> Translation:
    """As `to_native`, but problems are listed and nothing is raised. values: False looks at the names alone."""
    named = _named(dialect, tensors)
    found = _place(dialect, named.raw)
    problems: list[str] = []
    out: Tensors = {}
    indices = _indices(found.filled)
    for (rule, index), parts in found.filled.items():
        names = [fill(part, index) for part in rule.parts]
        if absent := [name for part, name in enumerate(names) if part not in parts]:
            problems += [f"{name} is missing" for name in absent]
            continue
        if not values:
            continue
        stored = [tensors[named.raw[name]] for name in names]
        try:
            if rule.stacked:
                layers = _layers(stored)
                indices.setdefault(letters(rule.ours), set()).update(layers)
                out |= {fill(rule.ours, i): _read(rule.reshape, one) for i, one in layers.items()}
            else:
                out[fill(rule.ours, index)] = _read(rule.reshape, stored)
        except ValueError as error:
            shapes = ", ".join(f"{name} {tensor.shape}" for name, tensor in zip(names, stored, strict=True))
            problems.append(f"{shapes}: {rule.reshape.name} does not fit: {error}")
    heads = _heads(found.filled, {name: tensors[old] for name, old in named.raw.items()})
    if len(heads) > 1:
        problems.append(f"the layout shows {' and '.join(map(str, sorted(heads)))} heads: a tensor lies turned round")
    problems = _absent(dialect, found.filled, indices) + problems
    made, left = _made(dialect, found.left)
    dropped, left = _dropped(dialect, left)
    lines = [*named.lines, *_grouped({**named.dropped, **dropped})]
    return Translation(
        tensors=out,
        unexplained=tuple(named.raw[name] for name in left),
        problems=tuple(problems),
        dropped=tuple(lines),
        made={named.raw[name]: rule for name, rule in made},
        heads=min(heads, default=None),
    )


def write(dialect: Dialect, tensors: Tensors, config: ModelConfig) -> Translation:
    """As `from_native`, but problems are listed and nothing is raised."""
    assert dialect.rename is None, f"{dialect} is only read"
    filled: Filled = {}
    left = []
    for name in tensors:
        rule, index = _explained(dialect, name)
        if rule is None:
            left.append(name)
        else:
            filled[rule, index] = {0}
    indices = _indices(filled)
    problems = _absent(dialect, filled, indices, ours=True)
    out: Tensors = {}
    for rule, index in _in_order(dialect.rules, filled):
        name = fill(rule.ours, index)
        try:
            if not rule.stacked:
                out |= _written(rule, tensors[name], index, config.heads)
            elif not any(position for _, position in index):  # the first layer stands for all
                layers = sorted(i for other, i in filled if other is rule)
                parts = [_written(rule, tensors[fill(rule.ours, i)], i, config.heads) for i in layers]
                out |= {their: _stacked([part[their] for part in parts]) for their in parts[0]}
        except ValueError as error:
            problems.append(f"{name} {tensors[name].shape}: {rule.reshape.name} does not fit: {error}")
    for made in dialect.made:
        for index in sorted(indices.get(letters(made.theirs), set())):
            if fill(made.beside, index) in tensors:
                out[fill(made.theirs, index)] = Stored.of(made.value(config))
    return Translation(out, tuple(left), tuple(problems))


def check_made(translation: Translation, tensors: Tensors, config: ModelConfig) -> None:
    """WeightsError V204 unless what the config determines is in the file as it must be."""
    for name, made in translation.made.items():
        wanted = made.value(config)
        if tensors[name].shape != wanted.shape or not np.array_equal(tensors[name].array(), wanted):
            raise WeightsError(
                "V204",
                f"`{name}` is not what the config makes it",
                evidence=[f"file {tensors[name].shape}", f"config {wanted.shape}"],
                hint="the file is of another variant or image size, or it was changed by hand",
            )


Filled = dict[tuple[Rule, Index], set[int]]  # which parts of a rule are there


def _read(reshape: Reshape, theirs: list[Stored]) -> Stored:
    if reshape is same:
        return theirs[0]
    dtypes = {tensor.dtype for tensor in theirs}
    if len(dtypes) != 1:
        raise ValueError(f"types {' and '.join(sorted(dtypes))} differ")
    return _like(theirs[0], reshape.read([tensor.array() for tensor in theirs]))


def _written(rule: Rule, ours: Stored, index: Index, heads: int) -> Tensors:
    names = [fill(part, index) for part in rule.parts]
    if rule.reshape is same:
        return {names[0]: ours}
    arrays = rule.reshape.write(ours.array(), len(names), heads)
    return {name: _like(ours, array) for name, array in zip(names, arrays, strict=True)}


def _heads(filled: Filled, tensors: Tensors) -> set[int]:
    """How many heads there are, by the axis that counts them in every tensor that has one."""
    return {
        tensors[fill(part, index)].shape[-2]
        for rule, index in filled
        if rule.reshape in (stack_heads, stack_head_biases)
        for part in rule.parts
        if fill(part, index) in tensors and len(tensors[fill(part, index)].shape) > 1
    }


def _layers(theirs: list[Stored]) -> dict[Index, list[Stored]]:
    """Each layer's share of tensors that hold all of them."""
    counts = {tensor.shape[0] if tensor.shape else 0 for tensor in theirs}
    if len(counts) != 1 or not 0 < min(counts) <= 1024:
        raise ValueError("the first axis does not count layers")
    count = counts.pop()
    cut: dict[Index, list[Stored]] = {}
    for i in range(count):
        sizes = [(tensor, tensor.nbytes // count) for tensor in theirs]
        cut[(("i", i),)] = [
            Stored(tensor.dtype, tensor.shape[1:], memoryview(tensor.data)[i * size : (i + 1) * size])
            for tensor, size in sizes
        ]
    return cut


def _stacked(layers: list[Stored]) -> Stored:
    return Stored(layers[0].dtype, (len(layers), *layers[0].shape), b"".join(layer.data for layer in layers))


def _like(stored: Stored, array: Array) -> Stored:
    return Stored.of(array, "BF16" if stored.dtype == "BF16" else None)


@dataclass(frozen=True)
class _Names:
    """raw: a name in terms of the rules -> the file's. lines: what was done to all. dropped: name -> why."""

    raw: dict[str, str]
    lines: list[str]
    dropped: dict[str, str]


def _named(dialect: Dialect, names: Iterable[str]) -> _Names:
    """The file's names without a whole prefix and without what is dropped as it stands."""
    renamed = {name: name for name in names}
    if dialect.rename:
        meant = dialect.rename(list(renamed))
        counts = Counter(meant.values())  # names that would mean one thing stay as they are: nobody explains them
        renamed = {meant[name] if counts[meant[name]] == 1 else name: name for name in renamed}
    dropped, left = _dropped(dialect, list(renamed))
    lines: list[str] = []
    raw = {name: renamed[name] for name in left}
    for prefix in dialect.prefixes:
        if raw and all(name.startswith(prefix) and name != prefix for name in raw):
            lines.append(f"`{prefix}` taken off {len(raw)} names")
            raw = {name.removeprefix(prefix): old for name, old in raw.items()}
    return _Names(raw, lines, dropped)


@dataclass(frozen=True)
class _Placed:
    filled: Filled
    left: list[str]


def _place(dialect: Dialect, names: Iterable[str]) -> _Placed:
    """Give every name to the one rule that explains it."""
    known = [(rule, part, compiled(text)) for rule in dialect.rules for part, text in enumerate(rule.parts)]
    filled: Filled = {}
    left = []
    for name in names:
        hits = [(rule, part, match) for rule, part, regex in known if (match := regex.fullmatch(name))]
        if len(hits) > 1:
            two = " and ".join(f"`{rule.parts[part]}`" for rule, part, _ in hits[:2])
            raise WeightsError(
                "V205",
                f"`{name}` is explained by two rules of dialect `{dialect}`: {two}",
                hint="write the rules so that each name has one",
            )
        index = numbers(hits[0][2], hits[0][0].parts[hits[0][1]]) if hits else None
        if index is None:
            left.append(name)
            continue
        rule, part, _ = hits[0]
        filled.setdefault((rule, index), set()).add(part)
    return _Placed(filled, left)


def _explained(dialect: Dialect, ours: str) -> tuple[Rule | None, Index]:
    for rule in dialect.rules:
        if (match := compiled(rule.ours).fullmatch(ours)) and (index := numbers(match, rule.ours)) is not None:
            return rule, index
    return None, ()


def _indices(filled: Iterable[tuple[Rule, Index]]) -> dict[tuple[str, ...], set[Index]]:
    """Letters -> every index of ours that was met."""
    seen: dict[tuple[str, ...], set[Index]] = {(): {()}}
    for rule, index in filled:
        if not rule.stacked or index:
            seen.setdefault(tuple(letter for letter, _ in index), set()).add(index)
    return seen


def _absent(
    dialect: Dialect, filled: Filled, indices: dict[tuple[str, ...], set[Index]], *, ours: bool = False
) -> list[str]:
    """What must be there and is not: plain rules, and for `{i}` rules every index that any of them has."""
    missing = []
    for rule in dialect.rules:
        stacked = rule.stacked and not ours
        wanted: Iterable[Index] = [()] if stacked else sorted(indices.get(letters(rule.ours), set()))
        for index in () if rule.optional else wanted:
            if (rule, index) not in filled:
                missing += [f"{fill(name, index)} is missing" for name in ([rule.ours] if ours else rule.parts)]
    for own, found in indices.items():
        there = sorted(index[0][1] for index in found if len(index) == 1)
        gap = next((i for i, number in enumerate(there) if i != number), None)
        if gap is not None:
            rule = next(rule for rule in dialect.rules if letters(rule.ours) == own)
            name = fill(rule.ours if ours or rule.stacked else rule.parts[0], ((own[0], gap),))
            missing.append(f"{name} is missing: the numbers go up to {there[-1]}")
    return missing


def _in_order(rules: Sequence[Rule], filled: Filled) -> Iterator[tuple[Rule, Index]]:
    """As the table stands; a run of rules with the same letters goes layer by layer."""
    for own, run in groupby(rules, key=lambda rule: letters(rule.ours)):
        block = list(run)
        for index in sorted({index for rule, index in filled if rule in block}) if own else [()]:
            yield from ((rule, index) for rule in block if (rule, index) in filled)


def _made(dialect: Dialect, left: list[str]) -> tuple[list[tuple[str, Made]], list[str]]:
    known = [(made, compiled(made.theirs)) for made in dialect.made]
    found = {name: made for name in left for made, regex in known if regex.fullmatch(name)}
    return list(found.items()), [name for name in left if name not in found]


def _dropped(dialect: Dialect, names: list[str]) -> tuple[dict[str, str], list[str]]:
    """name -> why for what is dropped, and the names that are left."""
    known = [(drop, compiled(drop.theirs)) for drop in dialect.drop]
    why = {name: drop.why for name in names for drop, regex in known if regex.fullmatch(name)}
    return why, [name for name in names if name not in why]


def _grouped(dropped: Mapping[str, str]) -> Iterator[str]:
    """One line a reason: the names, or their number and the first ones."""
    by_reason: dict[str, list[str]] = {}
    for name, why in dropped.items():
        by_reason.setdefault(why, []).append(name)
    for why, names in by_reason.items():
        some = ", ".join(names[:3])
        yield f"{some} dropped: {why}" if len(names) <= 3 else f"{len(names)} tensors dropped: {why} ({some}, ...)"


def whole(dialect: Dialect, result: Translation, way: str) -> Tensors:
    """The tensors of a translation that has no fault; errors as `to_native`. way: `to our names`, for the message."""
    if result.unexplained:
        raise WeightsError(
            "V205",
            f"{len(result.unexplained)} tensors are explained by no rule of dialect `{dialect}` {way}",
            evidence=_some([*result.unexplained, *result.problems]),
            hint="name another dialect, or write one: `vitrail convert SRC --suggest` begins it",
        )
    if result.problems or not result.tensors:
        raise WeightsError(
            "V204",
            f"the tensors do not make a whole network of dialect `{dialect}` {way}",
            evidence=_some(result.problems or ["no tensor is left"]),
            hint="the file is incomplete, or of another variant or dialect",
        )
    return result.tensors


def _some(lines: Iterable[str], limit: int = 20) -> list[str]:
    shown = list(lines)
    return shown if len(shown) <= limit else [*shown[:limit], f"... and {len(shown) - limit} more"]
