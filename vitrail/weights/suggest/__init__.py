"""A first dialect for a checkpoint with names of its own, from names and shapes; what is not beyond doubt is marked.

Numbers that vary become `{i}`; a weight and its bias are one module; a module gets a role by its shape, the words in
its name, and the order of two alike. `names.py` reads names, `roles.py` gives roles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from vitrail.errors import printable
from vitrail.formats.bounds import NAME_BYTES
from vitrail.formats.stored import Tensors
from vitrail.models.configs import CCTConfig, ModelConfig, family_of
from vitrail.weights.dialects import NATIVE
from vitrail.weights.patterns import both_explain, fill
from vitrail.weights.reshapes import (
    Reshape,
    convolution,
    same,
    stack,
    stack_head_biases,
    stack_heads,
    stack_transposed,
)
from vitrail.weights.rules import Dialect, Rule
from vitrail.weights.suggest.names import (
    Module,
    Template,
    modules_of,
    sorted_file,
    templates_of,
    without_shared,
    words_of,
)
from vitrail.weights.suggest.roles import ROLES, Cast, Sizes, chained, flipped_by_bias, kernels_flipped
from vitrail.weights.translate import read
from vitrail.weights.user_dialect import rule_text

NAME = "mine"
FLOATS = ("F64", "F32", "F16", "BF16")
_JOIN: dict[str, Reshape] = {"same": stack, "transpose": stack_transposed, "stack_heads": stack_heads}


@dataclass(frozen=True)
class Suggestion:
    """text: the YAML, with a comment `# ?` for each doubt. unmatched: theirs that no rule explains. missing: our
    patterns that every network of the family has and none of theirs gives."""

    text: str
    dialect: Dialect
    matched: int
    unmatched: tuple[str, ...]
    missing: tuple[str, ...]


def suggest(tensors: Tensors, *, model: ModelConfig | None = None) -> Suggestion:
    """A first version of a dialect; where everything matched, `read_dialect` takes the text as it stands.

    model: the network that it is, None for any; then the family that explains the most.

    >>> from vitrail.formats.stored import Stored
    >>> theirs = {f"net.l{i}.attention.out.w": Stored("F32", (4, 4), bytes(64)) for i in range(2)}
    >>> suggest(theirs).unmatched
    ()
    """
    families = (family_of(model),) if model else ("vit", "beit", "cct")
    found = [_for_family(family, tensors, model) for family in families]
    best, *others = sorted(found, key=_doubt)
    for other in others:
        if _doubt(other)[:2] == _doubt(best)[:2]:
            line = f"# ? as a network of the family {other.dialect.family} they would match as well\nrules:"
            best = replace(best, text=best.text.replace("rules:", line, 1))
    return best


def _doubt(one: Suggestion) -> tuple[int, bool, int]:
    """What speaks against a family: what is left over; a bias for keys, which a BEiT hardly has; other words."""
    keys = any(rule.ours.endswith("k_bias") for rule in one.dialect.rules)
    return len(one.unmatched) + len(one.missing), keys, -_alike(one.dialect)


def _alike(dialect: Dialect) -> int:
    """How many words their names share with ours."""
    return sum(len({*words_of(rule.ours)} & {*words_of(part)}) for rule in dialect.rules for part in rule.parts)


def _pair(stem: str) -> tuple[str, str]:
    return stem + ".weight", stem + ".bias"


# family -> role -> our weight and our bias; a role without a bias there takes none
_VIT: dict[str, tuple[str, str]] = {
    "cls": ("cls_token", ""),
    "dist": ("dist_token", ""),
    "reg": ("reg_token", ""),
    "pos": ("pos_embed", ""),
    "patch": _pair("patch_embed.proj"),
    "norm_pre": _pair("norm_pre"),
    "norm1": _pair("blocks.{i}.norm1"),
    "qkv": _pair("blocks.{i}.attn.qkv"),
    "out": _pair("blocks.{i}.attn.proj"),
    "ls1": ("blocks.{i}.ls1.gamma", ""),
    "norm2": _pair("blocks.{i}.norm2"),
    "fc1": _pair("blocks.{i}.mlp.fc1"),
    "fc2": _pair("blocks.{i}.mlp.fc2"),
    "ls2": ("blocks.{i}.ls2.gamma", ""),
    "norm": _pair("norm"),
    "fc_norm": _pair("fc_norm"),
    "pre_logits": _pair("pre_logits.fc"),
    "head": _pair("head"),
    "head_dist": _pair("head_dist"),
}
_OURS: dict[str, dict[str, tuple[str, str]]] = {
    "vit": _VIT,
    "beit": {role: _VIT[role] for role in ("cls", "pos", "patch", "norm1", "out", "norm2", "fc1", "fc2")}
    | {
        "qkv": ("blocks.{i}.attn.qkv.weight", ""),
        "ls1": ("blocks.{i}.gamma_1", ""),
        "ls2": ("blocks.{i}.gamma_2", ""),
        "q_bias": ("", "blocks.{i}.attn.q_bias"),
        "k_bias": ("", "blocks.{i}.attn.k_bias"),
        "v_bias": ("", "blocks.{i}.attn.v_bias"),
        "table": ("blocks.{i}.attn.relative_position_bias_table", ""),
        "shared_table": ("rel_pos_bias.relative_position_bias_table", ""),
    }
    | {role: _VIT[role] for role in ("norm", "fc_norm", "head")},
    "cct": {
        "cls": ("classifier.class_emb", ""),
        "pos": ("classifier.positional_emb", ""),
        "pool": _pair("classifier.attention_pool"),
        "norm1": _pair("classifier.blocks.{i}.pre_norm"),
        "qkv": ("classifier.blocks.{i}.self_attn.qkv.weight", ""),
        "out": _pair("classifier.blocks.{i}.self_attn.proj"),
        "norm2": _pair("classifier.blocks.{i}.norm1"),
        "fc1": _pair("classifier.blocks.{i}.linear1"),
        "fc2": _pair("classifier.blocks.{i}.linear2"),
        "norm": _pair("classifier.norm"),
        "head": _pair("classifier.fc"),
    },
}


def _for_family(family: str, tensors: Tensors, model: ModelConfig | None) -> Suggestion:
    templates = without_shared(templates_of(tensors, depth=model.depth if model else None))
    modules = modules_of(t for t in templates if tensors[t.names[0]].dtype in FLOATS and _sayable(t))
    sizes = _sizes(modules, model)
    names = tuple(name for name in ROLES if name in _OURS[family] or name in ("q", "k", "v"))
    cast = Cast(sizes, modules, names, ordered=not sorted_file(tensors))
    played = cast.settle()
    native = NATIVE[family].rules
    placed: list[tuple[int, list[Rule]]] = []
    for rule, parts in _rules(family, played, sizes, modules):
        place = _place(rule.ours, native)
        own = native[place]
        placed.append((place, [replace(one, optional=own.optional) for one in _each_layer(rule, parts)]))
    rules = tuple(rule for _, some in sorted(placed, key=lambda item: item[0]) for rule in some)
    dialect = Dialect(name=NAME, family=family, rules=rules)
    result = read(dialect, tensors)
    there = {place for place, _ in placed}
    missing = tuple(
        own.ours
        for n, own in enumerate(native)
        if n not in there and not own.optional and not own.ours.startswith("patch_embed.backbone")
    )
    doubts = {
        name: _could_be(cast.could_be(n), family)
        for n, module in enumerate(modules)
        for template in module.templates
        for name in template.names
    }
    marks = [*_marked(result.unexplained, templates, tensors, doubts), *(f"# ? {line}" for line in result.problems)]
    text = _text(dialect, len(tensors), len(result.unexplained), marks, missing)
    return Suggestion(text, dialect, len(tensors) - len(result.unexplained), result.unexplained, missing)


def _place(ours: str, native: tuple[Rule, ...]) -> int:
    """Which of our rules a name is of; the convolutions of CCT are written with their numbers."""
    names = [rule.ours for rule in native]
    if ours in names:
        return names.index(ours)
    return next(n for n, name in enumerate(names) if both_explain(name, ours) is not None)


def _sizes(modules: list[Module], model: ModelConfig | None) -> Sizes:
    """D is the size of most vectors in layers, H the other side of two dense weights there."""
    inside = [module for module in modules if module.layered]
    parts = [t.shape for m in (inside or modules) for t in m.templates]
    vectors = Counter(shape[0] for shape in parts if len(shape) == 1) or Counter(
        size for shape in parts for size in shape
    )
    dim = model.dim if model else (vectors.most_common(1)[0][0] if vectors else 0)
    if isinstance(model, CCTConfig):
        hidden = int(model.dim * model.mlp_ratio)
    elif model:
        hidden = model.hidden
    else:
        shapes = [m.weight.shape for m in inside if m.weight and len(m.weight.shape) == 2 and dim in m.weight.shape]
        others = Counter(size for shape in shapes for size in shape if size != dim)
        hidden = next((size for size, count in others.most_common() if count >= 2), dim)
    return Sizes(
        {"1": 1, "D": dim, "3D": 3 * dim, "H": hidden}, {inner: _flipped(modules, inner) for inner in (True, False)}
    )


def _flipped(modules: list[Module], layered: bool) -> bool | None:
    """Whether dense weights are (in, out): as their biases show, those nearby first, then as convolutions are."""
    near = {flipped_by_bias(module) for module in modules if module.layered == layered} - {None}
    said = near or {flipped_by_bias(module) for module in modules} - {None}
    if said:
        return said.pop() if len(said) == 1 else None
    flipped = kernels_flipped(modules)
    if flipped is not None:
        return flipped
    words = {t.pattern.removesuffix(":0").endswith("kernel") for m in modules for t in m.templates if len(t.shape) == 2}
    return words.pop() if len(words) == 1 else None


def _rules(
    family: str, played: Mapping[str, Module], sizes: Sizes, modules: list[Module]
) -> Iterator[tuple[Rule, tuple[Template, ...]]]:
    """A rule for each tensor that has a role, with the templates it is made of."""
    for role, module in played.items():
        weight, bias = _OURS[family].get(role, ("", ""))
        if module.weight and weight:
            way = sizes.ways(module, ROLES[role])
            assert way is not None
            yield Rule(weight, module.weight.pattern, way), (module.weight,)
        if module.bias and bias:
            yield Rule(bias, module.bias.pattern, sizes.bias_way(module)), (module.bias,)
    parts = [played[name] for name in ("q", "k", "v") if name in played]
    if len(parts) == 3:
        yield from _joined(family, parts, sizes)
    if family == "cct":
        yield from _tokenizer(modules, sizes)


def _joined(family: str, parts: list[Module], sizes: Sizes) -> Iterator[tuple[Rule, tuple[Template, ...]]]:
    """q, k, v below each other; their biases too, or, in BEiT, each by itself."""
    ways = {sizes.ways(part, ROLES[role]) for part, role in zip(parts, "qkv", strict=True)}
    weights = tuple(part.weight for part in parts if part.weight)
    way = ways.pop()
    if len(weights) == 3 and not ways and way is not None and way.name in _JOIN:
        yield Rule(_OURS[family]["qkv"][0], tuple(t.pattern for t in weights), _JOIN[way.name]), weights
    if family == "beit":
        for part, role in zip(parts, ("q_bias", "k_bias", "v_bias"), strict=True):
            if part.bias:
                yield Rule(_OURS["beit"][role][1], part.bias.pattern, sizes.bias_way(part)), (part.bias,)
        return
    biases = tuple(part.bias for part in parts if part.bias)
    if family == "vit" and len(biases) == 3:
        join = stack if len(biases[0].shape) == 1 else stack_head_biases
        yield Rule(_OURS["vit"]["qkv"][1], tuple(t.pattern for t in biases), join), biases


def _tokenizer(modules: list[Module], sizes: Sizes) -> Iterator[tuple[Rule, tuple[Template, ...]]]:
    """The convolutions of CCT, one after the other, the last to D channels."""
    found = [m for m in modules if not m.layered and m.weight is not None and len(m.weight.shape) == 4]
    flipped = kernels_flipped(found)
    if flipped is None:
        return
    for n, module in enumerate(chained(found, flipped=flipped)):
        weight, bias = _pair(f"tokenizer.conv_layers.{n}.0")
        assert module.weight is not None
        yield Rule(weight, module.weight.pattern, convolution if flipped else same), (module.weight,)
        if module.bias:
            yield Rule(bias, module.bias.pattern, sizes.bias_way(module)), (module.bias,)


def _each_layer(rule: Rule, parts: tuple[Template, ...]) -> list[Rule]:
    """The rule; where no pattern can say their numbers, one for each layer."""
    if all(part.pattern for part in parts):
        return [rule]
    single = isinstance(rule.theirs, str)
    return [
        replace(rule, ours=fill(rule.ours, (("i", n),)), theirs=names[0] if single else names)
        for n, names in enumerate(zip(*(part.names for part in parts), strict=True))
    ]


def _could_be(roles: list[str], family: str) -> str:
    ours = [_OURS[family][role] for role in roles if role in _OURS[family]]
    return " or ".join(weight or bias for weight, bias in ours)


def _sayable(template: Template) -> bool:
    """Whether a rule can name it: braces stand for numbers there."""
    return all(name.isprintable() and 0 < len(name) <= NAME_BYTES and not {*"{}"} & {*name} for name in template.names)


def _marked(
    unexplained: Iterable[str], templates: list[Template], tensors: Tensors, doubts: Mapping[str, str]
) -> Iterator[str]:
    """A line for each tensor, or for each of all layers, that no rule explains."""
    left = set(unexplained)
    for template in templates:
        if left.isdisjoint(template.names):
            continue
        name = template.names[0]
        shown = template.pattern or f"{name} ... {template.names[-1]}"
        kind = "" if tensors[name].dtype in FLOATS else f"  {tensors[name].dtype}"
        maybe = f"  could be {doubts[name]}" if doubts.get(name) else ""
        yield f"# ? {printable(shown)}  {template.shape}{kind}{maybe}"


def _text(dialect: Dialect, count: int, left: int, marks: list[str], missing: tuple[str, ...]) -> str:
    lines = [
        f"# Suggested from names and shapes: {count - left} of {count} tensors matched."
        + (" `# ?` marks what is left to do." if marks or missing else ""),
        f"name: {dialect.name}",
        f"family: {dialect.family}",
        "# numerics: {gelu: erf, eps: 1.0e-6}  # what no tensor shows: take them from the code that trained it",
        "rules:",
        *(f"  - {rule_text(rule)}" for rule in dialect.rules),
    ]
    if marks:
        lines += ["", "# ? theirs that nothing of ours explains yet: write a rule, or a drop with the reason", *marks]
        lines += ["# drop:", '#   - {theirs: "...", why: "..."}']
    if missing:
        lines += ["", "# ? ours that nothing of theirs gives yet", *(f"# ? {ours}" for ours in missing)]
    return "\n".join(lines) + "\n"
