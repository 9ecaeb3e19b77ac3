"""SHI-Labs' names for CCT, CVT and ViT-Lite: github.com/SHI-Labs/Compact-Transformers src/ at cd11f091.

They are our own names too, so that this table is the identity.
"""

from __future__ import annotations

from types import MappingProxyType

from vitrail.weights.dialects.timm import PREFIXES, affine, same_names
from vitrail.weights.rules import Dialect

_BLOCK = "classifier.blocks.{i}."

SHI_LABS = Dialect(
    name="shi_labs",
    family="cct",
    prefixes=PREFIXES,
    numerics=MappingProxyType({"gelu": "erf", "pool_padding": "torch"}),
    rules=(
        *same_names("tokenizer.conv_layers.{j}.0.weight"),
        *same_names("tokenizer.conv_layers.{j}.0.bias", optional=True),  # CVT and ViT-Lite
        *same_names("classifier.class_emb", optional=True),  # ViT-Lite
        *same_names("classifier.positional_emb", optional=True),  # learned or sine, absent for none
        *same_names(*affine("classifier.attention_pool"), optional=True),  # CCT and CVT
        *same_names(*affine(_BLOCK + "pre_norm"), _BLOCK + "self_attn.qkv.weight"),
        *same_names(*affine(_BLOCK + "self_attn.proj"), *affine(_BLOCK + "norm1")),
        *same_names(*affine(_BLOCK + "linear1"), *affine(_BLOCK + "linear2")),
        *same_names(*affine("classifier.norm"), *affine("classifier.fc")),
    ),
)
