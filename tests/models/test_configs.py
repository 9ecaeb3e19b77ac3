"""Configs: what they work out, through JSON and back, and every line that refuses one."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vitrail.models.catalog import VARIANTS, variant
from vitrail.models.configs import (
    BOUNDS,
    FAMILIES,
    TRAINING_ONLY,
    BEiTConfig,
    CCTConfig,
    ModelConfig,
    ViTConfig,
    config_from_json,
    config_to_json,
    family_of,
)

CCT = CCTConfig(image_size=(32, 32))
VIT = ViTConfig(image_size=(224, 224))
BEIT = BEiTConfig(image_size=(224, 224))
RESNET = replace(VIT, stem="resnet", stages=(3, 4, 9), patch=1)


def through_json(config: ModelConfig) -> ModelConfig:
    return config_from_json(json.loads(json.dumps(config_to_json(config))))


def values_of(name: str, kind: Any) -> st.SearchStrategy[Any]:
    """Values that a field of that type takes within its bounds, the small ones more often."""
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if kind is bool:
        return st.booleans()
    low, high = BOUNDS[name]
    if kind is float:
        return st.floats(low, high) | st.floats(low, min(high, 8.0))
    number = st.integers(int(low), int(high)) | st.integers(int(low), int(low) + 8)
    if get_origin(kind) is not tuple:
        return number
    if get_args(kind)[-1] is Ellipsis:
        return st.lists(number, max_size=8).map(tuple)
    return st.tuples(*[number] * len(get_args(kind)))


def configs(family: str) -> st.SearchStrategy[ModelConfig]:
    kind = FAMILIES[family]
    return st.builds(kind, **{name: values_of(name, hint) for name, hint in get_type_hints(kind).items()})


# the fields that depend on each other, so that most examples hold
SQUARES = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 32), st.integers(1, 8), st.integers(1, 24))


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_a_config_that_holds_survives_json_and_any_other_is_refused(family: str, data: st.DataObject) -> None:
    config = data.draw(configs(family))
    rows, columns, patch, heads, width = data.draw(SQUARES)
    if data.draw(st.integers(0, 9)):
        config = replace(config, heads=heads, dim=heads * width)
        if not isinstance(config, CCTConfig):
            config = replace(config, patch=patch, image_size=(rows * patch, columns * patch))
    if not (problems := config.problems()):
        assert through_json(config) == config
        assert family_of(through_json(config)) == family
    else:
        with pytest.raises(ValueError, match="model config does not hold") as caught:
            through_json(config)
        assert all(line in str(caught.value) for line in problems)


@given(name=st.sampled_from(sorted(VARIANTS)), data=st.data())
def test_a_variant_with_one_field_changed_survives_json_or_is_refused(name: str, data: st.DataObject) -> None:
    base = VARIANTS[name].config
    hints = get_type_hints(type(base))
    field = data.draw(st.sampled_from(sorted(hints)))
    change: dict[str, Any] = {field: data.draw(values_of(field, hints[field]))}
    config = replace(base, **change)
    assume(not config.problems())
    assert through_json(config) == config


def test_every_variant_survives_json() -> None:
    for row in VARIANTS.values():
        assert through_json(row.config) == row.config


def test_every_number_has_bounds_and_every_bound_a_number() -> None:
    numbers = {
        name
        for kind in FAMILIES.values()
        for name, hint in get_type_hints(kind).items()
        if hint in (int, float) or get_origin(hint) is tuple
    }
    assert numbers == BOUNDS.keys()


def test_what_acts_in_training_only_is_a_field_of_some_family() -> None:
    assert set(TRAINING_ONLY) <= {field.name for kind in FAMILIES.values() for field in fields(kind)}


def test_files_from_before_a_field_was_there_mean_its_default() -> None:
    old = config_to_json(CCT)
    del old["gelu"], old["pool_padding"]
    assert config_from_json(old) == CCT
    assert CCT.gelu == "erf"
    assert CCT.pool_padding == "torch"


@pytest.mark.parametrize("config", [VIT, BEIT])
def test_the_new_families_must_be_stated_whole(config: ModelConfig) -> None:
    for name in get_type_hints(type(config)):
        values = config_to_json(config)
        del values[name]
        with pytest.raises(ValueError, match=f"lacks {name}"):
            config_from_json(values)


# ---- what a config works out ----


@pytest.mark.parametrize(
    ("config", "cell", "grid", "prefix", "tokens", "position_rows"),
    [
        (VIT,                                                  1, (14, 14), 1, 197, 197),
        (replace(VIT, image_size=(224, 160)),                  1, (14, 10), 1, 141, 141),
        (replace(VIT, distilled=True),                         1, (14, 14), 2, 198, 198),
        (replace(VIT, register_tokens=4),                      1, (14, 14), 5, 201, 201),
        (replace(VIT, register_tokens=4, class_position=False),1, (14, 14), 5, 201, 196),
        (replace(VIT, class_token=False, pooling="mean"),      1, (14, 14), 0, 196, 196),
        (RESNET,                                              16, (14, 14), 1, 197, 197),
        (replace(RESNET, stages=(2, 2, 2, 2)),                32, (7, 7),   1,  50,  50),
        (replace(RESNET, stages=(), patch=8),                  4, (7, 7),   1,  50,  50),
    ],
)  # fmt: skip
def test_tokens_of_a_vit(
    config: ViTConfig, cell: int, grid: tuple[int, int], prefix: int, tokens: int, position_rows: int
) -> None:
    assert config.problems() == []
    assert (config.cell, config.grid, config.prefix) == (cell, grid, prefix)
    assert (config.tokens, config.position_rows) == (tokens, position_rows)


def test_tokens_and_distances_of_a_beit() -> None:
    assert (BEIT.grid, BEIT.prefix, BEIT.tokens, BEIT.distances) == ((14, 14), 1, 197, 732)
    wide = replace(BEIT, image_size=(32, 80))
    assert (wide.grid, wide.tokens, wide.distances) == ((2, 5), 11, 30)


def test_the_mlp_is_as_wide_as_the_ratio_says_rounded() -> None:
    giant = variant("vit_giant_patch14_224").config
    assert isinstance(giant, ViTConfig)
    assert giant.hidden == 6144
    assert replace(BEIT, dim=48, mlp_ratio=2.5).hidden == 120


# ---- what is refused ----

COARSE = replace(RESNET, stages=(), patch=8)
REFUSED: list[tuple[ModelConfig, dict[str, object], str]] = [
    # ranges and types, which all families share
    (CCT,    {"heads": 0},                              "heads 0 lies outside 1 to 4096"),
    (CCT,    {"stride": 0},                             "stride 0 lies outside 1 to 256"),
    (CCT,    {"dim": -4},                               "dim -4 lies outside 1 to 65536"),
    (CCT,    {"depth": 10**9},                          "depth 1000000000 lies outside 1 to 1024"),
    (CCT,    {"padding": -1},                           "padding -1 lies outside 0 to 256"),
    (CCT,    {"drop_path": 1.0},                        "drop_path 1.0 lies outside 0 to 0.99"),
    (CCT,    {"mlp_ratio": float("nan")},               "mlp_ratio nan lies outside 0 to 1024"),
    (CCT,    {"image_size": (32, 0)},                   r"image_size \(32, 0\) lies outside 1 to 65536"),
    (CCT,    {"image_size": (32,)},                     r"image_size \(32,\) is not 2 whole numbers"),
    (CCT,    {"classes": True},                         "classes True is not a whole number"),
    (CCT,    {"channels": 2.0},                         "channels 2.0 is not a whole number"),
    (CCT,    {"conv_bias": 1},                          "conv_bias 1 is not true or false"),
    (CCT,    {"mlp_ratio": "2"},                        "mlp_ratio '2' is not a number"),
    (CCT,    {"positions": "typo"},                     "positions 'typo' is not `learned` or `sine` or `none`"),
    (CCT,    {"pooling": None},                         "pooling None is not `sequence` or `class`"),
    (CCT,    {"pool_padding": "SAME"},                  "pool_padding 'SAME' is not `torch` or `same`"),
    (CCT,    {"gelu": "exact"},                         "gelu 'exact' is not `erf` or `tanh` or `quick`"),
    (VIT,    {"eps": 0.5},                              "eps 0.5 lies outside 0 to 0.1"),
    (VIT,    {"stages": (3, 0)},                        r"stages \(3, 0\) lies outside 1 to 64"),
    (VIT,    {"stages": (1,) * 9},                      "is not up to 8 whole numbers"),
    (VIT,    {"stages": (1.0,)},                        "is not up to 8 whole numbers"),
    (VIT,    {"stages": 3},                             "stages 3 is not up to 8 whole numbers"),
    (VIT,    {"classes": 10**8},                        "classes 100000000 lies outside"),
    (VIT,    {"pooling": "sequence"},                   "pooling 'sequence' is not `class` or `mean`"),
    (BEIT,   {"head_init": -1.0},                       "head_init -1.0 lies outside 0 to 10"),
    (BEIT,   {"layer_scale_init": float("inf")},        "layer_scale_init inf lies outside 0 to 10"),
    # what the encoder needs
    (CCT,    {"heads": 3},                              "dim 256 is no multiple of heads 3"),
    (VIT,    {"heads": 5},                              "dim 768 is no multiple of heads 5"),
    (BEIT,   {"heads": 5},                              "dim 768 is no multiple of heads 5"),
    (CCT,    {"mlp_ratio": 0.0},                        "mlp_ratio 0 leaves no hidden unit"),
    (VIT,    {"mlp_ratio": 0.0},                        "mlp_ratio 0 leaves no hidden unit"),
    (BEIT,   {"mlp_ratio": 0.0006},                     "mlp_ratio 0.0006 leaves no hidden unit"),
    # what the picture needs
    (CCT,    {"image_size": (2, 2), "kernel": 9},       "image_size 2 x 2 leaves no token"),
    (VIT,    {"image_size": (224, 230)},                "width 230 is no multiple of the patch, 16 pixels; 224 or"),
    (VIT,    {"image_size": (8, 224)},                  "height 8 is no multiple of the patch, 16 pixels; 16 is$"),
    (BEIT,   {"image_size": (225, 224)},                "height 225 is no multiple of the patch, 16 pixels; 224 or"),
    (RESNET, {"image_size": (224, 232)},                "width 232 is no multiple of the patch, 16 pixels; 224 or"),
    (COARSE, {"image_size": (240, 224)},                "height 240 is no multiple of the patch, 32 pixels; 224 or"),
    # fields that do not go together
    (CCT,    {"classes": 0},                            r"classes 0 \(no head\) is for the families vit and beit"),
    (VIT,    {"stages": (3, 4, 9)},                     r"stages \(3, 4, 9\) are for stem `resnet`"),
    (RESNET, {"stem_width": 48},                        "stem_width 48 is no multiple of the 32 groups"),
    (VIT,    {"class_token": False},                    "pooling `class` without class_token"),
    (VIT,    {"fc_norm": True},                         "fc_norm is for pooling `mean`"),
    (VIT,    {"distilled": True, "pooling": "mean"},    "distilled is for pooling `class`, without pre_logits"),
    (VIT,    {"distilled": True, "pre_logits": 24},     "distilled is for pooling `class`, without pre_logits"),
    (VIT,    {"distilled": True, "register_tokens": 1}, "distilled is for pooling `class`, without pre_logits"),
    (BEIT,   {"key_bias": True, "qkv_bias": False},     "key_bias without qkv_bias"),
]  # fmt: skip


@pytest.mark.parametrize(("base", "change", "line"), REFUSED)
def test_a_config_that_no_network_can_have_is_named(base: ModelConfig, change: dict[str, Any], line: str) -> None:
    assert base.problems() == []
    values = config_to_json(base) | {k: list(v) if isinstance(v, tuple) else v for k, v in change.items()}
    with pytest.raises(ValueError, match=line):
        config_from_json(values)
    assert len(replace(base, **change).problems()) == 1


def test_all_that_is_wrong_is_named_at_once() -> None:
    assert len(replace(VIT, heads=0, dim=0, eps=-1.0, gelu="relu").problems()) == 4  # type: ignore[arg-type]
    assert len(replace(VIT, heads=5, image_size=(225, 225), class_token=False, stages=(1,)).problems()) == 5


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (None, "family None is not one of cct, vit, beit"),
        ([], "family None"),
        ({"family": ["cct"]}, "family"),
        ({"family": "swin"}, "family 'swin' is not one of cct, vit, beit"),
        ({"family": "vit"}, "model config lacks image_size, channels"),
        (config_to_json(CCT) | {"postional_embeding": "sine"}, "unknown keys: postional_embeding"),
        (config_to_json(CCT) | {"patch": 16}, "unknown keys: patch"),
        ({k: v for k, v in config_to_json(CCT).items() if k != "dim"}, "lacks dim"),
    ],
)
def test_json_of_another_shape_is_refused(values: object, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        config_from_json(values)
