"""Recipes: strict, complete, all problems at once; every field matters or is refused; the resolved one is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vitrail.errors import RecipeError
from vitrail.recipe import Recipe, load_recipe, recipe_names
from vitrail.recipe.read import parse_recipe
from vitrail.recipe.schema import RANGES
from vitrail.recipe.write import fingerprint, to_plain, to_yaml

MINIMAL = "model: {variant: cct_2_3x2_32}\nschedule: {name: cosine, epochs: 2, lr: 1.0e-3}\n"


def problems(text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "r.yaml", overrides)
    assert caught.value.code == "V101"
    return list(caught.value.evidence)


def bare(recipe: Recipe) -> Recipe:
    return replace(recipe, origins={}, classes_given=False, name="")


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_hold_and_resolve_to_themselves(name: str) -> None:
    recipe = load_recipe(name)
    again = parse_recipe(to_yaml(recipe, version="0"), "again.yaml", name="another")
    assert again.name == name
    assert bare(again) == bare(recipe)
    assert fingerprint(again) == fingerprint(recipe)
    assert recipe.name == name


def test_all_problems_at_once_with_their_lines() -> None:
    text = """model: {variant: cct_2_3x2_32, clases: 3, dim: 130, heads: 4}
schedul: {name: cosine}
schedule: {name: constant, lr: 5e-4, epochs: 3, min_lr: 0.1}
augment: {crop: {name: pad, scale: [1,2]}, flip: 2}
data: {batch: 1.5, source: cifr}
"""
    found = problems(text, "loss.smoothing=true", "optimizer={name: adam}")
    assert found == [
        "override: loss.smoothing must be a number, not `true`",
        "override: optimizer.name `adam` is not known; did you mean `adamw`?",
        "line 1: model dim 130 is no multiple of heads 4",
        "line 1: model.clases no such key; did you mean `classes`?",
        "line 2: schedul no such key; did you mean `schedule`?",
        "line 3: schedule.lr must be a number, not `5e-4`: YAML reads it as text, write 5.0e-4",
        "line 3: schedule.min_lr has no effect: it belongs to `cosine`, not to `constant`",
        "line 4: augment.crop.scale has no effect: it belongs to `random_resized`, not to `pad`",
        "line 4: augment.flip is 2, must lie in 0 to 1",
        "line 5: data.batch must be a whole number, not `1.5`",
        "line 5: data.source `cifr` is not one of auto, folder, cifar, digits",
    ]


def test_what_contradicts_itself() -> None:
    assert "exactly one of `epochs` and `steps`" in problems(MINIMAL.replace("epochs: 2", "epochs: 2, steps: 3"))[0]
    assert "exactly one of" in problems(MINIMAL.replace("epochs: 2, ", ""))[0]
    assert "above schedule.lr" in problems(MINIMAL, "schedule.min_lr=1")[0]
    assert "leaves none to train in" in problems(MINIMAL, "schedule.warmup_epochs=2")[0]
    assert "neither mixup nor cutmix" in problems(MINIMAL, "mix={}")[0]
    assert "3 values for 1 channels" in problems(MINIMAL, "model.channels=1")[0]
    assert "policy.size" in problems(MINIMAL, "policy.size=[16, 16]")[0]
    assert "no multiple of heads" in problems(MINIMAL, "model.dim=129")[0]
    assert "is missing" in problems("model: {variant: cct_2_3x2_32}\n")[0]
    assert "names the variant" in problems("schedule: {name: cosine, epochs: 2, lr: 1.0e-3}\n")[0]
    assert "did you mean `cct_2_3x2_32`?" in problems(MINIMAL.replace("2_3x2", "2_3x3"))[0]


def test_overrides() -> None:
    recipe = parse_recipe(MINIMAL, "r", ["schedule.steps=7", "train.seed=3", "mix={mixup: 0.2}", "model.image_size=48"])
    assert recipe.schedule.steps == 7 and recipe.schedule.epochs is None
    assert recipe.train.seed == 3 and recipe.mix is not None and recipe.mix.mixup == 0.2
    assert recipe.config.image_size == recipe.policy.size == (48, 48)
    assert recipe.origins["train.seed"] == "command line" and recipe.origins["schedule.lr"] == "recipe"
    assert recipe.origins["data.batch"] == "default" and recipe.origins["model.dim"] == "variant"
    back = parse_recipe(MINIMAL, "r", ["mix={mixup: 0.2}", "mix=null"])
    assert back.mix is None
    with pytest.raises(RecipeError, match="is no override"):
        parse_recipe(MINIMAL, "r", ["train.seed"])


@pytest.mark.parametrize(
    "text", ["", "[1, 2]", "a: 1\na: 2\n", "a: *b\n", "a: !!python/object:os.system x\n", "a: {\n", "on: yes\n"]
)
def test_yaml_that_is_refused(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "r.yaml")
    assert caught.value.code == "V103"


def test_unknown_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no recipe `digits/cct_2_3x2_3`") as caught:
        load_recipe("digits/cct_2_3x2_3")
    assert caught.value.code == "V102" and "digits/cct_2_3x2_32" in caught.value.hint
    (tmp_path / "odd.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "odd.yaml")
    assert caught.value.code == "V103"


def test_every_number_has_a_range_that_is_enforced() -> None:
    """No number of a recipe is unbounded: -1e30 or 1e30 or 0.5 of something whole is refused for each."""
    whole = {
        "augment": "{crop: {name: random_resized}}",
        "mix": "{mixup: 1.0}",
        "average": "{name: ema}",
        "optimizer": "{name: adamw}",
    }
    base = [f"{key}={value}" for key, value in whole.items()]
    assert parse_recipe(MINIMAL, "r", base)
    for key in RANGES:
        extra = {"optimizer.momentum": "optimizer={name: sgd}", "augment.crop.padding": "augment={crop: {name: pad}}"}
        value = "[-1.0e+30, 1.0]" if key in ("augment.crop.scale", "augment.crop.ratio", "optimizer.betas") else "-5"
        overrides = [*base, *([extra[key]] if key in extra else []), f"{key}={value}"]
        assert any(f"{key} is " in line for line in problems(MINIMAL, *overrides)), key


def test_the_fingerprint_sees_every_leaf_but_places() -> None:
    recipe = load_recipe("digits/cct_2_3x2_32", ["mix={mixup: 0.1, off_epoch: 3}"])
    base = fingerprint(recipe)
    assert fingerprint(load_recipe("digits/cct_2_3x2_32", ["mix={mixup: 0.1, off_epoch: 3}", "data.root=x"])) == base
    for key, value in (
        ("train.seed", 1),
        ("mix.off_epoch", 4),
        ("model.dim", 64),
        ("policy.crop", 0.9),
        ("data.batch", 8),
    ):
        changed = load_recipe("digits/cct_2_3x2_32", ["mix={mixup: 0.1, off_epoch: 3}", f"{key}={value}"])
        assert fingerprint(changed) != base, key
    for key, value in (
        ("checkpoint.keep", 9),
        ("evaluation.batch", 9),
        ("data.workers", 9),
        ("train.keep_pages", False),
        ("name", "other"),
    ):
        changed = load_recipe("digits/cct_2_3x2_32", ["mix={mixup: 0.1, off_epoch: 3}", f"{key}={value}"])
        assert fingerprint(changed) == base, key
    assert list(to_plain(recipe))[:4] == ["format", "name", "model", "policy"]


def test_the_format_of_recipes() -> None:
    assert parse_recipe("format: '1.4'\n" + MINIMAL, "r")
    assert any("this vitrail reads 1.0" in line for line in problems("format: '2.0'\n" + MINIMAL))
