"""SHI-Labs' names for CCT, CVT and ViT-Lite: github.com/SHI-Labs/Compact-Transformers src/ at cd11f091.

They are our own names too, so that this table is the identity.
"""

from __future__ import annotations

from vitrail.weights.rules import Dialect, Rule


def _same(name: str, *, optional: bool = False) -> Rule:
    return Rule(name, name, optional=optional)


BLOCK = "classifier.blocks.{i}."

SHI_LABS = Dialect(
    name="shi_labs",
    family="cct",
    rules=(
        _same("tokenizer.conv_layers.{j}.0.weight"),
        _same("tokenizer.conv_layers.{j}.0.bias",   optional=True),  # CVT and ViT-Lite
        _same("classifier.class_emb",               optional=True),  # ViT-Lite
        _same("classifier.positional_emb",          optional=True),  # learned or sine, absent for none
        _same("classifier.attention_pool.weight",   optional=True),  # CCT and CVT
        _same("classifier.attention_pool.bias",     optional=True),
        _same(BLOCK + "pre_norm.weight"),
        _same(BLOCK + "pre_norm.bias"),
        _same(BLOCK + "self_attn.qkv.weight"),
        _same(BLOCK + "self_attn.proj.weight"),
        _same(BLOCK + "self_attn.proj.bias"),
        _same(BLOCK + "norm1.weight"),
        _same(BLOCK + "norm1.bias"),
        _same(BLOCK + "linear1.weight"),
        _same(BLOCK + "linear1.bias"),
        _same(BLOCK + "linear2.weight"),
        _same(BLOCK + "linear2.bias"),
        _same("classifier.norm.weight"),
        _same("classifier.norm.bias"),
        _same("classifier.fc.weight"),
        _same("classifier.fc.bias"),
    ),
)  # fmt: skip
