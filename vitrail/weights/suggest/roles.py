"""What a tensor of a transformer can be: roles by shape and words, and which module of theirs plays which.

Letters of shapes: D width, H width inside the MLP, 3D of q, k, v together, N at least two, p and others any one size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, permutations

from vitrail.weights.reshapes import (
    Reshape,
    convolution,
    leading,
    output_heads,
    row,
    same,
    stack_head_biases,
    stack_heads,
    transpose,
)
from vitrail.weights.suggest.names import Module

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Role:
    """likes: meaning of a word -> how much it speaks for or against. bias: none, may, must.

    needed: every network of the family has it, so that the only module left that fits plays it.
    """

    weight: tuple[str, ...]
    bias: str
    likes: Mapping[str, int]
    needed: bool = False
    layered: bool = True


_NO_QKV = {"q": -9, "k": -9, "v": -9, "qkv": -9}
_D = ("D",)

ROLES: dict[str, Role] = {
    # in every layer
    "norm1":        Role(_D, "must", {"norm": 1, "attn": 2, "before": 2, "mlp": -9, "after": -9}, needed=True),
    "norm2":        Role(_D, "must", {"norm": 1, "mlp": 2, "after": 2, "attn": -9, "before": -9}, needed=True),
    "qkv":          Role(("3D", "D"), "may", {"qkv": 4, "attn": 2, "in": 1, "mlp": -9}, needed=True),
    "q":            Role(("D", "D"), "may", {"q": 4, "k": -9, "v": -9, "mlp": -9}, needed=True),
    "k":            Role(("D", "D"), "may", {"k": 4, "q": -9, "v": -9, "mlp": -9}, needed=True),
    "v":            Role(("D", "D"), "may", {"v": 4, "q": -9, "k": -9, "mlp": -9}, needed=True),
    "out":          Role(("D", "D"), "may", {"out": 2, "attn": 1, "mlp": -9, **_NO_QKV}, needed=True),
    "fc1":          Role(("H", "D"), "may",
                         {"mlp": 2, "fc": 1, "up": 2, "attn": -9, "down": -5, **_NO_QKV}, needed=True),
    "fc2":          Role(("D", "H"), "may",
                         {"mlp": 2, "fc": 1, "out": 1, "down": 2, "attn": -9, "up": -5, **_NO_QKV}, needed=True),
    "ls1":          Role(_D, "none", {"scale": 2, "attn": 1, "mlp": -9, "norm": -9, **_NO_QKV}),
    "ls2":          Role(_D, "none", {"scale": 2, "mlp": 1, "attn": -9, "norm": -9, **_NO_QKV}),
    "q_bias":       Role(_D, "alone", {"q": 4, "k": -9, "v": -9}),
    "k_bias":       Role(_D, "alone", {"k": 4, "q": -9, "v": -9}),
    "v_bias":       Role(_D, "alone", {"v": 4, "q": -9, "k": -9}),
    "table":        Role(("R", "h"), "none", {"rel": 3}),
    # once
    "patch":        Role(("D", "c", "p", "p"), "may", {"patch": 3, "conv": 1, "head": -9}, needed=True, layered=False),
    "cls":          Role(("1", "1", "D"), "none",
                         {"cls": 3, "token": 1, "mask": -9, "dist": -9, "reg": -9, "pos": -9},
                         needed=True, layered=False),
    "dist":         Role(("1", "1", "D"), "none", {"dist": 4, "mask": -9}, layered=False),
    "reg":          Role(("1", "n", "D"), "none", {"reg": 4, "mask": -9, "pos": -9}, layered=False),
    "pos":          Role(("1", "N", "D"), "none", {"pos": 3, "rel": -9, "reg": -9, "mask": -9},
                         needed=True, layered=False),
    "norm_pre":     Role(_D, "must", {"norm": 1, "before": 3, "after": -9}, layered=False),
    "norm":         Role(_D, "must", {"norm": 1, "after": 1, "before": -9, "fc": -9, "pool": -9},
                         needed=True, layered=False),
    "fc_norm":      Role(_D, "must", {"norm": 1, "fc": 3, "pool": 3}, layered=False),
    "pre_logits":   Role(("P", "D"), "may", {"pool": 3, "before": 3, "rep": 3}, layered=False),
    "pool":         Role(("1", "D"), "may", {"pool": 4}, layered=False),
    "head":         Role(("K", "P"), "may",
                         {"head": 3, "fc": 2, "linear": 2, "out": 1, "before": -9, "pool": -5, "dist": -9, "rel": -9},
                         needed=True, layered=False),
    "head_dist":    Role(("K", "D"), "may", {"head": 1, "dist": 4}, layered=False),
    "shared_table": Role(("R", "h"), "none", {"rel": 3}, layered=False),
}  # fmt: skip

# meaning -> the words for it
MEANINGS: dict[str, frozenset[str]] = {
    "norm": frozenset({"norm", "ln", "layernorm", "nrm", "normalization", "normalisation", "rms"}),
    "attn": frozenset({"attn", "attention", "att", "msa", "mha", "mhsa", "selfattn", "selfattention", "sa"}),
    "mlp": frozenset({"mlp", "ffn", "ff", "feedforward", "feed", "mlpblock"}),
    "qkv": frozenset({"qkv", "toqkv", "wqkv"}),
    "q": frozenset({"q", "query", "queries", "qproj"}),
    "k": frozenset({"k", "key", "keys", "kproj"}),
    "v": frozenset({"v", "value", "values", "vproj"}),
    "in": frozenset({"in", "input"}),
    "out": frozenset({"out", "output", "o", "proj", "projection", "combine", "outproj"}),
    "up": frozenset({"up", "intermediate", "expand", "hidden", "in", "lin1"}),
    "down": frozenset({"down", "contract", "squeeze", "lin2"}),
    "fc": frozenset({"fc", "dense"}),
    "linear": frozenset({"linear", "lin", "dense", "top"}),
    "before": frozenset({"before", "pre"}),
    "after": frozenset({"after", "post", "final", "last", "end"}),
    "scale": frozenset({"ls", "scale", "layerscale", "gamma", "lambda", "gate"}),
    "rel": frozenset({"rel", "relative"}),
    "patch": frozenset({"patch", "patches", "stem", "patchify"}),
    "conv": frozenset({"conv", "convolution", "conv2d", "projection", "embedding", "embed"}),
    "cls": frozenset({"cls", "class", "clstoken"}),
    "token": frozenset({"token", "tok", "tokens"}),
    "dist": frozenset({"dist", "distill", "distillation", "distilled"}),
    "reg": frozenset({"reg", "register", "registers", "storage"}),
    "mask": frozenset({"mask"}),
    "pos": frozenset({"pos", "position", "positions", "positional", "posembed", "posemb", "pe", "posembeddings"}),
    "pool": frozenset({"pool", "pooler", "pooling"}),
    "rep": frozenset({"representation"}),
    "head": frozenset({"head", "heads", "classifier", "logits", "classify", "classification"}),
}

ORDERED = (("norm1", "norm2"), ("ls1", "ls2"), ("fc1", "fc2"))  # the first comes first in a block

# Reshapes of one tensor: what they make of a shape, None where they do not fit
_SHAPES: tuple[tuple[Reshape, Callable[[Shape], Shape | None]], ...] = (
    (same, lambda s: s),
    (transpose, lambda s: s[::-1] if len(s) == 2 else None),
    (convolution, lambda s: (s[3], s[2], s[0], s[1]) if len(s) == 4 else None),
    (stack_heads, lambda s: (s[1] * s[2], s[0]) if len(s) == 3 else None),
    (stack_head_biases, lambda s: (s[0] * s[1],) if len(s) == 2 else None),
    (output_heads, lambda s: (s[2], s[0] * s[1]) if len(s) == 3 else None),
    (leading, lambda s: (1,) * (3 - len(s)) + s if 0 < len(s) < 3 else None),
    (row, lambda s: s[3:] if len(s) == 4 and s[:3] == (1, 1, 1) else None),
)


@dataclass(frozen=True)
class Sizes:
    """What letters stand for. flipped: dense weights are (in, out); None where nothing shows it."""

    letters: Mapping[str, int]
    flipped: Mapping[bool, bool | None]  # in layers, outside

    def fits(self, shape: Shape, wanted: Sequence[str]) -> bool:
        """Whether a shape is the wanted one; letters without a size take any, but each one only."""
        if len(shape) != len(wanted):
            return False
        bound = dict(self.letters)
        return all(size == bound.setdefault(letter, size) and (letter != "N" or size > 1)
                   for size, letter in zip(shape, wanted, strict=True))  # fmt: skip

    def ways(self, module: Module, role: Role) -> Reshape | None:
        """How the weight of a module becomes that of a role; None when it cannot, or when it may be either way."""
        if role.layered != module.layered or not _bias_fits(self, module, role):
            return None
        part = module.bias if role.bias == "alone" else module.weight
        if part is None:
            return None
        found = [
            way
            for way, shape in self._shaped(part.shape)
            if self.fits(shape, role.weight) and (role.layered or way not in (stack_heads, output_heads))
        ]
        if len(part.shape) == 2 and len(role.weight) == 2 and role.weight[0] not in ("R", "1"):
            flipped = self._flipped(module)
            found = [way for way in found if flipped is None or (way is transpose) == flipped]
            if len(found) > 1:
                return None
        return found[0] if found else None

    def bias_way(self, module: Module) -> Reshape:
        """How a bias becomes a vector."""
        assert module.bias is not None
        return next(way for way, shape in self._shaped(module.bias.shape) if len(shape) == 1)

    def _shaped(self, shape: Shape) -> list[tuple[Reshape, Shape]]:
        made = [(way, to(shape)) for way, to in _SHAPES]
        return [(way, found) for way, found in made if found is not None]

    def _flipped(self, module: Module) -> bool | None:
        own = flipped_by_bias(module)
        return self.flipped[module.layered] if own is None else own


def _bias_fits(sizes: Sizes, module: Module, role: Role) -> bool:
    if role.bias == "alone":
        return module.weight is None
    if module.bias is None:
        return role.bias != "must"
    shapes = [shape for _, shape in sizes._shaped(module.bias.shape)]
    wanted = any(sizes.fits(shape, role.weight[:1]) for shape in shapes)
    return wanted and role.bias in ("may", "must")


def flipped_by_bias(module: Module) -> bool | None:
    """Whether a dense weight is (in, out), where its bias shows it."""
    if module.weight is None or module.bias is None or len(module.weight.shape) != 2 or len(module.bias.shape) != 1:
        return None
    one, other = module.weight.shape
    if one == other or module.bias.shape[0] not in (one, other):
        return None
    return bool(module.bias.shape[0] == other)


def meanings(words: Iterable[str]) -> set[str]:
    """What the words of a name may mean."""
    there = set(words)
    return {meaning for meaning, known in MEANINGS.items() if known & there}


@dataclass
class Cast:
    """Who plays what.  ordered: whether the order of the file says something."""

    sizes: Sizes
    modules: list[Module]
    names: tuple[str, ...]
    ordered: bool
    played: dict[str, Module] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # a module may play a role -> how well the words fit
        self.scores: dict[tuple[int, str], int] = {}
        for n, module in enumerate(self.modules):
            said = meanings(module.words)
            for name in self.names:
                if self.sizes.ways(module, ROLES[name]) is not None:
                    self.scores[n, name] = sum(ROLES[name].likes.get(meaning, 0) for meaning in said)

    def settle(self) -> dict[str, Module]:
        """Role -> module, for all that is beyond doubt."""
        while found := self._by_words() or self._by_order() or self._by_elimination():
            for name, n in found:
                self._give(name, n)
        return self.played

    def could_be(self, n: int) -> list[str]:
        """The roles still open that fit a module."""
        return [name for name in self.names if self.scores.get((n, name), -1) >= 0]

    def _give(self, name: str, n: int) -> None:
        self.played[name] = self.modules[n]
        over = {name} | ({"q", "k", "v"} if name == "qkv" else {"qkv"} if name in ("q", "k", "v") else set())
        self.scores = {key: score for key, score in self.scores.items() if key[0] != n and key[1] not in over}

    def _by_words(self) -> list[tuple[str, int]]:
        """A pair whose words fit, each the other's only best."""
        best: dict[int | str, list[int]] = {}  # module or role -> its two best scores
        for (n, name), score in self.scores.items():
            for one in (n, name):
                best[one] = sorted([*best.get(one, []), score])[-2:]
        for (n, name), score in self.scores.items():
            if score >= 2 and all(best[one][-1] == score and best[one][:-1] != [score] for one in (n, name)):
                return [(name, n)]
        return []

    def _by_order(self) -> list[tuple[str, int]]:
        """Two modules for two roles of which one comes first: by a number or letter in their names, or in the file."""
        for first, second in ORDERED:
            open_to = [
                {n for (n, name), score in self.scores.items() if name == role and score >= 0}
                for role in (first, second)
            ]
            pair = sorted(open_to[0] & open_to[1])
            if len(pair) != 2 or open_to[0] != open_to[1]:
                continue
            one, other = (self.modules[n] for n in pair)
            earlier = _earlier(one.words, other.words)
            if earlier is None and self.ordered and first == "norm1":
                earlier = self._around_attention(one, other)
            if earlier is not None:
                return [(first, pair[not earlier]), (second, pair[earlier])]
        return []

    def _around_attention(self, one: Module, other: Module) -> bool | None:
        """Whether the first stands before attention's tensors in the file and the second after, or the other way."""
        spots = [self.played[name].order for name in ("qkv", "q", "out") if name in self.played]
        if spots and one.order < min(spots) < max(spots) < other.order:
            return True
        if spots and other.order < min(spots) < max(spots) < one.order:
            return False
        return None

    def _by_elimination(self) -> list[tuple[str, int]]:
        """The only module left for a role that every network has, if it can play no other such role."""
        for name in self.names:
            fitting = [n for (n, other), score in self.scores.items() if other == name and score >= 0]
            if not ROLES[name].needed or len(fitting) != 1:
                continue
            others = {r for (n, r), s in self.scores.items() if n == fitting[0] and s >= 0 and ROLES[r].needed}
            if others == {name}:
                return [(name, fitting[0])]
        return []


