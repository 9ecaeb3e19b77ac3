"""Which parameters are decayed, slowed and frozen, against timm's and unilm's own groups."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.training.tiny import ADAMW, NETWORK
from vitrail.errors import RecipeError
from vitrail.models import build
from vitrail.models.catalog import variant
from vitrail.models.configs import FAMILIES, BEiTConfig, CCTConfig, ModelConfig, ViTConfig
from vitrail.training.groups import NOWHERE, PLACES, decays, describe, freeze, groups, layers, place_of
from vitrail.training.optimizer_configs import AdamW, Muon, Optimizer

VIT = variant("vit_tiny_patch16_224").config
BEIT = variant("beit_base_patch16_224").config
assert isinstance(VIT, ViTConfig) and isinstance(BEIT, BEiTConfig)


def treated(module: nn.Module, config: Optimizer) -> dict[str, tuple[float, float]]:
    """name -> (times the learning rate, weight decay), after seeing that each parameter is in one group."""
    names = {id(p): name for name, p in module.named_parameters()}
    found: dict[str, tuple[float, float]] = {}
    for group in groups(module, config):
        assert group["params"]
        for p in group["params"]:
            assert names[id(p)] not in found
            found[names[id(p)]] = (group["lr_scale"], group["weight_decay"])
    assert found.keys() == {name for name, p in module.named_parameters() if p.requires_grad}
    return found


def decayed(config: ModelConfig, rule: str = "family") -> set[str]:
    module = build(config, device="meta")
    test = decays(module, rule)
    return {name for name, p in module.named_parameters() if test(name, p)}


@pytest.mark.parametrize("config", [NETWORK, replace(NETWORK, pooling="class"), replace(NETWORK, positions="sine")])
@pytest.mark.parametrize(
    "optimizer", [ADAMW, replace(ADAMW, layer_decay=0.5), Muon(), Muon(layer_decay=0.9, decayed="all_but_norms")]
)
def test_each_trainable_parameter_is_in_exactly_one_group(config: CCTConfig, optimizer: Optimizer) -> None:
    assert treated(build(config), optimizer)


def test_matrices_and_published_tables_are_decayed_vectors_and_biases_are_not() -> None:
    found = treated(build(replace(NETWORK, pooling="class")), ADAMW)
    assert {name for name, (_, decay) in found.items() if decay} >= {
        "classifier.positional_emb",
        "classifier.class_emb",
        "tokenizer.conv_layers.0.0.weight",
    }
    assert {decay for name, (_, decay) in found.items() if name.endswith("bias") or "norm" in name} == {0.0}


def test_a_bias_of_any_shape_is_not_decayed() -> None:
    module = nn.Module()
    module.table = nn.Parameter(torch.zeros(2, 2))
    module.bias = nn.Parameter(torch.zeros(2, 2))
    module.part = nn.Module()
    module.part.bias = nn.Parameter(torch.zeros(2, 2))
    assert [len(group["params"]) for group in groups(module, ADAMW)] == [1, 2]


def test_frozen_parameters_are_in_no_group_and_are_told() -> None:
    module = build(replace(NETWORK, positions="sine"))
    table = module.get_parameter("classifier.positional_emb")
    assert "classifier.positional_emb" not in treated(module, ADAMW)
    assert f"frozen: 1 tensor of {table.numel()} values" in describe(module, ADAMW)


def test_a_shared_parameter_is_updated_once() -> None:
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    module[1].weight = module[0].weight
    assert [len(group["params"]) for group in groups(module, ADAMW)] == [1]


def test_every_family_says_where_it_keeps_what() -> None:
    assert PLACES.keys() == FAMILIES.keys()
    assert place_of(nn.Linear(2, 2)) is NOWHERE
    for name, family in (("vit_tiny_patch16_224", "vit"), ("beit_base_patch16_224", "beit"), ("vit_2_4_32", "cct")):
        assert place_of(build(variant(name).config, device="meta")) is PLACES[family]


# ---- the published groups


@pytest.mark.parametrize(
    ("case", "config", "grouping", "rule"),
    [
        (0, variant("vit_base_patch16_224").config, "timm", "family"),
        (1, BEIT, "timm", "weights"),
        (2, replace(VIT, pooling="mean", fc_norm=True), "timm", "family"),
        (3, variant("vit_small_r26_s32_224").config, "timm", "family"),
        (4, BEIT, "unilm", "family"),
    ],
)
def test_reference_rates_and_decays_of_timm_and_unilm(
    shared: Path, case: int, config: ModelConfig, grouping: str, rule: str
) -> None:
    """For every parameter: the factor of its rate and its weight decay, as their own code made them."""
    cases = json.loads((shared / "reference" / "layer_decay_vectors.json").read_text())["cases"]
    assert len(cases) == 5
    theirs = cases[case]
    optimizer = AdamW(
        weight_decay=theirs["weight_decay"],
        decayed=rule,  # type: ignore[arg-type]
        layer_decay=theirs["layer_decay"],
        layer_decay_grouping=grouping,  # type: ignore[arg-type]
    )
    ours = treated(build(config, device="meta"), optimizer)
    assert len(ours) == len(theirs["params"])
    for name, (scale, decay) in theirs["params"].items():
        assert ours[name] == (pytest.approx(scale, rel=1e-12), decay), name


def test_layers_of_timm_that_the_cases_do_not_show() -> None:
    """What timm 1.0.31's group_matcher gives for tokens, a norm before the blocks, two heads, shared positions."""
    assert isinstance(VIT, ViTConfig) and isinstance(BEIT, BEiTConfig)
    registers = layers(build(replace(VIT, register_tokens=4, pre_norm=True), device="meta"), "timm")
    assert {registers[name] for name in ("cls_token", "reg_token", "pos_embed", "norm_pre.weight")} == {0}
    assert (registers["norm.weight"], registers["head.weight"]) == (12, 13)
    two = layers(build(replace(VIT, distilled=True), device="meta"), "timm")
    assert (two["dist_token"], two["head_dist.weight"]) == (0, 13)
    shares = build(replace(BEIT, shared_bias=True, block_bias=False, pooling="class"), device="meta")
    table = "rel_pos_bias.relative_position_bias_table"
    assert (layers(shares, "timm")[table], layers(shares, "unilm")[table]) == (0, 13)
    assert (layers(shares, "timm")["norm.weight"], layers(shares, "unilm")["norm.weight"]) == (12, 13)


