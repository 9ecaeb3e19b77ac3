"""Keras' names for ViT: github.com/faustomorales/vit-keras 0.1 (Keras 2) and 0.2 (Keras 3), and its fork for TF 1.15.

One network, and a way of naming for every way of saving it: variables, `.h5`, `.weights.h5`, two checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from vitrail.weights.reshapes import convolution, stack, stack_transposed, transpose
from vitrail.weights.rules import Dialect, Drop, Rename, Rule

NUMERICS = MappingProxyType({"gelu": "erf", "eps": 1e-6})


@dataclass(frozen=True)
class _Names:
    """What stands where. block: before every name of a block. pair: kernel and bias, norm: gamma and beta."""

    embedding: str = "embedding/"
    cls: str = "class_token/cls"
    table: str = "Transformer/posembed_input/pos_embedding"
    block: str = "Transformer/encoderblock_{i}/"
    attention: str = "MultiHeadDotProductAttention_1/"
    parts: tuple[str, str, str, str] = ("query", "key", "value", "out")
    norms: tuple[str, str] = ("LayerNorm_0/", "LayerNorm_2/")
    dense: tuple[str, str] = ("Dense_0/", "Dense_1/")
    last_norm: str = "Transformer/encoder_norm/"
    pre_logits: str = "pre_logits/"
    head: str = "head/"
    pair: tuple[str, str] = ("kernel", "bias")
    norm: tuple[str, str] = ("gamma", "beta")

    def rules(self) -> tuple[Rule, ...]:
        """In the order of Keras' own list of variables."""
        kernel, bias = self.pair
        ours, attention = "blocks.{i}.", self.block + self.attention
        *qkv, out = (f"{attention}{part}/" for part in self.parts)
        return (
            Rule("patch_embed.proj.weight", self.embedding + kernel, convolution),
            Rule("patch_embed.proj.bias", self.embedding + bias),
            Rule("cls_token", self.cls),
            Rule("pos_embed", self.table),
            Rule(ours + "attn.qkv.weight", tuple(part + kernel for part in qkv), stack_transposed),
            Rule(ours + "attn.qkv.bias", tuple(part + bias for part in qkv), stack),
            *self._dense(ours + "attn.proj", out),
            *self._dense(ours + "mlp.fc1", self.block + self.dense[0]),
            *self._dense(ours + "mlp.fc2", self.block + self.dense[1]),
            *self._norm(ours + "norm1", self.block + self.norms[0]),
            *self._norm(ours + "norm2", self.block + self.norms[1]),
            *self._norm("norm", self.last_norm),
            *(self._dense("pre_logits.fc", self.pre_logits, optional=True) if self.pre_logits else ()),
            *self._dense("head", self.head, optional=True),
        )

    def _dense(self, ours: str, theirs: str, *, optional: bool = False) -> tuple[Rule, ...]:
        kernel, bias = self.pair
        return (
            Rule(ours + ".weight", theirs + kernel, transpose, optional=optional),
            Rule(ours + ".bias", theirs + bias, optional=optional),
        )

    def _norm(self, ours: str, theirs: str) -> tuple[Rule, ...]:
        return Rule(ours + ".weight", theirs + self.norm[0]), Rule(ours + ".bias", theirs + self.norm[1])


_VARIABLES = _Names()
_KERAS3 = _Names(
    table="Transformer_posembed_input/pos_embedding",
    block="Transformer_encoderblock_{i}/",
    dense=(
        "MlpBlock_3/Transformer_encoderblock_{i}_Dense_0/",
        "MlpBlock_3/Transformer_encoderblock_{i}_Dense_1/",
    ),
    last_norm="Transformer_encoder_norm/",
)
# the fork: the names of the MLP's layers repeat the block's
_TF1 = _Names(
    dense=("MlpBlock_3/Transformer/encoderblock_{i}/Dense_0/", "MlpBlock_3/Transformer/encoderblock_{i}/Dense_1/")
)
# Keras 3 numbers the layers of a class; its files know no other names
_POSITIONS = _Names(
    embedding="layers/conv2d/vars/",
    cls="layers/class_token/vars/0",
    table="layers/add_position_embs/vars/0",
    block="layers/transformer_block{_i}/",
    attention="att/",
    parts=("query_dense/vars", "key_dense/vars", "value_dense/vars", "combine_heads/vars"),
    norms=("layernorm1/vars/", "layernorm2/vars/"),
    dense=("mlpblock/layers/dense/vars/", "mlpblock/layers/dense_1/vars/"),
    last_norm="layers/layer_normalization/vars/",
    pre_logits="",
    head="layers/dense/vars/",
    pair=("0", "1"),
    norm=("0", "1"),
)
_POSITIONS_PRE_LOGITS = replace(_POSITIONS, pre_logits="layers/dense/vars/", head="layers/dense_1/vars/")


