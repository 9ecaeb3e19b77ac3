"""Recipes: strict, complete, all problems at once; every field matters or is refused; the resolved one is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from vitrail.data.configs import SourceName
from vitrail.errors import RecipeError
from vitrail.recipe import Recipe, load_recipe, recipe_names
from vitrail.recipe.ranges import RANGES
from vitrail.recipe.read import parse_recipe
from vitrail.recipe.write import fingerprint, to_plain, to_yaml

MINIMAL = "model: {variant: cct_2_3x2_32}\nschedule: {name: cosine, epochs: 2, lr: 1.0e-3}\n"


PAIRS_OF_NUMBERS = (
    "augment.crop.scale", "augment.crop.ratio", "augment.erase.area", "augment.erase.aspect", "mix.cutmix_minmax",
    "optimizer.betas",
)  # fmt: skip


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
    found = problems(text, "loss.smoothing=true", "optimizer={name: adamv}")
    assert found == [
        "override: loss.smoothing must be a number, not `true`",
        "override: optimizer.name `adamv` is not known; did you mean `adam`?",
        "line 1: model dim 130 is no multiple of heads 4",
        "line 1: model.clases no such key; did you mean `classes`?",
        "line 2: schedul no such key; did you mean `schedule`?",
        "line 3: schedule.lr must be a number, not `5e-4`: YAML reads it as text, write 5.0e-4",
        "line 3: schedule.min_lr has no effect: it belongs to `cosine`, `linear`, `polynomial`, `multi_step`, "
        "`exponential`, not to `constant`",
        "line 4: augment.crop.scale has no effect: it belongs to `random_resized`, not to `pad`",
        "line 4: augment.flip is 2, must lie in 0 to 1",
        "line 5: data.batch must be a whole number, not `1.5`",
        f"line 5: data.source `cifr` is not one of {', '.join(get_args(SourceName))}",
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


@pytest.mark.parametrize(
    ("augment", "found"),
    [
        ("{auto: rand-x9}", "line 3: augment.auto `rand-x9`: `x9` is no key with a number; known: m, n, p"),
        ("{auto: rnd-m9}", "line 3: augment.auto `rnd-m9`: `rnd` names no augmentation; did you mean `rand`?"),
        ("{auto: rand-m9, jitter: {hue: 0.1}}", "line 3: augment.jitter has no effect beside auto `rand-m9`"),
        ("{jitter: {probability: 0.5}}", "line 3: augment.jitter moves nothing"),
        ("{jitter: {hue: 0.6}}", "line 3: augment.jitter.hue is 0.6, must lie in 0 to 0.5"),
        ("{erase: {area: [0.5, 0.1]}}", "line 3: augment.erase.area 0.5 comes before the smaller 0.1"),
        ("{erase: {mode: pixels}}", "line 3: augment.erase.mode `pixels` is not one of const, rand, pixel"),
        ("{crop: {name: random_resized, interpolation: cubic}}", "augment.crop.interpolation `cubic` is not one of"),
        (
            "{auto: v0, crop: {name: random_resized, interpolation: lanczos}}",
            "line 3: augment.crop.interpolation `lanczos` cannot turn or shear",
        ),
    ],
)
def test_augmentation_that_does_not_stand(augment: str, found: str) -> None:
    (problem,) = problems(f"{MINIMAL}augment: {augment}\n")
    assert found in problem


def test_mixing_that_does_not_stand() -> None:
    assert "has no effect beside" in problems(MINIMAL, "mix={cutmix: 1.0, cutmix_minmax: [0.2, 0.8]}")[0]
    assert "comes before the smaller" in problems(MINIMAL, "mix={cutmix_minmax: [0.8, 0.2]}")[0]
    assert "not one of batch, pair, elem" in problems(MINIMAL, "mix={mixup: 1.0, mode: half}")[0]
    assert (
        "for 1 or 3 channels"
        in problems(MINIMAL, "model.channels=2", "policy={mean: [0.5, 0.5], std: [0.5, 0.5]}", "augment.auto=v0")[0]
    )


@pytest.mark.parametrize("auto", ["rand-m9-mstd0.5-inc1", "3a"])
def test_every_part_of_augmentation_comes_back_as_written(auto: str) -> None:
    overrides = [
        "augment.crop={name: random_resized, scale: [0.8, 1.0], interpolation: random}",
        f"augment.auto={auto}",
        "augment.vertical_flip=0.5",
        "augment.erase={probability: 0.25, mode: pixel, count: 2, aspect: [0.5, 2.0]}",
        "mix={mixup: 0.8, cutmix_minmax: [0.2, 0.8], mode: elem, off_epoch: 175}",
        *(["augment.jitter={brightness: 0.3, probability: 0.8}"] if auto == "3a" else []),
    ]
    recipe = parse_recipe(MINIMAL, "r", overrides)
    again = parse_recipe(to_yaml(recipe, version="0"), "again.yaml")
    assert bare(again) == bare(recipe) and fingerprint(again) == fingerprint(recipe)
    assert again.augment.auto == auto and again.mix is not None and again.mix.mode == "elem"


def test_schedules_that_contradict_themselves() -> None:
    assert "beside `warmup_epochs`" in problems(MINIMAL.replace("lr:", "warmup_epochs: 1, warmup_steps: 2, lr:"))[0]
    assert "1.5 of 1.5 epochs" in problems(MINIMAL, "schedule.epochs=1.5", "schedule.cooldown_epochs=1.5")[0]
    assert "2 of 2 leaves none" in problems(MINIMAL, "schedule.steps=2", "schedule.warmup_steps=2")[0]
    assert "give `t_max`" in problems(MINIMAL, "schedule.rise=true")[0]
    assert "give `t_max`" in problems(MINIMAL, "schedule.rise=true", "schedule.t_max=1", "schedule.cycles=2")[0]
    for key in ("cycle_mul", "cycle_decay"):
        assert "no effect with one cycle" in problems(MINIMAL, f"schedule.{key}=0.5")[0]
    for milestones in ("[]", "[2, 1]", "[1, 1]"):
        given = f"schedule={{name: multi_step, steps: 9, lr: 1.0, milestones: {milestones}}}"
        assert "each later than" in problems(MINIMAL, given)[0]
    assert "must be a list of numbers" in problems(MINIMAL, given, "schedule.milestones=3")[0]


FULL = {
    "cosine": "per: epoch_after_warmup, warmup_steps: 3, warmup_lr: 1.0e-6, warmup: shifted, warmup_prefix: false, "
    "min_lr: 1.0e-5, cooldown_epochs: 0.5, t_max: 0.5, cycles: 2, cycle_mul: 2, cycle_decay: 0.5, k_decay: 0.7, "
    "min_added: true",
    "constant": "per: epoch, warmup_epochs: 1, warmup: harmonic",
    "linear": "warmup_epochs: 0.5, warmup: ending, min_lr: 1.0e-4",
    "polynomial": "power: 2, cooldown_epochs: 1",
    "multi_step": "milestones: [0.5, 1.5], gamma: 0.3",
    "exponential": "gamma: 0.97, every: 2.5, min_added: true, min_lr: 1.0e-6",
}


@pytest.mark.parametrize("name", FULL)
def test_every_schedule_comes_back_from_its_yaml(name: str) -> None:
    given = f"schedule={{name: {name}, epochs: 2, lr: 1.0e-3, {FULL[name]}}}"
    recipe = parse_recipe(MINIMAL, "r", [given])
    assert recipe.schedule.name == name
    again = parse_recipe(to_yaml(recipe, version="0"), "again.yaml")
    assert again.schedule == recipe.schedule
    assert fingerprint(again) == fingerprint(recipe)


OPTIMIZERS = {
    "adamw": "betas: [0.9, 0.98], eps: 1.0e-6, layer_decay: 0.75, layer_decay_grouping: unilm",
    "adam": "weight_decay: 0.01, decayed: all_but_norms",
    "adam_weight_decay": "eps: 1.0e-8, decayed: weights",
    "sgd": "momentum: 0.8, nesterov: true",
    "lion": "betas: [0.95, 0.98]",
    "lamb": "always_adapt: true",
    "muon": "newton_schulz: 6, adjust: original, momentum: 0.9, nesterov: false",
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_comes_back_from_its_yaml(name: str) -> None:
    recipe = parse_recipe(MINIMAL, "r", [f"optimizer={{name: {name}, {OPTIMIZERS[name]}}}"])
    assert recipe.optimizer.name == name
    again = parse_recipe(to_yaml(recipe, version="0"), "again.yaml")
    assert again.optimizer == recipe.optimizer
    assert fingerprint(again) == fingerprint(recipe) != fingerprint(parse_recipe(MINIMAL, "r"))


def test_optimizers_that_contradict_themselves() -> None:
    assert "without `layer_decay`" in problems(MINIMAL, "optimizer={name: adamw, layer_decay_grouping: unilm}")[0]
    for name in ("sgd", "muon"):
        assert "without momentum" in problems(MINIMAL, f"optimizer={{name: {name}, nesterov: true, momentum: 0}}")[0]
    assert "is 1.5, must lie above 0" in problems(MINIMAL, "optimizer={name: lion, layer_decay: 1.5}")[0]


PARTS = {
    "loss={name: cross_entropy, smoothing: 0.1, smoothing_over: others}": (),
    "loss={name: bce, smoothing: 0.1, threshold: 0.2, over_classes: sum}": (),
    "loss={name: bce, teacher: {name: hard, path: runs/x, alpha: 0.3}}": (),
    "loss={name: cross_entropy, teacher: {name: soft, path: runs/x, temperature: 3.0}}": (),
    "average={name: swa, from_epoch: 1}": (),
    "train={accumulate: 4, clip_value: 0.5}": (),
    "train={loss_scale: {name: dynamic, initial: 4096, window: 1000}}": ("precision=fp16",),
    "train={loss_scale: {name: fixed, value: 1024.0}}": ("precision=fp16",),
}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_training_comes_back_from_its_yaml(part: str) -> None:
    recipe = parse_recipe(MINIMAL, "r", [part, *PARTS[part]])
    again = parse_recipe(to_yaml(recipe, version="0"), "again.yaml")
    assert bare(again) == bare(recipe)
    assert fingerprint(again) == fingerprint(recipe) != fingerprint(parse_recipe(MINIMAL, "r", PARTS[part]))


def test_training_that_contradicts_itself() -> None:
    assert "above 0, up to 0.5" in problems(MINIMAL, "loss.smoothing_over=others")[0]
    assert "above 0, up to 0.5" in problems(MINIMAL, "loss={name: bce, smoothing: 0.6, smoothing_over: others}")[0]
    assert "leaves none to average" in problems(MINIMAL, "average={name: swa, from_epoch: 2}")[0]
    assert "65 parts of data.batch 64" in problems(MINIMAL, "data.batch=64", "train.accumulate=65")[0]
    assert "beside `clip`" in problems(MINIMAL, "train={clip: 1.0, clip_value: 1.0}")[0]
    for precision in ("auto", "fp32", "bf16"):
        scaled = "train.loss_scale={name: fixed, value: 2.0}"
        assert "it is fp16's" in problems(MINIMAL, scaled, f"precision={precision}")[0]
    assert (
        "belongs to `soft`, not to `hard`"
        in problems(MINIMAL, "loss={name: bce, teacher: {name: hard, path: x, temperature: 2.0}}")[0]
    )


def test_the_journal_and_the_length_of_a_run() -> None:
    """How a run is told, and how long it may take, decide nothing; what may end it by its evaluations does."""
    told = ["journal={lines: cct_mindspore, to: [tensorboard]}", "train.time=1h30m", "checkpoint={unit: steps}"]
    recipe = parse_recipe(MINIMAL, "r", [*told, "evaluation={from: 25, every: 2}"])
    assert (recipe.evaluation.from_, recipe.evaluation.every) == (25, 2)
    again = parse_recipe(to_yaml(recipe, version="0"), "again.yaml")
    assert bare(again) == bare(recipe)
    assert again.origins["evaluation.from"] == "recipe"
    assert fingerprint(recipe) == fingerprint(parse_recipe(MINIMAL, "r"))
    patient = parse_recipe(MINIMAL, "r", ["evaluation.patience=3"])
    assert fingerprint(patient) not in (
        fingerprint(recipe),
        fingerprint(parse_recipe(MINIMAL, "r", ["evaluation={patience: 3, every: 2}"])),
    )


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("train.time=30", "`30` must be a time such as"),
        ("train.time=0m", "longer than nothing"),
        ("journal.to=[tensorbord]", "did you mean `tensorboard`?"),
        ("journal.to=[mlflow, mlflow]", "names one twice"),
        ("journal.lines=cct", "is not one of own, vit_mindspore"),
        ("evaluation.from_=3", "no such key; did you mean `from`?"),
        ("checkpoint.unit=epoch", "is not one of epochs, steps"),
    ],
)
def test_a_journal_that_does_not_stand(override: str, found: str) -> None:
    assert found in problems(MINIMAL, override)[0]


def test_where_a_teacher_lies_is_of_no_importance_once_its_hash_is_known() -> None:
    def print_of(path: str, sha256: str) -> str:
        teacher = f"{{name: hard, path: {path}, sha256: {sha256}}}"
        return fingerprint(parse_recipe(MINIMAL, "r", [f"loss={{name: bce, teacher: {teacher}}}"]))

    assert print_of("a", "x1") == print_of("b", "x1") != print_of("a", "x2")


def test_an_override_of_a_part_that_is_not_given_is_of_the_default_one() -> None:
    recipe = parse_recipe(MINIMAL, "r", ["loss.smoothing=0.1", "optimizer.weight_decay=0.1"])
    assert (recipe.loss.smoothing, recipe.optimizer.weight_decay) == (0.1, 0.1)
    assert (recipe.loss.name, recipe.optimizer.name) == ("cross_entropy", "adamw")


def test_patterns_come_back_from_their_yaml() -> None:
    recipe = parse_recipe(MINIMAL, "r", ["train.freeze=['*', '!classifier.fc.*']"])
    assert recipe.train.freeze == ("*", "!classifier.fc.*")
    assert parse_recipe(to_yaml(recipe, version="0"), "again.yaml").train == recipe.train
    assert "must be a list of texts" in problems(MINIMAL, "train.freeze=head")[0]


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


# keys that only some kinds of a part have -> an override that gives one of them
OWNERS = {
    ("optimizer.momentum",): "optimizer={name: sgd}",
    ("loss.threshold",): "loss={name: bce}",
    ("loss.teacher.alpha", "loss.teacher.temperature"): "loss={name: bce, teacher: {name: soft, path: x}}",
    ("average.from_epoch",): "average={name: swa, from_epoch: 1}",
    ("train.loss_scale.value",): "train.loss_scale={name: fixed, value: 2.0}",
    ("train.loss_scale.initial", "train.loss_scale.factor"): "train.loss_scale={name: dynamic}",
    ("train.loss_scale.window",): "train.loss_scale={name: dynamic}",
    ("optimizer.newton_schulz",): "optimizer={name: muon}",
    ("augment.crop.padding",): "augment={crop: {name: pad}}",
    ("schedule.power",): "schedule={name: polynomial, steps: 9, lr: 1.0}",
    ("schedule.gamma", "schedule.milestones"): "schedule={name: multi_step, steps: 9, lr: 1.0, milestones: [1]}",
    ("watch.dump.every", "watch.profile.first", "watch.profile.steps"): "watch={dump: {every: 1}, profile: {}}",
    ("schedule.every",): "schedule={name: exponential, steps: 9, lr: 1.0}",
}


def test_every_number_has_a_range_that_is_enforced() -> None:
    """No number of a recipe is unbounded: -1e30 or 1e30 or 0.5 of something whole is refused for each."""
    whole = {
        "augment": "{crop: {name: random_resized}, jitter: {hue: 0.1}, erase: {}}",
        "mix": "{mixup: 1.0}",
        "average": "{name: ema}",
        "optimizer": "{name: adamw}",
    }
    base = [f"{key}={value}" for key, value in whole.items()]
    assert parse_recipe(MINIMAL, "r", base)
    for key in RANGES:
        part = next((given for keys, given in OWNERS.items() if key in keys), None)
        value = "[-1.0e+30, 1.0]" if key in PAIRS_OF_NUMBERS else "[-5]" if key == "schedule.milestones" else "-5"
        overrides = [*base, *([part] if part else []), f"{key}={value}"]
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
        ("watch.captures", 9),
        ("watch", "{dump: {every: 3}, profile: {}}"),
        ("name", "other"),
    ):
        changed = load_recipe("digits/cct_2_3x2_32", ["mix={mixup: 0.1, off_epoch: 3}", f"{key}={value}"])
        assert fingerprint(changed) == base, key
    assert list(to_plain(recipe))[:4] == ["format", "name", "model", "policy"]


def test_the_format_of_recipes() -> None:
    assert parse_recipe("format: '1.4'\n" + MINIMAL, "r")
    assert any("this vitrail reads 1.0" in line for line in problems("format: '2.0'\n" + MINIMAL))


@pytest.mark.parametrize(
    ("recipe", "overrides", "problem"),
    [
        (
            "cifar10/vit_base_patch16_224",
            ["model.stem_width=32"],
            "model.stem_width has no effect: the stem",
        ),
        (
            "cifar10/cct_7_3x1_32_300epochs",
            ["model.conv_width=32"],
            "has no effect: there is one convolution",
        ),
        ("folder/scratch", ["model.variant=cvt_2_4_32", "model.pool_padding=same"], "has no effect: there is no pool"),
        ("imagenet/beit_base_patch16_224", ["model.head_init=0.5"], "has no effect: the run starts from weights"),
        ("folder/scratch", ["model.variant=vit_tiny_patch16_224", "model.layer_scale_init=1"], "layer_scale is off"),
        (
            "digits/cct_2_3x2_32",
            ["optimizer.weight_decay=0", "optimizer.decayed=weights"],
            "optimizer.weight_decay is 0",
        ),
        ("digits/cct_2_3x2_32", ["evaluation.patience=3", "evaluation.every=0"], "evaluates at the end alone"),
        ("digits/cct_2_3x2_32", ["schedule.min_added=true", "schedule.min_lr=0"], "schedule.min_lr is 0"),
        ("digits/cct_2_3x2_32", ["schedule.warmup_epochs=0", "schedule.warmup_lr=0.1"], "give schedule.warmup_lr=0.0"),
    ],
)
def test_what_nothing_would_look_at_is_refused(recipe: str, overrides: list[str], problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, overrides)
    assert any(problem in line for line in caught.value.evidence), caught.value.evidence


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("schedule.lr=.inf", "schedule.lr is inf, must be above 0 and finite"),
        ("model=cct", "model must be a mapping, not `cct`: write model.variant=NAME"),
        ("train.accumulate=33", "train.accumulate 33 parts of data.batch 32: give 1 to 32"),
    ],
)
def test_a_refusal_says_what_to_write(override: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("digits/cct_2_3x2_32", [override])
    assert list(caught.value.evidence) == [f"override: {said}"]