def test_layers_of_a_cct() -> None:
    """timm's rule: tokenizer and positions, the blocks, the norm with the last one; the head pools and classifies."""
    found = layers(build(replace(NETWORK, pooling="class"), device="meta"), "timm")
    assert {layer for name, layer in found.items() if name.startswith("tokenizer.") or name.endswith("_emb")} == {0}
    assert found["classifier.blocks.0.linear1.weight"] == 1
    assert (found["classifier.blocks.1.norm1.bias"], found["classifier.norm.weight"]) == (2, 2)
    assert found["classifier.fc.weight"] == 3
    pooled = layers(build(NETWORK, device="meta"), "unilm")
    assert (pooled["classifier.attention_pool.weight"], pooled["classifier.norm.bias"]) == (3, 3)


def test_only_a_layer_s_own_rate_is_scaled_and_it_is_told() -> None:
    module = build(NETWORK)
    found = treated(module, replace(ADAMW, layer_decay=0.5))
    assert {scale for scale, _ in found.values()} == {0.125, 0.25, 0.5, 1.0}
    assert "times 0.125 (stem) to 1 (head) in 4 layers" in describe(module, replace(ADAMW, layer_decay=0.5))
    assert {scale for scale, _ in treated(module, ADAMW).values()} == {1.0}


# ---- what is decayed


def test_every_token_and_table_of_a_vit_is_spared() -> None:
    assert not decayed(replace(VIT, register_tokens=4)) & {"pos_embed", "cls_token", "reg_token"}
    distilled = decayed(replace(VIT, distilled=True))
    assert "dist_token" not in distilled
    assert "head_dist.weight" in distilled


def test_tables_of_relative_positions_may_be_spared() -> None:
    tables = {name for name in decayed(BEIT) if name.endswith("bias_table")}
    assert len(tables) == 12
    assert decayed(BEIT) - decayed(BEIT, "weights") == tables


def test_weights_alone_are_those_of_the_model_zoo_s_beit() -> None:
    """There names that end in `.weight` are the matrices and kernels: norms say gamma and beta."""
    assert {name.rpartition(".")[2] for name in decayed(BEIT, "weights")} == {"weight"}
    assert not any("norm" in name for name in decayed(BEIT, "weights"))
    assert "classifier.positional_emb" not in decayed(NETWORK, "weights")
    assert "classifier.attention_pool.weight" in decayed(NETWORK, "weights")


def test_all_but_norms_is_the_rule_of_the_model_zoo_s_vit() -> None:
    names = {name for name, _ in build(VIT, device="meta").named_parameters()}
    spared = names - decayed(VIT, "all_but_norms")
    assert {name.split(".")[-2] for name in spared} == {"norm", "norm1", "norm2"}
    assert {"cls_token", "pos_embed", "head.bias", "blocks.3.attn.qkv.bias"} <= decayed(VIT, "all_but_norms")
    assert "blocks.0.gamma_1" not in decayed(BEIT, "all_but_norms")


# ---- freezing


def test_patterns_freeze_and_take_out_again() -> None:
    module = build(NETWORK)
    freeze(module, ("classifier.*", "!classifier.fc.*", "!*.attention_pool.weight"))
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    assert trained == {
        "tokenizer.conv_layers.0.0.weight",
        "classifier.attention_pool.weight",
        "classifier.fc.weight",
        "classifier.fc.bias",
    }
    assert treated(module, ADAMW).keys() == trained


def test_nothing_is_thawed() -> None:
    module = build(replace(NETWORK, positions="sine"))
    freeze(module, ("tokenizer.*", "!classifier.positional_emb"))
    assert not module.get_parameter("classifier.positional_emb").requires_grad


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        (("classifier.*", "clasifier.fc.weight"), "`clasifier.fc.weight` matches no parameter"),
        (("!head.*",), "`!head.*` matches no parameter"),
        (("*",), "leaves nothing to train"),
    ],
)
def test_patterns_that_mean_nothing_are_refused(patterns: tuple[str, ...], words: str) -> None:
    module = build(NETWORK)
    with pytest.raises(RecipeError) as refused:
        freeze(module, patterns)
    assert refused.value.code == "V104"
    assert words in refused.value.what
    assert all(p.requires_grad for p in module.parameters())


def test_the_way_out_names_the_head_of_this_network() -> None:
    module = build(NETWORK)
    with pytest.raises(RecipeError, match="nothing to train") as refused:
        freeze(module, ("*",))
    assert refused.value.hint == "take the head out: `!classifier.fc.*`"
    freeze(module, ("*", "!classifier.fc.*"))
