"""The variants: what their names mean, what stands beside each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vitrail.errors import WeightsError
from vitrail.models.catalog import VARIANTS, variant
from vitrail.models.configs import TRAINING_ONLY, BEiTConfig, CCTConfig, ModelConfig, ViTConfig
from vitrail.pictures.policy import HALF, IMAGENET


def test_every_variant_holds_and_its_policy_fits_its_picture() -> None:
    for name, row in VARIANTS.items():
        assert row.name == name
        assert row.config.problems() == []
        assert row.policy.problems() == []
        assert row.policy.size == row.config.image_size
        assert row.policy.channels == row.config.channels
        if isinstance(row.config, CCTConfig):
            assert row.config.positions == ("sine" if "_sine" in name else "learned")


def structure(config: ModelConfig) -> ModelConfig:
    plain: dict[str, float] = {name: 0.0 for name in TRAINING_ONLY if hasattr(config, name)}
    return replace(config, **plain)  # type: ignore[arg-type]


def test_two_variants_are_the_same_network_only_where_their_pictures_differ() -> None:
    first: dict[ModelConfig, str] = {}
    twins = [(first.setdefault(structure(row.config), name), name) for name, row in VARIANTS.items()]
    same = [(one, other) for one, other in twins if one != other]
    assert same == [
        ("beit_base_patch16_224", "beitv2_base_patch16_224"),
        ("beit_large_patch16_224", "beitv2_large_patch16_224"),
    ]
    for one, other in same:
        assert VARIANTS[one].policy != VARIANTS[other].policy


def test_an_unknown_variant_is_refused_with_the_nearest() -> None:
    with pytest.raises(WeightsError, match="no variant") as caught:
        variant("cct_7_3x1_23")
    assert caught.value.code == "V203"
    assert "`cct_7_3x1_32`" in caught.value.hint
    with pytest.raises(WeightsError, match="no variant") as caught:
        variant("vit_base_patch16_244")
    assert "`vit_base_patch16_224`" in caught.value.hint


def test_names_of_shi_labs_stay_compact_transformers() -> None:
    assert sum(isinstance(row.config, CCTConfig) for row in VARIANTS.values()) == 37
    lite = variant("vit_2_4_32").config
    assert isinstance(lite, CCTConfig)
    assert (lite.pooling, lite.dim, lite.depth, lite.kernel, lite.classes) == ("class", 128, 2, 4, 10)


# widths inside the MLP and the units of the stems, beside what the names say
@pytest.mark.parametrize(
    ("name", "patch", "cell", "stages", "hidden"),
    [
        ("vit_tiny_patch16_224",   16,  1, (),            768),
        ("vit_small_patch32_384",  32,  1, (),           1536),
        ("vit_base_patch8_224",     8,  1, (),           3072),
        ("vit_large_patch14_224",  14,  1, (),           4096),
        ("vit_huge_patch14_224",   14,  1, (),           5120),
        ("vit_giant_patch14_224",  14,  1, (),           6144),
        ("vit_tiny_r_s16_p8_384",   8,  4, (),            768),
        ("vit_small_r26_s32_224",   1, 32, (2, 2, 2, 2), 1536),
        ("vit_base_r50_s16_384",    1, 16, (3, 4, 9),    3072),
        ("vit_large_r50_s32_224",   1, 32, (3, 4, 6, 3), 4096),
    ],
)  # fmt: skip
def test_a_vit_is_what_its_name_says(name: str, patch: int, cell: int, stages: tuple[int, ...], hidden: int) -> None:
    config = variant(name).config
    assert isinstance(config, ViTConfig)
    assert (config.patch, config.cell, config.stages, config.hidden) == (patch, cell, stages, hidden)
    assert config.image_size == (int(name[-3:]), int(name[-3:]))


def test_vits_see_pictures_as_timm_shows_them() -> None:
    for row in VARIANTS.values():
        if isinstance(row.config, ViTConfig):
            crop = 0.9 if row.config.image_size == (224, 224) else 1.0
            assert (row.policy.crop, row.policy.mean, row.policy.std) == (crop, HALF.mean, HALF.std)
            assert (row.policy.mode, row.policy.interpolation) == ("crop", "bicubic")
            assert (row.config.gelu, row.config.eps, row.config.classes) == ("erf", 1e-6, 1000)
            assert (row.config.stem_numerics, row.config.drop_path, row.config.dropout) == ("timm", 0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "start", "statistics", "crop"),
    [
        ("beit_base_patch16_224",    0.1,  HALF,     0.9),
        ("beit_base_patch16_384",    0.1,  HALF,     1.0),
        ("beit_large_patch16_224",   1e-5, HALF,     0.9),
        ("beit_large_patch16_384",   1e-5, HALF,     1.0),
        ("beit_large_patch16_512",   1e-5, HALF,     1.0),
        ("beitv2_base_patch16_224",  1e-5, IMAGENET, 0.9),
        ("beitv2_large_patch16_224", 1e-5, IMAGENET, 0.95),
    ],
)  # fmt: skip
def test_a_beit_is_what_its_name_says(name: str, start: float, statistics: tuple[object, object], crop: float) -> None:
    row = variant(name)
    assert isinstance(row.config, BEiTConfig)
    assert row.config.layer_scale_init == start
    assert ((row.policy.mean, row.policy.std), row.policy.crop) == (statistics, crop)
    assert (row.config.pooling, row.config.block_bias, row.config.shared_bias) == ("mean", True, False)
    assert (row.config.absolute_positions, row.config.layer_scale, row.config.drop_path) == (False, True, 0.0)
