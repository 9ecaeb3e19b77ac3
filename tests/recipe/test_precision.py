"""The precisions of other packages are said with their package, and resolve to plain values that tell their origin."""

from __future__ import annotations

import pytest

from vitrail.errors import RecipeError
from vitrail.recipe import Recipe, load_recipe
from vitrail.recipe.precision import MEANT, in_words
from vitrail.recipe.read import parse_recipe
from vitrail.recipe.write import fingerprint, to_yaml
from vitrail.training.configs import DynamicScale

DIGITS = "digits/cct_2_3x2_32"


def of(word: str, *more: str) -> Recipe:
    return load_recipe(DIGITS, [f"precision={word}", *more])


@pytest.mark.parametrize(
    ("word", "precision", "initial", "window", "fp32"),
    [
        ("mindspore_vit.O0", "fp32", None, None, ()),
        ("mindspore_vit.O2", "fp16", 2.0**24, 2000, ()),
        ("mindspore_vit.O3", "fp16", None, None, ()),
        ("mindspore_cct.O0", "fp32", None, None, ()),
        ("mindspore_cct.O1", "fp32", None, None, ()),
        ("mindspore_cct.O2", "fp16", 4096.0, 1000, ("*norm*", "tokenizer*")),
        ("mindspore_cct.O3", "fp16", 4096.0, 1000, ()),
        ("mindspore_beit.O0", "fp32", None, None, ()),
        ("mindspore_beit.O1", "fp16", 2.0**24, 2000, ("*norm*",)),
        ("mindspore_beit.O2", "fp16", 2.0**24, 2000, ("*norm*",)),
        ("mindspore_beit.O3", "fp16", 2.0**24, 2000, ()),
        ("tensorflow.allow_fp32_to_fp16", "fp32", None, None, ()),
        ("tensorflow.force_fp32", "fp32", None, None, ()),
        ("tensorflow.must_keep_origin_dtype", "fp32", None, None, ()),
        ("tensorflow.force_fp16", "fp16", 65536.0, 2000, ()),
        ("tensorflow.allow_mix_precision", "fp16", 65536.0, 2000, ("*norm*",)),
    ],
)
def test_every_word_means_what_its_package_did(
    word: str, precision: str, initial: float | None, window: int | None, fp32: tuple[str, ...]
) -> None:
    recipe = of(word)
    scale = recipe.train.loss_scale
    assert (recipe.precision, recipe.train.fp32) == (precision, fp32)
    assert scale == (None if initial is None or window is None else DynamicScale(initial=initial, window=window))
    assert recipe.origins["precision"] == word
    assert (in_words(recipe) or "").startswith(f"precision {word} means {precision}")


def test_every_word_is_tested() -> None:
    assert len(MEANT) == 16


def test_a_resolved_recipe_holds_plain_values_and_their_origin() -> None:
    recipe = of("mindspore_cct.O2")
    text = to_yaml(recipe, version="0")
    assert "precision: fp16                              # mindspore_cct.O2" in text
    assert "initial: 4096.0                          # mindspore_cct.O2" in text
    again = parse_recipe(text, "again.yaml")
    assert fingerprint(again) == fingerprint(recipe) and in_words(again) is None
    assert in_words(recipe) == (
        "precision mindspore_cct.O2 means fp16; its loss scale from 4096, times 2 after 1000 steps; "
        "in float32: *norm*, tokenizer*"
    )
    assert "without a loss scale" in (in_words(of("mindspore_vit.O3")) or "")


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["precision=O1"], "`O1` is no precision; say whose: mindspore_cct.O1, mindspore_beit.O1"),
        (["precision=O3"], "say whose: mindspore_vit.O3, mindspore_cct.O3, mindspore_beit.O3"),
        (["precision=allow_mix_precision"], "say whose: tensorflow.allow_mix_precision"),
        (["precision=mindspore_cct.O4"], "`mindspore_cct.O4` is no precision; did you mean `mindspore_cct.O"),
        (["precision=mindspore_vit.O1"], "`mindspore_vit.O1` is no precision"),
        (
            ["precision=mindspore_cct.O2", "train.loss_scale={name: fixed, value: 2}"],
            "loss_scale stands beside precision",
        ),
        (["precision=mindspore_cct.O2", "train.fp32=['*']"], "train.fp32 stands beside precision `mindspore_cct.O2`"),
        (["precision=fp8"], "`fp8` is not one of auto, fp32, tf32, bf16, fp16"),
        (["train.fp32=['*norm*']"], "train.fp32 has no effect with precision auto"),
        (["train.fp32=['*norm*']", "precision=fp32"], "train.fp32 has no effect with precision fp32"),
    ],
)
def test_words_that_are_refused(overrides: list[str], problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(DIGITS, overrides)
    assert caught.value.code == "V101"
    assert any(problem in line for line in caught.value.evidence), caught.value.evidence


def test_an_override_takes_the_word_away_with_all_that_it_says() -> None:
    recipe = load_recipe("imagenet/cct_14_7x2_224", ["precision=fp32"])
    assert recipe.train.loss_scale is None and recipe.train.fp32 == () and recipe.train.clip == 5.0
