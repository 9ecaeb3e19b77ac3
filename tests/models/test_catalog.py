"""Names, configs and their checks."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from vitrail.errors import WeightsError
from vitrail.models.catalog import VARIANTS, variant
from vitrail.models.configs import CCTConfig, config_from_json, config_to_json


def test_every_variant_holds_and_its_policy_fits_its_picture() -> None:
    for name, row in VARIANTS.items():
        assert row.name == name
        assert row.config.problems() == []
        assert row.policy.problems() == []
        assert row.policy.size == row.config.image_size
        assert row.policy.channels == row.config.channels
        assert row.config.positions == ("sine" if "_sine" in name else "learned")


def test_no_two_variants_are_the_same_network() -> None:
    assert len({row.config for row in VARIANTS.values()}) == len(VARIANTS)


def test_an_unknown_variant_is_refused_with_the_nearest() -> None:
    with pytest.raises(WeightsError, match="no variant") as caught:
        variant("cct_7_3x1_23")
    assert caught.value.code == "V203"
    assert "`cct_7_3x1_32`" in caught.value.hint


def test_a_config_survives_json() -> None:
    for row in VARIANTS.values():
        assert config_from_json(json.loads(json.dumps(config_to_json(row.config)))) == row.config


BASE = CCTConfig(image_size=(32, 32))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"heads": 0}, "heads"), ({"heads": 3}, "multiple"), ({"stride": 0}, "stride"), ({"dim": -4}, "dim"),
        ({"depth": 10**9}, "depth"), ({"mlp_ratio": float("nan")}, "mlp_ratio"), ({"mlp_ratio": 0.0}, "mlp_ratio"),
        ({"image_size": (2, 2), "kernel": 9}, "image_size"), ({"image_size": (32, 0)}, "image_size"),
        ({"classes": True}, "classes"), ({"positions": "typo"}, "positions"), ({"pooling": None}, "pooling"),
        ({"drop_path": 1.0}, "drop_path"), ({"padding": -1}, "padding"), ({"image_size": (32,)}, "image_size"),
        ({"conv_bias": 1}, "conv_bias"), ({"channels": 2.0}, "channels"),
    ],
)  # fmt: skip
def test_a_config_that_no_network_can_have_is_named(change: dict[str, object], word: str) -> None:
    problems = replace(BASE, **change).problems()
    assert any(word in line for line in problems), problems
    values = config_to_json(BASE) | {k: list(v) if isinstance(v, tuple) else v for k, v in change.items()}
    with pytest.raises(ValueError, match=word):
        config_from_json(values)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        (None, "family"), ([], "family"), ({"family": ["cct"]}, "family"), ({"family": "vit"}, "family"),
        (config_to_json(BASE) | {"postional_embeding": "sine"}, "postional_embeding"),
        ({k: v for k, v in config_to_json(BASE).items() if k != "dim"}, "dim"),
    ],
)  # fmt: skip
def test_json_of_another_shape_is_refused(values: object, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        config_from_json(values)
