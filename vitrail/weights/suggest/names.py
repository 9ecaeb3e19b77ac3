"""Names of unknown make, ordered: what repeats in every layer is one template, a weight and its bias are one module."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations, islice

from vitrail.formats.stored import Tensors

WEIGHT = frozenset({"weight", "kernel", "w", "gain", "scale", "gamma", "g", "weights", "mat", "matrix"})
BIAS = frozenset({"bias", "beta", "b", "offset", "shift", "biases"})
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_GLUED = {f"{kind}{part}": (kind, part) for kind in "wb" for part in "qkvo"}
_NUMBER = re.compile(r"[0-9]+")
_SEPARATOR = re.compile(r"[./]")
_HERE = "\0"  # where the number of a layer stands again
SPOTS = 8  # places in a name where a layer's number is looked for
BLOCK = 9  # the tensors of a block, at the least; its attention alone has up to 8


@dataclass(frozen=True)
class Template:
    """One tensor of theirs, or the same one of every layer: then names go by layer, and pattern holds a number.

    words: of the name without what stands before the layer's number. order: where the first one stands in the file.
    """

    pattern: str
    names: tuple[str, ...]
    shape: tuple[int, ...]
    words: tuple[str, ...]
    order: int
    layered: bool


@dataclass(frozen=True)
class Module:
    """A weight and its bias, or either alone. words: of their name without the last one."""

    words: tuple[str, ...]
    weight: Template | None
    bias: Template | None

    @property
    def templates(self) -> tuple[Template, ...]:
        return tuple(part for part in (self.weight, self.bias) if part is not None)

    @property
    def order(self) -> int:
        return min(part.order for part in self.templates)

    @property
    def layered(self) -> bool:
        return self.templates[0].layered


@dataclass(frozen=True)
class _Layers:
    """Where the number of a layer stands: after prefix, as piece. numbers: as text, by layer, `""` for none."""

    prefix: str
    piece: str
    numbers: tuple[str, ...]

    @property
    def expressible(self) -> bool:
        """Whether a rule can say it: numbers without leading zeros."""
        return not any(len(number) > 1 and number.startswith("0") for number in self.numbers)


def words_of(text: str) -> tuple[str, ...]:
    """The words of a name in lower case, numbers apart.

    >>> words_of("LayerNorm_0/scale"), words_of("attn.in_proj_weight"), words_of("mlp.fc1.wq")
    (('layer', 'norm', '0', 'scale'), ('attn', 'in', 'proj', 'weight'), ('mlp', 'fc', '1', 'w', 'q'))

    TensorFlow's `:0` is no word.
    """
    found = (word.lower() for word in _WORD.findall(text.removesuffix(":0")))
    return tuple(part for word in found for part in _GLUED.get(word, (word,)))


def templates_of(tensors: Tensors, *, depth: int | None = None) -> list[Template]:
    """Every tensor in one template.  depth: how many layers there are, None to see it from the names."""
    order = {name: n for n, name in enumerate(tensors)}
    layers, score = _layers(tensors, depth)
    prefix, stack = _stacked(tensors, depth)
    found = []
    if len(stack) > score:
        for name in stack:
            words = words_of(name.removeprefix(prefix))
            found.append(Template(name, (name,), tensors[name].shape[1:], words, order[name], layered=True))
    elif layers is not None:
        for pattern, rest, group in _repeated(list(tensors), layers):
            shapes = {tensors[name].shape for name in group}
            if len(shapes) == 1:
                found.append(Template(pattern, group, shapes.pop(), words_of(rest), order[group[0]], layered=True))
    taken = {name for template in found for name in template.names}
    for name in order.keys() - taken:
        found.append(Template(name, (name,), tensors[name].shape, words_of(name), order[name], layered=False))
    return sorted(found, key=lambda template: template.order)


def _stacked(tensors: Tensors, depth: int | None) -> tuple[str, list[str]]:
    """How names begin whose tensors have one first axis, which then counts the layers; and those names."""
    groups: dict[tuple[int, str], list[str]] = {}
    for name, tensor in tensors.items():
        if len(tensor.shape) > 1 and depth in (None, tensor.shape[0]):
            for match in islice(_SEPARATOR.finditer(name), SPOTS):
                groups.setdefault((tensor.shape[0], name[: match.end()]), []).append(name)
    prefix, found = max(((prefix, found) for (_, prefix), found in groups.items()), key=_most, default=("", []))
    return (prefix, found) if len(found) >= BLOCK else ("", [])


def _most(group: tuple[str, list[str]]) -> tuple[int, int]:
    return len(group[1]), len(group[0])


def modules_of(templates: Iterable[Template]) -> list[Module]:
    """Weights with their biases, by the last word of a name or, where it says nothing, by their ranks."""
    parts: dict[tuple[bool, tuple[str, ...]], dict[str, Template]] = {}
    for template, kind, words in _kinds(list(templates)):
        parts.setdefault((template.layered, words), {}).setdefault(kind, template)
    found = []
    for (_, words), kinds in parts.items():
        if "" in kinds:
            found.append(Module(words, kinds[""], None))
        if "weight" in kinds or "bias" in kinds:
            found.append(Module(words, kinds.get("weight"), kinds.get("bias")))
    return found


def _kinds(templates: list[Template]) -> Iterator[tuple[Template, str, tuple[str, ...]]]:
    """Each template as weight, bias or neither, and the words that are left."""
    siblings: dict[tuple[bool, tuple[str, ...]], list[Template]] = {}
    for template in templates:
        siblings.setdefault((template.layered, template.words[:-1]), []).append(template)
    for template in templates:
        stem, last = template.words[:-1], template.words[-1:]
        pair = siblings[template.layered, stem]
        kind = _kind(last[0]) if last else ""
        if kind and stem:
            yield template, kind, stem
        elif len(pair) == 2 and _by_rank(pair):
            yield template, "weight" if template is _by_rank(pair) else "bias", stem
        else:
            inner = next((word for word in template.words if word in "wb"), "")
            left = list(template.words)
            if inner:
                left.remove(inner)
            yield template, _kind(inner) if left else "", tuple(left) if inner and left else template.words


def _kind(word: str) -> str:
    return "weight" if word in WEIGHT else "bias" if word in BIAS else ""


def _by_rank(pair: list[Template]) -> Template | None:
    """The weight of two: the one of higher rank; of two numbered vectors of a norm the first."""
    one, other = pair
    if len(one.shape) != len(other.shape) and min(len(one.shape), len(other.shape)) == 1:
        return max(pair, key=lambda template: len(template.shape))
    if {one.words[-1:], other.words[-1:]} == {("0",), ("1",)} and one.shape == other.shape and "vars" in one.words:
        return min(pair, key=lambda template: template.words[-1])
    return None


def _layers(tensors: Tensors, depth: int | None) -> tuple[_Layers | None, int]:
    """The place of numbers under which the most tensors repeat, and how many; of equals that near a convolution."""
    convolutions = [name for name, tensor in tensors.items() if len(tensor.shape) == 4]
    best: tuple[tuple[bool, bool, int, int], _Layers, int] | None = None
    for layers, rests in _numbered(tensors):
        common, count = _common(layers, rests), len(rests)
        if depth not in (None, count) or common < 1:
            continue
        near = max((_shared(layers.prefix, name) for name in convolutions), default=0)
        # where there is one layer only, the innermost number that a whole block follows is meant
        score = (common >= BLOCK, count > 1, common * count if count > 1 else len(layers.prefix), near)
        if best is None or score > best[0]:
            best = score, layers, common * count
    return (best[1], best[2]) if best else (None, 0)


def _common(layers: _Layers, rests: list[set[str]]) -> int:
    """How many names of the first layer all layers have, whether the number stands in them once or twice."""
    variants = [
        {rest: set(_variants(rest, number, most=1)) for rest in some}
        for number, some in zip(layers.numbers, rests, strict=True)
    ]
    everywhere = set.intersection(*({text for texts in some.values() for text in texts} for some in variants))
    return sum(not texts.isdisjoint(everywhere) for texts in variants[0].values())


def _shared(one: str, other: str) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _numbered(names: Iterable[str]) -> Iterator[tuple[_Layers, list[set[str]]]]:
    """Every place where numbers run from 0 or 1 without a gap, and what follows each number."""
    places: dict[str, dict[int, tuple[str, set[str]]]] = {}
    everything = list(names)
    for name in everything:
        for match in islice(_NUMBER.finditer(name), SPOTS):
            if len(match[0]) > 4:
                continue
            numbers = places.setdefault(name[: match.start()], {})
            numbers.setdefault(int(match[0]), (match[0], set()))[1].add(name[match.end() :])
    for prefix, numbers in places.items():
        first, count = min(numbers), len(numbers)
        if first in (0, 1) and max(numbers) == first + count - 1:
            texts = tuple(numbers[n][0] for n in sorted(numbers))
            rests = [numbers[n][1] for n in sorted(numbers)]
            yield _Layers(prefix, "{i+1}" if first else "{i}", texts), rests
            if first == 1 and prefix.endswith("_"):
                base = prefix[:-1]
                bare = {name.removeprefix(base) for name in everything if name.startswith(base)}
                yield _Layers(base, "{_i}", ("", *(f"_{text}" for text in texts))), [bare, *rests]


def _repeated(names: list[str], layers: _Layers) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(pattern, what follows the number, the name in each layer) of what every layer has."""
    there = set(names)
    first = layers.prefix + layers.numbers[0]
    for name in names:
        if not name.startswith(first):
            continue
        rest = name.removeprefix(first)
        for variant in _variants(rest, layers.numbers[0]):
            group = tuple(f"{layers.prefix}{number}{variant.replace(_HERE, number)}" for number in layers.numbers)
            if there.issuperset(group):
                pattern = f"{layers.prefix}{layers.piece}{variant.replace(_HERE, layers.piece)}"
                yield pattern if layers.expressible else "", rest, group
                break


def _variants(rest: str, number: str, *, most: int = 3) -> Iterator[str]:
    """The text with the layer's number left open in none, one, ... of the places where it stands again."""
    spots = [match.span() for match in islice(_NUMBER.finditer(rest), SPOTS) if match[0] == number]
    for count in range(min(len(spots), most) + 1):
        for chosen in combinations(spots, count):
            text = rest
            for start, end in reversed(chosen):
                text = text[:start] + _HERE + text[end:]
            yield text


def without_shared(templates: list[Template]) -> list[Template]:
    """The templates outside of layers without the words that all of them begin with."""
    outer = [template.words for template in templates if not template.layered]
    count = 0
    while len(outer) > 1 and all(len(words) > count + 1 and words[count] == outer[0][count] for words in outer):
        count += 1
    return [t if t.layered else replace(t, words=t.words[count:]) for t in templates]


def sorted_file(names: Mapping[str, object]) -> bool:
    """Whether the order of a file is that of the alphabet, and so says nothing."""
    return list(names) == sorted(names)
