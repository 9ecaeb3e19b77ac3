"""timm's names for ViT, hybrids and BEiT: github.com/huggingface/pytorch-image-models timm/models, 0.5.4 to 1.0.

They are our own names too, so that these tables are the identity. `pre_logits` and `head_dist` are of timm 0.5.
"""

from __future__ import annotations

from types import MappingProxyType

from vitrail.weights.rules import Dialect, Drop, Rule

PREFIXES = ("module.", "model.")  # DistributedDataParallel and training wrappers


def same_names(*names: str, optional: bool = False) -> tuple[Rule, ...]:
    """Rules for tensors that are called there as here."""
    return tuple(Rule(name, name, optional=optional) for name in names)


def affine(name: str) -> tuple[str, str]:
    """The two tensors of a layer."""
    return name + ".weight", name + ".bias"


_BLOCK = "blocks.{i}."
_UNIT = "patch_embed.backbone.stages.{s}.blocks.{u}."

NUMERICS = MappingProxyType({"gelu": "erf", "eps": 1e-6})

VIT = Dialect(
    name="timm",
    family="vit",
    prefixes=PREFIXES,
    numerics=MappingProxyType({**NUMERICS, "stem_numerics": "timm"}),
    rules=(
        *same_names("cls_token", "dist_token", "reg_token", optional=True),
        *same_names("pos_embed"),
        *same_names(  # the stem of R+Ti
            "patch_embed.backbone.conv.weight", *affine("patch_embed.backbone.norm"), optional=True
        ),
        *same_names("patch_embed.backbone.stem.conv.weight", *affine("patch_embed.backbone.stem.norm"), optional=True),
        *same_names(_UNIT + "downsample.conv.weight", *affine(_UNIT + "downsample.norm"), optional=True),
        *same_names(_UNIT + "conv1.weight", *affine(_UNIT + "norm1")),
        *same_names(_UNIT + "conv2.weight", *affine(_UNIT + "norm2")),
        *same_names(_UNIT + "conv3.weight", *affine(_UNIT + "norm3")),
        *same_names("patch_embed.proj.weight"),
        *same_names("patch_embed.proj.bias", *affine("norm_pre"), optional=True),
        *same_names(*affine(_BLOCK + "norm1"), _BLOCK + "attn.qkv.weight"),
        *same_names(_BLOCK + "attn.qkv.bias", optional=True),
        *same_names(*affine(_BLOCK + "attn.proj")),
        *same_names(_BLOCK + "ls1.gamma", optional=True),
        *same_names(*affine(_BLOCK + "norm2"), *affine(_BLOCK + "mlp.fc1"), *affine(_BLOCK + "mlp.fc2")),
        *same_names(_BLOCK + "ls2.gamma", optional=True),
        *same_names(*affine("norm"), *affine("fc_norm"), *affine("pre_logits.fc"), optional=True),
        *same_names(*affine("head"), *affine("head_dist"), optional=True),
    ),
)

BEIT_RULES = (
    *same_names("cls_token"),
    *same_names("pos_embed", optional=True),
    *same_names(*affine("patch_embed.proj")),
    *same_names("rel_pos_bias.relative_position_bias_table", optional=True),
    *same_names(_BLOCK + "gamma_1", _BLOCK + "gamma_2", optional=True),
    *same_names(*affine(_BLOCK + "norm1")),
    *same_names(_BLOCK + "attn.q_bias", _BLOCK + "attn.k_bias", _BLOCK + "attn.v_bias", optional=True),
    *same_names(_BLOCK + "attn.relative_position_bias_table", optional=True),
    *same_names(_BLOCK + "attn.qkv.weight", *affine(_BLOCK + "attn.proj"), *affine(_BLOCK + "norm2")),
    *same_names(*affine(_BLOCK + "mlp.fc1"), *affine(_BLOCK + "mlp.fc2")),
    *same_names(*affine("norm"), *affine("fc_norm"), *affine("head"), optional=True),
)

# what masked-image pre-training leaves in a file
PRETRAINING = (
    Drop("mask_token", "stands for hidden patches, in pre-training only"),
    Drop("lm_head.{*}", "answers with codes of a tokenizer, in pre-training only"),
    Drop("cls_pt_layers.{*}", "blocks before `lm_head`, in pre-training only"),  # BEiT v2
)

BEIT = Dialect(name="timm", family="beit", prefixes=PREFIXES, numerics=NUMERICS, rules=BEIT_RULES, drop=PRETRAINING)
