"""What other packages call their precisions, in plain words: `precision: mindspore_cct.O2` stands for what it did.

One word means different things in different packages (O1 computes in float32 in one, in fp16 in another), so it is said
with its package. A resolved recipe holds the plain values alone, and behind each of them the word that it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vitrail.errors import nearest
from vitrail.formats.yaml import Node
from vitrail.recipe.build import Builder
from vitrail.recipe.schema import Recipe
from vitrail.training.configs import DynamicScale


@dataclass(frozen=True)
class Meant:
    """precision, its loss scale (initial value, window), and the layers that stay in float32."""

    precision: str
    scale: tuple[float, int] | None = None
    fp32: tuple[str, ...] = ()


FP32, NORMS = Meant("fp32"), ("*norm*",)
# package.word -> what its code did. Softmax and GELU are as torch's autocast has them.
MEANT: dict[str, Meant] = {
    # mindspore/models research/cv/vit_base: the framework's own levels; O3 has no loss scale, O2 spares batch norms
    "mindspore_vit.O0":  FP32,
    "mindspore_vit.O2":  Meant("fp16", (2.0**24, 2000)),
    "mindspore_vit.O3":  Meant("fp16"),
    # mindspore/models research/cv/cct src/tools/get_misc.py cast_amp: O2 spares norms, convolutions and their pools
    "mindspore_cct.O0":  FP32,
    "mindspore_cct.O1":  FP32,
    "mindspore_cct.O2":  Meant("fp16", (2.0**12, 1000), (*NORMS, "tokenizer*")),
    "mindspore_cct.O3":  Meant("fp16", (2.0**12, 1000)),
    # BeitMindSpore src/tools/get_misc.py cast_amp
    "mindspore_beit.O0": FP32,
    "mindspore_beit.O1": Meant("fp16", (2.0**24, 2000), NORMS),
    "mindspore_beit.O2": Meant("fp16", (2.0**24, 2000), NORMS),
    "mindspore_beit.O3": Meant("fp16", (2.0**24, 2000)),
    # TF adapter, precision_mode. Its fixed scale of 2^32 lies beyond what fp16 holds: ours starts at 2^16 and adapts.
    "tensorflow.allow_fp32_to_fp16":     FP32,  # fp16 only where an operator has no float32
    "tensorflow.force_fp32":             FP32,
    "tensorflow.must_keep_origin_dtype": FP32,
    "tensorflow.force_fp16":             Meant("fp16", (2.0**16, 2000)),
    "tensorflow.allow_mix_precision":    Meant("fp16", (2.0**16, 2000), NORMS),
}  # fmt: skip


def in_plain_values(builder: Builder, root: Node) -> tuple[Node, Mapping[str, str]]:
    """The recipe with the plain values of its word, and where they came from: dotted key -> word.

    A word that is not known, or stands beside what it says itself, is noted as a problem.
    """
    given = root.value.get("precision") if isinstance(root.value, dict) else None
    if given is None or not isinstance(given.value, str) or not _is_word(given.value):
        return root, {}
    assert isinstance(root.value, dict)
    word, train = given.value, root.value.get("train", Node({}, given.line))
    if word not in MEANT:
        owners = [known for known in MEANT if known.partition(".")[2] == word]
        more = f"say whose: {', '.join(owners)}" if owners else nearest(word, MEANT)
        builder.note(given, "precision", f"`{word}` is no precision; {more}".rstrip("; "))
        return Node({**root.value, "precision": Node("auto", given.line)}, root.line), {}
    if not isinstance(train.value, dict):
        return Node({**root.value, "precision": Node(MEANT[word].precision, given.line)}, root.line), {}
    said, origins = _said(MEANT[word], given.line), {"precision": word}
    for key, node in said.items():
        if key in train.value:
            builder.note(train.value[key], f"train.{key}", f"stands beside precision `{word}`, which says it")
        names = node.value if isinstance(node.value, dict) else ()
        origins |= {f"train.{key}.{name}": word for name in names} or {f"train.{key}": word}
    whole = {**root.value, "precision": Node(MEANT[word].precision, given.line)}
    if said:
        whole["train"] = Node({**train.value, **said}, train.line)
    return Node(whole, root.line), origins


def _is_word(text: str) -> bool:
    return "." in text or any(known.partition(".")[2] == text for known in MEANT)


def _said(meant: Meant, line: int) -> dict[str, Node]:
    """The keys of `train` that the word sets."""
    said = {}
    if meant.scale is not None:
        initial, window = meant.scale
        values: dict[str, str | int | float] = {"name": "dynamic", "initial": initial, "factor": 2.0, "window": window}
        said["loss_scale"] = Node({key: Node(value, line) for key, value in values.items()}, line)
    if meant.fp32:
        said["fp32"] = Node([Node(name, line) for name in meant.fp32], line)
    return said


def in_words(recipe: Recipe) -> str | None:
    """What the word of a recipe's precision was resolved to, in one line; None where it uses none.

    >>> from vitrail.recipe import load_recipe
    >>> in_words(load_recipe("digits/cct_2_3x2_32", ["precision=mindspore_cct.O1"]))
    'precision mindspore_cct.O1 means fp32'
    """
    word = recipe.origins.get("precision")
    if word not in MEANT:
        return None
    scale = recipe.train.loss_scale
    parts = [f"precision {word} means {recipe.precision}"]
    if isinstance(scale, DynamicScale):
        parts.append(f"its loss scale from {scale.initial:g}, times {scale.factor:g} after {scale.window} steps")
    elif recipe.precision == "fp16":
        parts.append("without a loss scale")
    if recipe.train.fp32:
        parts.append(f"in float32: {', '.join(recipe.train.fp32)}")
    return "; ".join(parts)
