"""What a file is, by all its names and shapes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitrail.errors import WeightsError
from vitrail.formats.stored import Stored, Tensors
from vitrail.models.catalog import VARIANTS, variant
from vitrail.models.configs import CCTConfig, ModelConfig, ViTConfig, family_of
from vitrail.models.count import shapes
from vitrail.models.tables import sine_table
from vitrail.weights.detect import detect
from vitrail.weights.dialects import tables, written
from vitrail.weights.saved import KEY, Saved, from_metadata, to_metadata
from vitrail.weights.translate import write

TABLE = "classifier.positional_emb"


def tensors_of(config: ModelConfig) -> Tensors:
    """Zeros of the network's shapes, and its sine table where it has one."""
    tensors = {name: Stored.of(np.zeros(shape, np.float32)) for name, shape in shapes(config).items()}
    if isinstance(config, CCTConfig) and config.positions == "sine":
        tensors[TABLE] = Stored.of(sine_table(config.tokens, config.dim)[None])
    return tensors


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_known_by_its_tensors(name: str) -> None:
    config = VARIANTS[name].config
    dialect = "shi_labs" if isinstance(config, CCTConfig) else "timm"
    found = detect(tensors_of(config), prefer=[name])  # BEiT and BEiT v2 are one network
    assert (found.dialect.name, found.variant, found.config) == (dialect, name, config)
    assert f"those of {name}" in found.evidence[0]


@pytest.mark.parametrize("name", ["beit_base_patch16_224", "beitv2_large_patch16_224"])
def test_two_variants_of_one_network_are_asked_for(name: str) -> None:
    with pytest.raises(WeightsError) as caught:
        detect(tensors_of(VARIANTS[name].config))
    assert caught.value.code == "V205"
    assert {line.split("_")[0] for line in caught.value.evidence} == {"beit", "beitv2"}


def tiny(config: ModelConfig) -> ModelConfig:
    return replace(config, dim=24, depth=2, heads=3, mlp_ratio=2.0)


def test_google_kernels_and_beit_tables_show_their_heads_so_that_no_variant_is_needed() -> None:
    for name in ("vit_tiny_patch16_224", "vit_small_r26_s32_224", "vit_tiny_r_s16_p8_224"):
        config = replace(tiny(variant(name).config), classes=7, pre_logits=12)
        assert isinstance(config, ViTConfig)
        config = replace(config, gelu="tanh", stem_numerics="google" if config.stem == "resnet" else "timm")
        native = tensors_of(config)
        (theirs,) = [r for t in written("google", "vit") if (r := write(t, native, config)).whole][:1]
        found = detect(theirs.tensors)
        assert (found.dialect.name, found.variant) == ("google", None)
        assert found.config == config
    config = tiny(variant("beit_base_patch16_224").config)
    assert detect(tensors_of(config)).config == config


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("vit_tiny_patch16_224", {"qkv_bias": False}),
        ("vit_tiny_patch16_224", {"pooling": "mean", "fc_norm": True}),
        ("vit_tiny_patch16_224", {"pooling": "mean", "class_token": False}),
        ("vit_tiny_patch16_224", {"distilled": True}),
        ("vit_tiny_patch16_224", {"register_tokens": 4, "class_position": False}),
        ("vit_tiny_patch16_224", {"register_tokens": 4}),
        ("vit_tiny_patch16_224", {"pre_norm": True, "layer_scale": True}),
        ("vit_tiny_patch16_224", {"pre_logits": 192, "classes": 21843}),
        ("vit_tiny_patch16_224", {"classes": 0}),
        ("vit_tiny_patch16_224", {"image_size": (480, 480), "channels": 1}),
        ("beit_base_patch16_384", {"shared_bias": True, "block_bias": False, "classes": 0, "pooling": "class"}),
        ("beit_base_patch16_384", {"absolute_positions": True, "block_bias": False, "layer_scale": False}),
        ("beit_base_patch16_384", {"key_bias": True}),
        ("beit_base_patch16_384", {"qkv_bias": False, "classes": 3, "channels": 4}),
    ],
)
def test_parts_that_come_and_go_are_read_from_the_tensors(name: str, change: dict[str, object]) -> None:
    config = replace(variant(name).config, **change)
    found = detect(tensors_of(config))
    assert found.config == config
    assert family_of(found.config) == found.dialect.family
    for field, value in change.items():
        if found.variant == name:
            assert any(line.startswith(f"{field} {value}") for line in found.evidence)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("cct_2_3x2_32", {"classes": 100}),
        ("cct_14_7x2_224", {"classes": 5}),
        ("cct_7_7x2_224_sine", {"classes": 37}),
        ("cct_6_3x1_32", {"channels": 1}),
        ("cct_6_3x2_32", {"image_size": (64, 64)}),
        ("cct_14_7x2_384_fl", {"image_size": (448, 448)}),
        ("vit_6_4_32", {"image_size": (48, 48), "classes": 7}),
        ("cvt_6_4_32", {"positions": "none"}),
    ],
)
def test_what_a_file_may_change_is_read_and_said(name: str, change: dict[str, object]) -> None:
    config = replace(variant(name).config, **change)
    found = detect(tensors_of(config))
    assert (found.variant, found.config) == (name, config)
    for field, value in change.items():
        assert any(line.startswith(f"{field} {value}") for line in found.evidence)


