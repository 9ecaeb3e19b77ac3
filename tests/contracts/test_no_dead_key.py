"""No dead key: whatever field of a shipped recipe is changed, the run changes, or the recipe is refused.

Each field that the schema knows is set to another value in a cut run of six steps, whose losses, rates, saved steps and
last state are compared. Quick: every field once. `make prove`: every field of every recipe.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from tests.contracts.small_runs import Shown, curve, cut, run
from vitrail.errors import VitrailError
from vitrail.recipe import Recipe, load_recipe, recipe_names
from vitrail.recipe.schema import PARTS

# Says how a run goes, not what comes of it (or what comes of it in worse luck): the run must read it.
HOW = (
    "data.workers", "data.patience", "data.on_bad", "train.attention", "train.threads", "train.keep_pages",
    "train.loss_scale.window", "train.recompute", "train.time", "train.patience", "checkpoint.on_error",
    "evaluation.batch",
    "watch.activations", "watch.stall",
)  # fmt: skip

# Has its effect on other data than these made ones, where its tests are.
ELSEWHERE = {
    "checkpoint.sharded": "tests/ranks: several ranks",
    "data.held_out": "tests/data: sources with both a validation and a test part",
    "data.decode": "tests/pictures: JPEG files",
    "data.follow_outside": "tests/data: folders with links",
    "data.class_order": "tests/data: classes whose names hold numbers of different lengths",
    "data.bad_limit": "tests/verbs/test_on_bad.py: pictures that cannot be read",
    "evaluation.patience": "tests/training/test_due.py: evaluations that are no better",
    "data.batch_per_device": "tests/ranks: several devices",
    "schedule.lr_rule": "tests/ranks: several devices",
    "train.parallel": "tests/ranks: several devices",
    "watch.captures": "tests/training/test_watch.py: numbers that break",
    "train.on_nan": "tests/training/test_loop.py: numbers that break",
    "train.loss_scale.factor": "tests/training/test_loss_scale.py: overflows",
    "watch.overflows": "tests/training/test_watch.py: overflows",
}

# Of a field that is absent, or whose neighbours in size would be lost in rounding.
GIVEN: dict[str, object] = {
    "weights": {"path": "nowhere.safetensors"},
    "weights.dialect": "keras2",
    "weights.sha256": "0" * 64,
    "data.root": "nowhere",
    "data.val": "nowhere",
    "data.classes": ["a", "b", "c"],
    "data.rename": {"0": "zero"},
    "data.repeats": 2,
    "data.bad_limit": 0.5,
    "augment.auto": "rand-m5-n3",
    "augment.jitter": {"brightness": 0.5},
    "augment.erase": {"probability": 1.0},
    "adapter": {"name": "lora", "rank": 2, "alpha": 4.0, "targets": ["qkv"]},
    "adapter.targets": ["mlp"],
    "mix": {"mixup": 1.0},
    "mix.cutmix_minmax": [0.2, 0.8],
    "mix.off_epoch": 1,
    "loss.teacher": {"name": "soft", "path": "nowhere"},
    "optimizer.eps": 1.0e-2,
    "optimizer.weight_decay": 0.7,
    "optimizer.layer_decay": 0.5,
    "average": {"name": "swa", "from_epoch": 1},
    "train.freeze": ["*bias*"],  # which LoRA leaves in the head
    "train.clip": 1.0e-3,
    "train.clip_value": 1.0e-4,
    "train.loss_scale": {"name": "fixed", "value": 8.0},
    "train.threads": 2,
    "train.fp32": ["*qkv*"],  # norms are computed so anyway
    "schedule.epochs": 7,
    "schedule.steps": 17,
    "schedule.warmup_steps": 4,
    "schedule.t_max": 1.5,
    "watch.dump": {"every": 2},
    "watch.profile": {"first": 2, "steps": 1},
    "model.eps": 1.0e-2,
    "model.image_size": 48,
    "model.layer_scale_init": 0.5,
}

# The same whatever is said, of a network as it stands: nothing would be gained by refusing it.
ALIKE = {
    ("beit", "optimizer.layer_decay_grouping"): "a BEiT that pools by mean has no norm for the two to count otherwise",
}


def idle(recipe: Recipe, key: str) -> bool:
    """Whether a field waits for another that is off. It is no mistake: the other one may be switched off in passing."""
    if key == "evaluation.unit":
        return recipe.evaluation.every == 0
    if key == "mix.switch":
        assert recipe.mix is not None
        return not recipe.mix.mixup or not (recipe.mix.cutmix or recipe.mix.cutmix_minmax)
    return False


def leaves(part: object, lead: str) -> Iterator[str]:
    """Every field of a part, dotted, those of nested parts too."""
    for item in fields(part):  # type: ignore[arg-type]
        key, value = f"{lead}.{item.name}", getattr(part, item.name)
        if is_dataclass(value):
            yield from leaves(value, key)
        else:
            yield key


def keys(recipe: Recipe) -> list[str]:
    found = [*leaves(recipe.config, "model"), *leaves(recipe.policy, "policy")]
    for name in PARTS:
        value = getattr(recipe, name)
        found += leaves(value, name) if is_dataclass(value) else [name]
    return ["model.variant", *found]


def choices(kind: Any) -> tuple[object, ...]:
    """The words that a field takes, where its kind lists them."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    if get_origin(kind) is Union or "|" in str(kind):
        return tuple(word for inner in get_args(kind) for word in choices(inner))
    return ()