def _with_zero(names: _Names) -> _Names:
    """TensorFlow's variables end in `:0`."""
    return replace(
        names,
        cls=names.cls + ":0",
        table=names.table + ":0",
        pair=("kernel:0", "bias:0"),
        norm=("gamma:0", "beta:0"),
    )


def _in_layers(names: _Names) -> _Names:
    """A weights file of Keras 2: each variable's name stands in the group of its layer, whose name it repeats."""

    def twice(layer: str) -> str:
        return f"{layer}{layer}"

    return replace(
        names,
        embedding=twice(names.embedding),
        cls="class_token/" + names.cls,
        table="Transformer/posembed_input/" + names.table,
        block=twice(names.block),
        last_norm=twice(names.last_norm),
        pre_logits=twice(names.pre_logits),
        head=twice(names.head),
    )


_OBJECT = re.compile(r"layer_with_weights-(0|[1-9][0-9]{0,4})/(.+)/\.ATTRIBUTES/VARIABLE_VALUE")
_WORDS = (
    ("att/combine_heads/", "MultiHeadDotProductAttention_1/out/"),
    ("att/query_dense/", "MultiHeadDotProductAttention_1/query/"),
    ("att/key_dense/", "MultiHeadDotProductAttention_1/key/"),
    ("att/value_dense/", "MultiHeadDotProductAttention_1/value/"),
    ("layernorm1/", "LayerNorm_0/"),
    ("layernorm2/", "LayerNorm_2/"),
    ("mlpblock/layer_with_weights-0/", "Dense_0/"),
    ("mlpblock/layer_with_weights-1/", "Dense_1/"),
)


def _of_objects(names: Sequence[str]) -> Mapping[str, str]:
    """A checkpoint of Keras' objects: layers are numbered, so that what a number means follows from all names."""
    found = {name: match for name in names if (match := _OBJECT.fullmatch(name))}
    blocks = {int(match[1]) for match in found.values() if match[2].startswith("att/")}
    after = max(blocks, default=2) + 1
    last = max((int(match[1]) for match in found.values()), default=0)
    return {
        name: _of_object(int(match[1]), match[2], after, last) if (match := found.get(name)) else name for name in names
    }


def _of_object(layer: int, rest: str, after: int, last: int) -> str:
    fixed = {0: f"embedding/{rest}", 1: f"class_token/{rest}", 2: _TABLES.get(rest, rest)}
    if layer in fixed:
        return fixed[layer]
    if layer < after:
        for theirs, ours in _WORDS:
            rest = rest.replace(theirs, ours) if rest.startswith(theirs) else rest
        return f"Transformer/encoderblock_{layer - 3}/{rest}"
    top = ["Transformer/encoder_norm", *(["pre_logits"] if last == after + 2 else []), "head"]
    place = layer - after
    return f"{top[place]}/{rest}" if place < len(top) else f"layer_with_weights-{layer}/{rest}"


_TABLES = {"pe": "Transformer/posembed_input/pos_embedding"}


_SLOTS = (
    Drop("{*}/Momentum", "optimizer state"),
    Drop("{*}/Adam", "optimizer state"),
    Drop("{*}/Adam_1", "optimizer state"),
    Drop("{*}/.OPTIMIZER_SLOT/{*}", "optimizer state"),
    Drop("optimizer/{*}", "optimizer state"),
    Drop("optimizer_weights/{*}", "optimizer state"),
    Drop("global_step", "optimizer state"),
    Drop("beta1_power", "optimizer state"),
    Drop("beta2_power", "optimizer state"),
    Drop("loss_scale{*}", "loss scale"),
    Drop("save_counter/.ATTRIBUTES/VARIABLE_VALUE", "count of savings"),
    Drop("keras_api/{*}", "training state"),
    Drop("vars/{*}", "training state"),
)


def _keras(form: str, names: _Names, *, containers: tuple[str, ...] = (), rename: Rename | None = None) -> Dialect:
    return Dialect(
        name="keras",
        family="vit",
        form=form,
        prefixes=("model_weights/",),
        numerics=NUMERICS,
        rules=names.rules(),
        drop=_SLOTS,
        containers=containers,
        rename=rename,
    )


TABLES = (
    _keras("Keras 2 file", _in_layers(_with_zero(_VARIABLES)), containers=(".h5",)),
    _keras("Keras 3 file", _POSITIONS, containers=(".weights.h5",)),
    _keras("Keras 3 file, pre_logits", _POSITIONS_PRE_LOGITS, containers=(".weights.h5",)),
    _keras("Keras 2 variables", _with_zero(_VARIABLES)),
    _keras("Keras 3 variables", _KERAS3),
    _keras("TF 1 fork variables", _with_zero(_TF1)),
    _keras("TF 1 fork checkpoint", _TF1),
    _keras("checkpoint of variables", _VARIABLES),
    _keras("checkpoint of objects", _VARIABLES, rename=_of_objects),
)