_SEQUENCES = (("first", "second"), ("before", "after"), ("pre", "post"), ("in", "out"), ("up", "down"))


def _earlier(one: Sequence[str], other: Sequence[str]) -> bool | None:
    """Whether one's first differing word counts before the other's; None when they are nothing to count with."""
    spot = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    for first, second, answer in ((one, other, True), (other, one, False)):
        if second[spot : spot + 1] and second[spot].isdigit() and [*second[:spot], *second[spot + 1 :]] == [*first]:
            return answer  # `dense`, `dense_1`
    if spot >= min(len(one), len(other)):
        return None
    a, b = one[spot], other[spot]
    if a.isdigit() and b.isdigit():
        return int(a) < int(b)
    if len(a) == len(b) == 1 and a.isalpha() and b.isalpha():
        return a < b
    return (a, b) in _SEQUENCES if (a, b) in _SEQUENCES or (b, a) in _SEQUENCES else None


def kernels_flipped(modules: Iterable[Module]) -> bool | None:
    """Whether convolutions are (rows, columns, in, out); None when no shape shows it."""
    shapes = [m.weight.shape for m in modules if m.weight is not None and len(m.weight.shape) == 4]
    said = {shape[0] == shape[1] for shape in shapes if (shape[0] == shape[1]) != (shape[2] == shape[3])}
    return said.pop() if len(said) == 1 else None


def chained(modules: Sequence[Module], *, flipped: bool) -> list[Module]:
    """Convolutions in the order in which each takes what the one before gives; none when that is not clear."""

    def sides(module: Module) -> tuple[int, int]:
        assert module.weight is not None
        out_in = module.weight.shape[:1:-1] if flipped else module.weight.shape[:2]
        return out_in[0], out_in[1]

    if len(modules) > 4:
        return []
    orders = [order for order in permutations(modules) if all(sides(a)[0] == sides(b)[1] for a, b in pairwise(order))]
    if len(orders) > 1:
        orders = [order for order in orders if all(_earlier(a.words, b.words) for a, b in pairwise(order))]
    return list(orders[0]) if len(orders) == 1 else []