def others(recipe: Recipe, key: str) -> list[object]:
    """Other values for a field, the most telling first."""
    *path, last = key.split(".")
    owner: Any = recipe
    for name in path:
        owner = {"model": recipe.config}.get(name) if owner is recipe and name == "model" else getattr(owner, name)
    if key == "model.variant":
        # cut to one depth and width, a small one may be the other
        return [name for name in ("cct_4_3x2_32", "cct_7_3x1_32") if name != recipe.variant]
    value = getattr(owner, last)
    words = choices(get_type_hints(type(owner))[last] if owner is not recipe else PARTS[last])
    if words:
        return [word for word in words if word not in (value, "auto")]  # auto finds what is there already
    if key in GIVEN:
        return [GIVEN[key]]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [one for one in (1, 2, value // 2, value + 1, 2 * value) if one != value]
    if isinstance(value, float):
        return [one for one in (value / 1000, value / 2, 0.5, 2 * value, 1.0, 0.0) if one != value]
    if isinstance(value, tuple) and value and isinstance(value[0], float):
        return [[value[0] / 2, *value[1:]], [*value[:-1], value[-1] / 2]]
    if isinstance(value, tuple):
        return [[2 * int(one) for one in value]] if value else [[1, 1]]
    assert isinstance(value, str), f"{key} is {value!r}: give another value in GIVEN"
    return ["nowhere"]


@cache
def base(name: str, folder: Path, *more: str) -> Shown:
    return run(load_recipe(name, cut(name, folder, *more)), folder / f"{name.replace('/', '-')}-as-it-is-{len(more)}")


def is_live(name: str, key: str, folder: Path) -> bool:
    """Whether one of the other values changes the run, or all are refused."""
    whole, refused, counter = load_recipe(name), True, len(list(folder.iterdir()))
    now = whole if key.startswith("schedule.") else load_recipe(name, cut(name, folder))
    # of few steps none may be mixed by chance
    more = ["mix.probability=1.0"] if key.startswith("mix.") and key != "mix.probability" else []
    for turn, value in enumerate(others(now, key)):
        override = f"{key}={json.dumps(value)}"
        try:
            if key.startswith("schedule."):
                if curve(load_recipe(name, [override]), 100) != curve(whole, 100):
                    return True
            else:
                small = load_recipe(name, cut(name, folder, *more, override))
                if run(small, folder / f"{counter}-{turn}") != base(name, folder, *more):
                    return True
            refused = False
        except VitrailError:
            continue
    return refused


def quick() -> list[tuple[str, str]]:
    """Each field once, in the first recipe that has it; one of each family first."""
    first = ("cifar10/vit_base_patch16_224", "imagenet/cct_14_7x2_224", "imagenet/beit_base_patch16_224_model_zoo")
    seen: dict[tuple[str, str], str] = {}
    for name in dict.fromkeys((*first, *recipe_names())):
        recipe = load_recipe(name)
        for key in keys(recipe):
            part = getattr(recipe, key.partition(".")[0], None)
            kind = type(recipe.config) if key.startswith("model.") else type(part)
            seen.setdefault((kind.__name__, key), name)
    return [(name, key) for (_, key), name in seen.items() if key not in (*HOW, *ELSEWHERE)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize(("name", "key"), quick(), ids=lambda text: text)
def test_every_field_once(name: str, key: str, folder: Path) -> None:
    family = type(load_recipe(name).config).__name__.removesuffix("Config").lower()
    assert is_live(name, key, folder) or (family, key) in ALIKE


@pytest.mark.prove
@pytest.mark.parametrize("name", recipe_names())
def test_every_field_of_every_recipe(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    family = type(recipe.config).__name__.removesuffix("Config").lower()
    asked = [key for key in keys(recipe) if key not in (*HOW, *ELSEWHERE) and (family, key) not in ALIKE]
    assert [key for key in asked if not (idle(recipe, key) or is_live(name, key, tmp_path))] == []


# ---- what changes no result must be read by what runs


def spied(part: Any, lead: str, read: set[str]) -> Any:
    """The same part, which notes the fields that are read outside of `recipe/`."""
    kind = type(part)

    class Spied(kind):  # type: ignore[valid-type,misc]
        def __getattribute__(self, name: str) -> Any:
            caller = sys._getframe(1).f_code.co_filename
            if "/vitrail/" in caller and "/recipe/" not in caller:
                read.add(f"{lead}.{name}")
            return super().__getattribute__(name)

    Spied.__name__ = Spied.__qualname__ = kind.__name__
    nested = {item.name: getattr(part, item.name) for item in fields(part)}
    made = {key: spied(value, f"{lead}.{key}", read) if is_dataclass(value) else value for key, value in nested.items()}
    return Spied(**made)


@pytest.mark.parametrize("name", ["imagenet/cct_14_7x2_224"])
def test_what_says_how_is_read(name: str, tmp_path: Path) -> None:
    recipe, read = load_recipe(name, cut(name, tmp_path, "data.workers=2")), set[str]()
    spied_on = ("data", "train", "checkpoint", "evaluation", "watch")
    parts = {part: spied(getattr(recipe, part), part, read) for part in spied_on}
    run(replace(recipe, **parts), tmp_path / "run")
    unread = [key for key in HOW if key not in read]
    assert not unread, unread


def test_the_lists_name_fields_that_are_there() -> None:
    known = {key for name in recipe_names() for key in keys(load_recipe(name))}
    known |= set(GIVEN) & {"weights", "mix", "average"}
    assert [key for key in (*HOW, *ELSEWHERE, *GIVEN) if key not in known] == []
