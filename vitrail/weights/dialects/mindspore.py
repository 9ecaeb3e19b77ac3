"""The names of four MindSpore networks.

mindspore-ai/models research/cv/vit_base and research/cv/cct; Holidays1999/BeitMindSpore (form `beit`: q, k, v apart);
kaierlong/BEiT-Ascend (form `beit_ascend`: q, k, v in one, a bias for keys too). All use the tanh form of GELU.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from vitrail.models.configs import BEiTConfig, ModelConfig
from vitrail.models.tables import relative_index
from vitrail.weights.dialects.timm import affine, same_names
from vitrail.weights.reshapes import Array, stack
from vitrail.weights.rules import Dialect, Drop, Made, Rule

_STATE = "optimizer and training state"
DROP = (
    *(Drop(name, _STATE) for name in (
        "global_step", "momentum", "learning_rate", "scale_sense", "beta1_power", "beta2_power",
        "current_iterator_step", "last_overflow_iterator_step", "epoch_num", "step_num", "epoch", "step", "lr", "loss",
    )),
    *(Drop(name + ".{*}", _STATE) for name in ("moments", "adam_m", "adam_v", "moment1", "moment2", "accum", "stat")),
)  # fmt: skip
PREFIXES = ("model.",)  # the network inside its loss cell


def _norm(ours: str, theirs: str, *, optional: bool = False) -> tuple[Rule, ...]:
    return (
        Rule(ours + ".weight", theirs + ".gamma", optional=optional),
        Rule(ours + ".bias", theirs + ".beta", optional=optional),
    )


def _layer(ours: str, theirs: str, *, optional: bool = False) -> tuple[Rule, ...]:
    return tuple(Rule(a, b, optional=optional) for a, b in zip(affine(ours), affine(theirs), strict=True))


def _vit() -> Dialect:
    ours, theirs = "blocks.{i}.", "transformer.encoder.layer.{i}."
    qkv = [f"{theirs}attn.{name}." for name in ("query", "key", "value")]
    return Dialect(
        name="mindspore",
        family="vit",
        form="vit_base",
        prefixes=PREFIXES,
        numerics=MappingProxyType({"gelu": "tanh", "eps": 1e-6}),
        rules=(
            Rule("pos_embed", "transformer.embeddings.position_embeddings"),
            Rule("cls_token", "transformer.embeddings.cls_token"),
            *_layer("patch_embed.proj", "transformer.embeddings.patch_embeddings"),
            *_norm(ours + "norm1", theirs + "attention_norm"),
            *_norm(ours + "norm2", theirs + "ffn_norm"),
            *_layer(ours + "mlp.fc1", theirs + "ffn.fc1"),
            *_layer(ours + "mlp.fc2", theirs + "ffn.fc2"),
            Rule(ours + "attn.qkv.weight", tuple(name + "weight" for name in qkv), stack),
            Rule(ours + "attn.qkv.bias", tuple(name + "bias" for name in qkv), stack),
            *_layer(ours + "attn.proj", theirs + "attn.out"),
            *_norm("norm", "transformer.encoder.encoder_norm"),
            *_layer("head", "head"),
        ),
        drop=DROP,
    )


def _cct() -> Dialect:
    block = "classifier.blocks.{i}."
    return Dialect(
        name="mindspore",
        family="cct",
        form="cct",
        prefixes=PREFIXES,
        numerics=MappingProxyType({"gelu": "tanh", "pool_padding": "same"}),
        rules=(
            *same_names("tokenizer.conv_layers.{j}.0.weight"),
            *same_names("classifier.positional_emb", optional=True),  # a sine table need not be there
            *same_names(*affine("classifier.attention_pool")),
            *_norm(block + "pre_norm", block + "pre_norm"),
            Rule(block + "self_attn.qkv.weight", tuple(f"{block}self_attn.{n}.weight" for n in "qkv"), stack),
            *same_names(*affine(block + "self_attn.proj")),
            *_layer(block + "linear1", block + "fc1"),
            *_norm(block + "norm1", block + "norm1"),
            *_layer(block + "linear2", block + "fc2"),
            *_norm("classifier.norm", "classifier.norm"),
            *same_names(*affine("classifier.fc")),
        ),
        drop=DROP,
    )


def _index(config: ModelConfig) -> Array:
    assert isinstance(config, BEiTConfig)
    return relative_index(config.grid).astype(np.int32)


def _beit(form: str, attention: tuple[Rule, ...], numerics: dict[str, object]) -> Dialect:
    block = "blocks.{i}."
    return Dialect(
        name="mindspore",
        family="beit",
        form=form,
        prefixes=PREFIXES,
        numerics=MappingProxyType(numerics),
        rules=(
            *same_names("cls_token"),
            *same_names("pos_embed", optional=True),
            *same_names(*affine("patch_embed.proj")),
            *same_names(block + "gamma_1", block + "gamma_2", optional=True),
            *_norm(block + "norm1", block + "norm1"),
            *attention,
            *same_names(*affine(block + "attn.proj")),
            *_norm(block + "norm2", block + "norm2"),
            *same_names(*affine(block + "mlp.fc1"), *affine(block + "mlp.fc2")),
            *_norm("norm", "norm", optional=True),
            *_norm("fc_norm", "fc_norm", optional=True),
            *same_names(*affine("head")),
        ),
        made=(
            Made(block + "attn.relative_position_index", _index, beside=block + "attn.relative_position_bias_table"),
        ),
        drop=DROP,
    )


_ATTENTION = "blocks.{i}.attn."
_TABLE = same_names(_ATTENTION + "relative_position_bias_table", optional=True)

TABLES = (
    _vit(),
    _cct(),
    _beit(
        "beit",
        (
            *_TABLE,
            Rule(_ATTENTION + "qkv.weight", tuple(f"{_ATTENTION}{n}.weight" for n in "qkv"), stack),
            Rule(_ATTENTION + "q_bias", _ATTENTION + "q.bias", optional=True),
            Rule(_ATTENTION + "v_bias", _ATTENTION + "v.bias", optional=True),
        ),
        {"gelu": "tanh", "eps": 1e-6},
    ),
    _beit(
        "beit_ascend",
        (
            *same_names(_ATTENTION + "q_bias", _ATTENTION + "v_bias"),
            *same_names(_ATTENTION + "k_bias", optional=True),  # zero, and of no effect
            *_TABLE,
            *same_names(_ATTENTION + "qkv.weight"),
        ),
        {"gelu": "tanh", "eps": 1e-5},
    ),
)
