"""The names of Hugging Face's transformers for ViT and BEiT: files of 4.x, which 5.x writes too, and 5.x in memory."""

from __future__ import annotations

from types import MappingProxyType

from vitrail.weights.dialects.timm import affine
from vitrail.weights.reshapes import stack
from vitrail.weights.rules import Dialect, Drop, Rule

NUMERICS = MappingProxyType({"eps": 1e-12})  # of its config classes; a config.json beside the file says its own

_INDEX = "computed from the grid"


def _layer(ours: str, theirs: str, *, optional: bool = False) -> tuple[Rule, ...]:
    return tuple(Rule(a, b, optional=optional) for a, b in zip(affine(ours), affine(theirs), strict=True))


def _embeddings(root: str) -> tuple[Rule, ...]:
    return (
        Rule("cls_token", root + "embeddings.cls_token"),
        Rule("pos_embed", root + "embeddings.position_embeddings", optional=True),
        *_layer("patch_embed.proj", root + "embeddings.patch_embeddings.projection"),
    )


def _encoder(layer: str) -> tuple[Rule, ...]:
    """What comes after attention's own inputs in a block, in either generation of names."""
    old = ".encoder.layer." in f".{layer}"
    names = ("attention.output.dense", "intermediate.dense", "output.dense")
    out, fc1, fc2 = names if old else ("attention.o_proj", "mlp.fc1", "mlp.fc2")
    return (
        *_layer("blocks.{i}.attn.proj", layer + out),
        *_layer("blocks.{i}.norm1", layer + "layernorm_before"),
        *_layer("blocks.{i}.norm2", layer + "layernorm_after"),
        *_layer("blocks.{i}.mlp.fc1", layer + fc1),
        *_layer("blocks.{i}.mlp.fc2", layer + fc2),
    )


def _qkv(layer: str, kind: str) -> tuple[str, str, str]:
    old = ".encoder.layer." in f".{layer}"
    names = ("query", "key", "value") if old else ("q_proj", "k_proj", "v_proj")
    root = "attention.attention." if old else "attention."
    q, k, v = (f"{layer}{root}{name}.{kind}" for name in names)
    return q, k, v


def _vit(form: str, root: str, layer: str, *, classifier: bool) -> Dialect:
    """A bare ViTModel has a pooler where the classifier has its head."""
    ours = "blocks.{i}."
    top = (
        _layer("head", "classifier", optional=True)
        if classifier
        else _layer("pre_logits.fc", root + "pooler.dense", optional=True)
    )
    return Dialect(
        name="huggingface",
        family="vit",
        form=form,
        numerics=NUMERICS,
        rules=(
            *_embeddings(root),
            Rule(ours + "attn.qkv.weight", _qkv(root + layer, "weight"), stack),
            Rule(ours + "attn.qkv.bias", _qkv(root + layer, "bias"), stack, optional=True),
            *_encoder(root + layer),
            *_layer("norm", root + "layernorm"),
            *top,
        ),
        drop=(Drop(root + "embeddings.mask_token", "stands for hidden patches, in pre-training only"),),
    )


def _beit(form: str, root: str, layer: str, shared: str, block: str, *, masked: bool = False) -> Dialect:
    """masked: a network of pre-training, whose last norm stands at the top, before `lm_head`."""
    ours, their = "blocks.{i}.", root + layer
    query, _, value = _qkv(their, "bias")
    table = "relative_position_bias.relative_position_bias_table"
    return Dialect(
        name="huggingface",
        family="beit",
        form=form,
        numerics=NUMERICS,
        rules=(
            *_embeddings(root),
            Rule("rel_pos_bias.relative_position_bias_table", root + shared + "relative_position_bias_table",
                 optional=True),
            Rule(ours + "attn.qkv.weight", _qkv(their, "weight"), stack),
            Rule(ours + "attn.q_bias", query, optional=True),
            Rule(ours + "attn.v_bias", value, optional=True),
            Rule(ours + "attn.relative_position_bias_table", their + block + table, optional=True),
            Rule(ours + "gamma_1", their + "lambda_1", optional=True),
            Rule(ours + "gamma_2", their + "lambda_2", optional=True),
            *_encoder(their),
            *_layer("norm", "layernorm" if masked else root + "layernorm", optional=True),
            *_layer("fc_norm", root + "pooler.layernorm", optional=True),
            *_layer("head", "classifier", optional=True),
        ),
        drop=(
            Drop(root + "embeddings.mask_token", "stands for hidden patches, in pre-training only"),
            Drop("lm_head.{*}", "answers with codes of a tokenizer, in pre-training only"),
            Drop(their + block + "relative_position_bias.relative_position_index", _INDEX),
            Drop(root + shared + "relative_position_index", _INDEX),
        ),
    )  # fmt: skip


_OLD, _NEW = "encoder.layer.{i}.", "layers.{i}."
_BLOCK_TABLE = "attention.attention."

TABLES = (
    _vit("", "vit.", _OLD, classifier=True),
    _vit("ViTModel", "", _OLD, classifier=False),
    _vit("ViTModel with prefix", "vit.", _OLD, classifier=False),
    _vit("in memory, 5.x", "vit.", _NEW, classifier=True),
    _vit("ViTModel in memory, 5.x", "", _NEW, classifier=False),
    _beit("", "beit.", _OLD, "encoder.relative_position_bias.", _BLOCK_TABLE),
    _beit("BeitForMaskedImageModeling", "beit.", _OLD, "encoder.relative_position_bias.", _BLOCK_TABLE, masked=True),
    _beit("BeitModel", "", _OLD, "encoder.relative_position_bias.", _BLOCK_TABLE),
    _beit("in memory, 5.x", "beit.", _NEW, "shared_position_bias.", ""),
)
