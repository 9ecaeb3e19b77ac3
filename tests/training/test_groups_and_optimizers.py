"""Which parameters are decayed, and that our settings reach torch's optimizers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.training.tiny import ADAMW, NETWORK, SGD
from vitrail.models import build
from vitrail.models.catalog import variant
from vitrail.models.configs import FAMILIES, CCTConfig, ModelConfig
from vitrail.training.groups import EXEMPT, describe, exempt, groups, is_decayed
from vitrail.training.optimizers import KEPT, make


@pytest.mark.parametrize("config", [NETWORK, replace(NETWORK, pooling="class"), replace(NETWORK, positions="sine")])
def test_each_trainable_parameter_is_in_exactly_one_group(config: CCTConfig) -> None:
    module = build(config)
    grouped = [p for group in groups(module, 0.05) for p in group["params"]]
    trainable = [p for p in module.parameters() if p.requires_grad]
    assert sorted(map(id, grouped)) == sorted(map(id, trainable))


def test_matrices_and_published_tables_are_decayed_vectors_and_biases_are_not() -> None:
    module = build(replace(NETWORK, pooling="class"))
    decayed, not_decayed = groups(module, 0.05)
    names = {id(p): name for name, p in module.named_parameters()}
    assert (decayed["weight_decay"], not_decayed["weight_decay"]) == (0.05, 0.0)
    assert all(p.ndim == 1 for p in not_decayed["params"])
    assert all(p.ndim > 1 for p in decayed["params"])
    assert {"classifier.positional_emb", "classifier.class_emb"} <= {names[id(p)] for p in decayed["params"]}


def test_a_bias_of_any_shape_is_not_decayed() -> None:
    module = nn.Module()
    module.table = nn.Parameter(torch.zeros(2, 2))
    module.bias = nn.Parameter(torch.zeros(2, 2))
    module.part = nn.Module()
    module.part.bias = nn.Parameter(torch.zeros(2, 2))
    assert [len(group["params"]) for group in groups(module, 0.1)] == [1, 2]


def test_frozen_parameters_are_in_no_group_and_are_told() -> None:
    module = build(replace(NETWORK, positions="sine"))
    grouped = {id(p) for group in groups(module, 0.05) for p in group["params"]}
    table = module.get_parameter("classifier.positional_emb")
    assert id(table) not in grouped
    assert f"frozen: 1 tensor of {table.numel()} values" in describe(module, 0.05)


def test_a_shared_parameter_is_updated_once() -> None:
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    module[1].weight = module[0].weight
    assert [len(group["params"]) for group in groups(module, 0.1)] == [1]


@pytest.mark.parametrize("config", [ADAMW, SGD])
def test_settings_reach_the_optimizer(config: object) -> None:
    module = build(NETWORK)
    optimizer = make(config, module)  # type: ignore[arg-type]
    assert type(optimizer).__name__ in KEPT
    assert [group["weight_decay"] for group in optimizer.param_groups] == [config.weight_decay, 0.0]  # type: ignore[attr-defined]
    assert optimizer.param_groups[0]["fused"] is True
    for name in ("betas", "eps", "momentum", "nesterov"):
        if hasattr(config, name):
            assert all(group[name] == getattr(config, name) for group in optimizer.param_groups)


def decayed(config: ModelConfig) -> set[str]:
    module = build(config, device="meta")
    return {name for name, p in module.named_parameters() if is_decayed(name, p, exempt(module))}


def test_every_family_says_what_it_exempts() -> None:
    assert EXEMPT.keys() == FAMILIES.keys()
    assert exempt(nn.Linear(2, 2)) == ()
    for name, family in (("vit_tiny_patch16_224", "vit"), ("beit_base_patch16_224", "beit"), ("vit_2_4_32", "cct")):
        assert exempt(build(variant(name).config, device="meta")) == EXEMPT[family]


@pytest.mark.parametrize(
    ("name", "case"),
    [("vit_base_patch16_224", 0), ("vit_small_r26_s32_224", 3), ("beit_base_patch16_224", 4)],
)
def test_weight_decay_is_that_of_the_published_recipes(shared: Path, name: str, case: int) -> None:
    """timm's groups for the ViTs, unilm's for BEiT, as their own code made them."""
    recorded = json.loads((shared / "reference" / "layer_decay_vectors.json").read_text())["cases"][case]
    assert recorded["model"] == name
    theirs = {key for key, (_, decay) in recorded["params"].items() if decay > 0}
    assert theirs
    assert decayed(variant(name).config) == theirs


def test_every_token_and_table_of_a_vit_is_spared() -> None:
    config = replace(variant("vit_tiny_patch16_224").config, register_tokens=4)  # type: ignore[arg-type]
    assert not decayed(config) & {"pos_embed", "cls_token", "reg_token"}
    distilled = replace(variant("vit_tiny_patch16_224").config, distilled=True)  # type: ignore[arg-type]
    assert "dist_token" not in decayed(distilled)
    assert "head_dist.weight" in decayed(distilled)
    tables = {name for name in decayed(variant("beit_base_patch16_224").config) if name.endswith("bias_table")}
    assert len(tables) == 12
