"""The cases of shared/reference as configs of ours, worked out from what their originals were constructed with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vitrail.models.catalog import variant
from vitrail.models.configs import BEiTConfig, CCTConfig, ModelConfig, ViTConfig

GELU = {"gelu": "erf", "gelu_new": "tanh", "gelu_tanh": "tanh"}


def google(name: str, c: Mapping[str, Any], shape: list[int]) -> tuple[str | ModelConfig, str]:
    if name.startswith("google_real"):
        return {"google_real_vit_b16": "vit_base_patch16_224", "google_real_r26_s32": "vit_small_r26_s32_224"}[
            name
        ], "google"
    t, resnet = c["transformer"], c.get("resnet")
    config = ViTConfig(
        image_size=(shape[2], shape[3]), classes=c["num_classes"], patch=c["patch"][0], dim=c["hidden_size"],
        depth=t["num_layers"], heads=t["num_heads"], mlp_ratio=t["mlp_dim"] / c["hidden_size"],
        pre_logits=c.get("representation_size") or 0, gelu="tanh",
    )  # fmt: skip
    if resnet is not None:
        config = replace(
            config, stem="resnet", stages=tuple(resnet["num_layers"]), stem_width=int(64 * resnet["width_factor"]),
            stem_numerics="google",
        )  # fmt: skip
    return config, "google"


def hf(name: str, c: Mapping[str, Any], shape: list[int]) -> tuple[str | ModelConfig, str]:
    common = {
        "image_size": (c["image_size"],) * 2, "channels": shape[1], "classes": c["num_labels"],
        "patch": c["patch_size"], "dim": c["hidden_size"], "depth": c["num_hidden_layers"],
        "heads": c["num_attention_heads"],
        "mlp_ratio": c["intermediate_size"] / c["hidden_size"], "eps": c.get("layer_norm_eps", 1e-12),
        "gelu": GELU[c.get("hidden_act", "gelu")],
    }  # fmt: skip
    if c["class"] == "vit":
        return ViTConfig(**common, qkv_bias=c.get("qkv_bias", True)), "huggingface"
    return BEiTConfig(
        **common,
        absolute_positions=c.get("use_absolute_position_embeddings", False),
        block_bias=c.get("use_relative_position_bias", False),
        shared_bias=c.get("use_shared_relative_position_bias", False),
        layer_scale=c.get("layer_scale_init_value", 0.1) > 0,
        pooling="mean" if c["use_mean_pooling"] else "class",
    ), "huggingface"


def keras(name: str, c: Mapping[str, Any], shape: list[int]) -> tuple[str | ModelConfig, str]:
    gelu = "quick" if name.startswith("tf001") else "erf"
    if "entry" in c:
        base = variant(
            {"vit_b16": "vit_base_patch16", "vit_b32": "vit_base_patch32"}[c["entry"]] + f"_{c['image_size']}"
        )
        return replace(base.config, classes=c["classes"], gelu=gelu), "keras"
    return ViTConfig(
        image_size=tuple(c["image_size"]), classes=c["classes"], patch=c["patch_size"], dim=c["hidden_size"],
        depth=c["num_layers"], heads=c["num_heads"], mlp_ratio=c["mlp_dim"] / c["hidden_size"],
        pre_logits=c.get("representation_size") or 0, gelu=gelu,
    ), "keras"  # fmt: skip


def mindspore(name: str, c: Mapping[str, Any], shape: list[int]) -> tuple[str | ModelConfig, str]:
    if "entry" in c:
        return c["entry"], "mindspore"
    if "_cct_" in name:
        return CCTConfig(
            image_size=(c["img_size"],) * 2, classes=c["num_classes"], kernel=c["kernel_size"], stride=c["stride"],
            padding=c["padding"], conv_layers=c["n_conv_layers"], dim=c["embedding_dim"], depth=c["num_layers"],
            heads=c["num_heads"], mlp_ratio=float(c["mlp_ratio"]), gelu="tanh", pool_padding="same",
            positions={"learnable": "learned", "sine": "sine"}[c["positional_embedding"]],
        ), "mindspore"  # fmt: skip
    if "_vit_" in name:
        dim = c["hidden_size"]
        return ViTConfig(
            image_size=tuple(c["img_size"]), classes=c["num_classes"], patch=c["patches_size"], dim=dim,
            depth=c["transformer_num_layers"], heads=c["transformer_num_heads"],
            mlp_ratio=c["transformer_mlp_dim"] / dim, gelu="tanh",
        ), "mindspore"  # fmt: skip
    ascend = not name.startswith("mindspore_beit004")
    return BEiTConfig(
        image_size=(c["img_size"],) * 2, classes=c["num_classes"], patch=c["patch_size"], dim=c["embed_dim"],
        depth=c["depth"], heads=c["num_heads"], absolute_positions=c["use_abs_pos_emb"],
        block_bias=c["use_rel_pos_bias"], gelu="tanh", eps=1e-5 if ascend else 1e-6,
        pooling="mean" if c.get("use_mean_pooling", True) else "class",
    ), "mindspore"  # fmt: skip


def unilm(name: str, c: Mapping[str, Any], shape: list[int]) -> tuple[str | ModelConfig, str]:
    if "entry" in c:
        return c["entry"], "unilm"
    return BEiTConfig(
        image_size=(c["img_size"],) * 2, classes=c["num_classes"], patch=c["patch_size"], dim=c["embed_dim"],
        depth=c["depth"], heads=c["num_heads"], absolute_positions=c["use_abs_pos_emb"],
        block_bias=c["use_rel_pos_bias"], shared_bias=c.get("use_shared_rel_pos_bias", False),
        layer_scale=bool(c["init_values"]), pooling="mean" if c.get("use_mean_pooling", True) else "class",
    ), "unilm"  # fmt: skip


WORLDS = {
    "google": google, "hf": hf, "keras2": keras, "keras3": keras, "tf001": keras, "mindspore": mindspore,
    "unilm": unilm,
}  # fmt: skip
