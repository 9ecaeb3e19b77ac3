"""Tiny networks of every kind that is exported: what each family can be told apart by, two blocks of it."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from tests.bundle.tiny import CLASSES
from vitrail.bundle.formats import Form
from vitrail.engines import graphs
from vitrail.models import build
from vitrail.models.classifier import Classifier
from vitrail.models.configs import BEiTConfig, CCTConfig, ModelConfig, ViTConfig
from vitrail.pictures.policy import Policy

SMALL = {"classes": 5, "dim": 32, "depth": 2, "heads": 4}
VIT = {**SMALL, "image_size": (16, 24), "patch": 8, "mlp_ratio": 2.0}
STEM = {**SMALL, "image_size": (32, 48), "stem": "resnet", "stem_width": 32, "mlp_ratio": 2.0}

NETWORKS: dict[str, ModelConfig] = {
    name: kind(**settings)  # type: ignore[arg-type]
    for name, kind, settings in (
        ("vit",           ViTConfig,  VIT),
        ("vit mean",      ViTConfig,  {**VIT, "class_token": False, "pooling": "mean", "fc_norm": True, "channels": 1,
                                       "gelu": "tanh", "layer_scale": True}),
        ("vit registers", ViTConfig,  {**VIT, "register_tokens": 4, "class_position": False, "pre_norm": True,
                                       "pre_logits": 16, "qkv_bias": False, "gelu": "quick", "eps": 1e-5}),
        ("vit distilled", ViTConfig,  {**VIT, "distilled": True}),
        ("hybrid",        ViTConfig,  {**STEM, "stages": (1, 2), "patch": 1, "stem_numerics": "google"}),
        ("hybrid stem",   ViTConfig,  {**STEM, "patch": 4}),
        ("beit",          BEiTConfig, VIT),
        ("beit class",    BEiTConfig, {**VIT, "pooling": "class", "shared_bias": True, "block_bias": False,
                                       "absolute_positions": True, "layer_scale": False, "gelu": "tanh"}),
        ("beit key bias", BEiTConfig, {**VIT, "shared_bias": True, "key_bias": True, "eps": 1e-5}),
        ("cct same",      CCTConfig,  {**SMALL, "image_size": (30, 21), "conv_layers": 2, "conv_width": 16,
                                       "mlp_ratio": 1.0, "pool_padding": "same", "gelu": "tanh"}),
    )
}  # fmt: skip

# Writing a graph takes seconds: these are written in every test run, the others in the long one.
QUICK = ("vit mean", "vit registers", "vit distilled", "hybrid", "beit", "beit class", "cct same")
KINDS = [name if name in QUICK else pytest.param(name, marks=pytest.mark.prove) for name in NETWORKS]


@functools.cache
def classifier(name: str) -> Classifier:
    """The network with weights that are large on purpose: every bias, scale and table matters."""
    config = NETWORKS[name]
    module = build(config)
    rng = np.random.default_rng(3)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = rng.standard_normal(parameter.shape)
            value = noise / np.sqrt(np.sqrt(noise.size)) if noise.ndim > 1 else 0.1 * noise
            parameter.copy_(torch.from_numpy(value + (noise.ndim == 1 and bool((parameter != 0).all()))))
    policy = Policy(size=config.image_size, crop=0.9, mean=(0.5,) * config.channels, std=(0.5,) * config.channels)
    return Classifier(module, config, policy, CLASSES, {"weights": "random", "variant": name, "seed": 3})


@functools.cache
def graph(name: str) -> bytes:
    """The network as an ONNX file."""
    return graphs.write_onnx(classifier(name), Form())