@pytest.mark.parametrize(("kind", "bound"), [("<f8", 1e-6), ("<f4", 1e-6), ("<f2", 2**-11)])
def test_a_table_is_sine_only_within_its_own_rounding(kind: str, bound: float) -> None:
    tensors = tensors_of(variant("cct_7_3x2_32_sine").config)
    table = sine_table(64, 256)[None].astype(kind)
    assert detect(tensors | {TABLE: Stored.of(table)}).config.positions == "sine"
    table[0, 3, 5] += 4 * (bound + 64 * 2**-23)
    assert detect(tensors | {TABLE: Stored.of(table)}).config.positions == "learned"


def test_two_variants_that_explain_a_file_equally_well_are_both_named() -> None:
    with pytest.raises(WeightsError) as caught:
        detect(tensors_of(replace(variant("cct_7_3x1_32").config, classes=37)))
    assert caught.value.code == "V205"
    assert [line.split()[0] for line in caught.value.evidence] == ["cct_7_3x1_32", "cct_7_3x1_32_c100"]


def test_a_network_of_no_variant_is_refused_with_the_nearest() -> None:
    with pytest.raises(WeightsError) as caught:
        detect(tensors_of(replace(variant("cct_7_3x1_32").config, depth=8)))
    assert caught.value.code == "V205"
    text = "\n".join(caught.value.evidence)
    assert "nearest: cct_7_3x1_32" in text
    assert "classifier.blocks.7.norm1.weight" in text


def test_the_nearest_is_of_the_world_whose_names_they_are() -> None:
    config = replace(tiny(variant("vit_tiny_patch16_224").config), dim=30, heads=3)
    with pytest.raises(WeightsError) as caught:
        detect(tensors_of(config))
    assert caught.value.evidence[0].startswith("nearest: vit_")
    (table,) = (table for table in tables("mindspore", "beit") if table.form == "beit")
    small = tiny(replace(variant("beit_base_patch16_224").config, block_bias=False, absolute_positions=True))
    with pytest.raises(WeightsError) as caught:
        detect(write(table, tensors_of(small), small).tensors)
    assert "in dialect mindspore (beit)" in caught.value.evidence[0]


def test_tensors_of_another_world_are_refused_by_name() -> None:
    with pytest.raises(WeightsError) as caught:
        detect({"conv1.weight": Stored.of(np.zeros((64, 3, 7, 7), np.float32))})
    assert caught.value.code == "V205"
    assert "conv1.weight (64, 3, 7, 7)" in caught.value.evidence
    with pytest.raises(WeightsError):
        detect({})


SMALL = sorted(shapes(variant("cct_2_3x2_32").config))


@pytest.mark.parametrize("name", SMALL)
def test_C12_a_tensor_dropped_renamed_or_reshaped_is_named(name: str) -> None:
    whole = tensors_of(variant("cct_2_3x2_32").config)
    tensor = whole[name]
    without = {key: value for key, value in whole.items() if key != name}
    flat = Stored("F32", (tensor.nbytes // 4, 1), tensor.data)
    for damaged, word in (
        (without, name),
        (without | {name + "_": tensor}, name + "_"),
        (without | {name: flat}, name),
        (without | {name: Stored("F32", (), bytes(4))}, name),
    ):
        if name == TABLE and name not in damaged and len(damaged) == len(without):
            continue  # a file without a table is a whole network without positions
        with pytest.raises(WeightsError) as caught:
            detect(damaged)
        assert any(word in line for line in caught.value.evidence), caught.value


def saved(**change: object) -> Saved:
    row = variant("cct_2_3x2_32")
    values = {"config": row.config, "policy": row.policy, "classes": tuple("abcdefghij"), "dialect": "shi_labs"}
    return Saved(**(values | change))


def test_what_our_own_file_states_wins() -> None:
    config = replace(variant("cct_2_3x2_32").config, heads=4)
    found = detect(tensors_of(config), from_metadata(to_metadata(saved(config=config))))
    assert (found.config, found.variant, found.classes) == (config, None, tuple("abcdefghij"))
    assert found.policy == variant("cct_2_3x2_32").policy


def test_metadata_survives_and_is_the_same_text_twice() -> None:
    one = saved(variant="cct_2_3x2_32", classes=tuple(f"ü{i}\n" for i in range(10)))
    assert from_metadata(to_metadata(one)) == one
    assert to_metadata(one) == to_metadata(one)
    assert from_metadata({"format": "pt"}) is None


GOOD = to_metadata(saved())[KEY]


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "nonsense", "[" * 100_000, GOOD.replace('"format": 1', '"format": 2'),
        GOOD.replace('"a", ', ""), GOOD.replace('"a"', "7"), GOOD.replace("shi_labs", "other"),
        GOOD.replace('"shi_labs"', '["shi_labs"]'), GOOD.replace('"depth": 2', '"depth": 1000000000'),
        GOOD.replace('"mlp_ratio": 1.0', '"mlp_ratio": NaN'), GOOD.replace('"variant"', '"wariant"'),
        GOOD.replace('"crop": 1.0', '"crop": 2.0'), GOOD.replace('"cct"', '"vit"'), GOOD.replace('"cct"', '"tiv"'),
    ],
)  # fmt: skip
def test_metadata_that_does_not_hold_is_refused(text: str) -> None:
    with pytest.raises(WeightsError) as caught:
        from_metadata({KEY: text})
    assert caught.value.code == "V201"
