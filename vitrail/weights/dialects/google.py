"""Google's names for ViT and hybrids: github.com/google-research/vision_transformer and big_vision.

Three generations of names for one content, of flax' counters: `vit_jax` (all files of gs://vit_models), `linen` (what
the code writes today), `big_vision` (its position table stands at the top), `big_vision_scanned` (each tensor holds
all layers). Hybrids of before flax 0.3.6 hold their group norms as (1, 1, 1, C): the form `vit_jax_2020`.
"""

from __future__ import annotations

from types import MappingProxyType

from vitrail.weights.reshapes import (
    Reshape,
    convolution,
    output_heads,
    row,
    same,
    stack_head_biases,
    stack_heads,
    transpose,
)
from vitrail.weights.rules import Dialect, Drop, Rule

NUMERICS = MappingProxyType({"gelu": "tanh", "eps": 1e-6, "stem_numerics": "google"})
_QKV = ("query", "key", "value")


def _dense(ours: str, theirs: str, *, optional: bool = False) -> tuple[Rule, ...]:
    return (
        Rule(ours + ".weight", theirs + "/kernel", transpose, optional=optional),
        Rule(ours + ".bias", theirs + "/bias", optional=optional),
    )


def _norm(ours: str, theirs: str, reshape: Reshape = same, *, optional: bool = False) -> tuple[Rule, ...]:
    return (
        Rule(ours + ".weight", theirs + "/scale", reshape, optional=optional),
        Rule(ours + ".bias", theirs + "/bias", reshape, optional=optional),
    )


def _resnet(norm: Reshape) -> tuple[Rule, ...]:
    ours, theirs = "patch_embed.backbone.stages.{s}.blocks.{u}.", "block{s+1}/unit{u+1}/"
    units = [
        rule
        for n in (1, 2, 3)
        for rule in (
            Rule(f"{ours}conv{n}.weight", f"{theirs}conv{n}/kernel", convolution),
            *_norm(f"{ours}norm{n}", f"{theirs}gn{n}", norm),
        )
    ]
    return (
        Rule("patch_embed.backbone.stem.conv.weight", "conv_root/kernel", convolution, optional=True),
        *_norm("patch_embed.backbone.stem.norm", "gn_root", norm, optional=True),
        *units,
        Rule(ours + "downsample.conv.weight", theirs + "conv_proj/kernel", convolution, optional=True),
        *_norm(ours + "downsample.norm", theirs + "gn_proj", norm, optional=True),
    )


def _stem_alone(norm: Reshape) -> tuple[Rule, ...]:
    """R+Ti/16: the names of the stem lie one level higher in timm."""
    return (
        Rule("patch_embed.backbone.conv.weight", "conv_root/kernel", convolution),
        *_norm("patch_embed.backbone.norm", "gn_root", norm),
    )


def _google(
    form: str, stem: tuple[Rule, ...] = (), *, linen: bool = True, table: str = "pos_embedding", block: str = "_{i}"
) -> Dialect:
    ours, theirs = "blocks.{i}.", f"Transformer/encoderblock{block}/"
    attention = theirs + ("MultiHeadDotProductAttention_0/" if linen else "MultiHeadDotProductAttention_1/")
    mlp = theirs + ("MlpBlock_0/" if linen else "MlpBlock_3/")
    return Dialect(
        name="google",
        family="vit",
        form=form,
        prefixes=("opt/target/", "params/", "img/"),
        numerics=NUMERICS,
        rules=(
            Rule("cls_token", "cls", optional=True),
            Rule("pos_embed", table),
            *stem,
            Rule("patch_embed.proj.weight", "embedding/kernel", convolution),
            Rule("patch_embed.proj.bias", "embedding/bias"),
            *_norm(ours + "norm1", theirs + "LayerNorm_0"),
            Rule(ours + "attn.qkv.weight", tuple(f"{attention}{n}/kernel" for n in _QKV), stack_heads),
            Rule(ours + "attn.qkv.bias", tuple(f"{attention}{n}/bias" for n in _QKV), stack_head_biases),
            Rule(ours + "attn.proj.weight", attention + "out/kernel", output_heads),
            Rule(ours + "attn.proj.bias", attention + "out/bias"),
            *_norm(ours + "norm2", theirs + ("LayerNorm_1" if linen else "LayerNorm_2")),
            *_dense(ours + "mlp.fc1", mlp + "Dense_0"),
            *_dense(ours + "mlp.fc2", mlp + "Dense_1"),
            *_norm("norm", "Transformer/encoder_norm"),
            *_dense("pre_logits.fc", "pre_logits", optional=True),
            *_dense("head", "head", optional=True),
        ),
        drop=(
            Drop("opt/state/{*}", "optimizer state"),
            Drop("opt_state/{*}", "optimizer state"),
            Drop("params/t", "temperature of a text tower"),
            Drop("params/b", "bias of a text tower"),
            Drop("params/txt/{*}", "text tower"),
        ),
    )


_POSEMBED = "Transformer/posembed_input/pos_embedding"

TABLES = (
    _google("vit_jax", linen=False, table=_POSEMBED),
    _google("vit_jax, R+Ti", _stem_alone(same), linen=False, table=_POSEMBED),
    _google("vit_jax, R", _resnet(same), linen=False, table=_POSEMBED),
    _google("vit_jax_2020, R+Ti", _stem_alone(row), linen=False, table=_POSEMBED),
    _google("vit_jax_2020, R", _resnet(row), linen=False, table=_POSEMBED),
    _google("linen", table=_POSEMBED),
    _google("linen, R+Ti", _stem_alone(same), table=_POSEMBED),
    _google("linen, R", _resnet(same), table=_POSEMBED),
    _google("big_vision"),
    _google("big_vision_scanned", block=""),
)
