"""Factors drawn into the weights: the same answers, by fewer operations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vitrail.bundle.formats import Form
from vitrail.engines import graphs
from vitrail.engines.facts import facts
from vitrail.engines.graph import read
from vitrail.models import ATTENTION, build, set_attention
from vitrail.models.catalog import variant
from vitrail.models.classifier import Classifier
from vitrail.models.configs import BEiTConfig, ViTConfig
from vitrail.models.folded import folded

SMALL = {"image_size": (32, 32), "classes": 5, "dim": 48, "depth": 2, "heads": 4, "patch": 8}
CONFIGS = {
    "vit": ViTConfig(**SMALL),  # type: ignore[arg-type]
    "vit with scales": ViTConfig(**SMALL, layer_scale=True, qkv_bias=False),  # type: ignore[arg-type]
    "vit of the mean": ViTConfig(**SMALL, pooling="mean", fc_norm=True),  # type: ignore[arg-type]
    "vit with a norm before the mean": ViTConfig(**SMALL, pooling="mean"),  # type: ignore[arg-type]
    "beit": BEiTConfig(**SMALL, layer_scale=True),  # type: ignore[arg-type]
    "beit without biases": BEiTConfig(**SMALL, layer_scale=False, qkv_bias=False),  # type: ignore[arg-type]
    "beit of the class token": BEiTConfig(**SMALL, pooling="class"),  # type: ignore[arg-type]
    "beit with biases of keys": BEiTConfig(**SMALL, key_bias=True),  # type: ignore[arg-type]
    "cct": variant("cct_2_3x2_32").config,
}
IMAGES = torch.randn(3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def network(name: str) -> nn.Module:
    """A network whose every parameter is random: of fresh scales and biases half are 0 or 1."""
    module = build(CONFIGS[name]).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return module


@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("name", CONFIGS)
def test_the_answers_are_the_same_and_the_source_is_left_alone(name: str, path: str) -> None:
    module = network(name)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    set_attention(module, path)  # type: ignore[arg-type]
    drawn = folded(module)
    with torch.no_grad():
        wanted, found = module(IMAGES), drawn(IMAGES)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    layers = [part for part in drawn.modules() if hasattr(part, ATTENTION)]
    assert len(layers) == CONFIGS[name].depth and all(layer.scale == 1.0 for layer in layers)
    assert not any("gamma" in key or "ls1" in key for key in drawn.state_dict())


def test_the_graph_has_fewer_products() -> None:
    config = CONFIGS["beit"]
    source = Classifier(network("beit").float(), config, variant("vit_2_4_32").policy, tuple("abcde"))
    operators = facts(read(graphs.write_onnx(source, Form())))["operators"]
    assert isinstance(operators, dict)
    assert operators["Mul"] == 2 * config.depth  # those of GELU; before, three more in each block


@pytest.mark.parametrize(
    ("name", "early"), [("beit", True), ("vit of the mean", True), ("vit with a norm before the mean", False)]
)
def test_the_last_layer_computes_the_mean_of_the_patches_alone(name: str, early: bool) -> None:
    drawn = folded(network(name))
    rows: list[int] = []
    last = drawn.get_submodule(f"blocks.{CONFIGS[name].depth - 1}.mlp.fc2")
    last.register_forward_hook(lambda module, inputs, output: rows.append(inputs[0].shape[1]))
    drawn(IMAGES)
    assert rows == [1 if early else CONFIGS[name].tokens]
