"""Whatever a recipe turns on, a run that is stopped and resumed ends in the same bits: promise A10."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.verbs.small import hashes, small
from tests.verbs.test_resume import _stop_after
from vitrail.errors import RecipeError, Stopped
from vitrail.verbs.train import train

PLAIN = ("mix=null", "loss.smoothing=0.1", "schedule.steps=8", "schedule.warmup_epochs=0", "evaluation.every=0")
CALM = ("model.dropout=0", "model.attention_dropout=0", "model.drop_path=0")
SETTINGS: dict[str, tuple[str, ...]] = {
    "mixup": ("mix.mixup=0.8",),
    "cutmix": ("mix.cutmix=1.0",),
    "erasing": ("augment.erase={probability: 1.0, mode: pixel}",),
    "repeats": ("data.repeats=3",),
    "drop path": ("model.drop_path=0.5",),
    "dropout": ("model.dropout=0.3",),
    "attention dropout": ("model.attention_dropout=0.3",),
    "recompute": ("train.recompute=true", "model.drop_path=0.2"),
    "policies": ("augment.auto=rand-m9-mstd0.5-inc1",),
    "balanced": ("data.sampling=balanced",),
    "in parts": ("train.accumulate=3",),
    "bf16": ("precision=bf16",),
    "SWA": ("average={name: swa, from_epoch: 0}",),
    "fused": ("train.attention=fused",),
}


def same_bits(family: str, overrides: Sequence[str], place: Path, last: int = 3) -> None:
    recipe = small(*PLAIN, *CALM, *overrides, family=family)
    train(recipe, out=place / "whole")
    with pytest.raises(Stopped):
        train(recipe, out=place / "run", listener=_stop_after(last))
    train(recipe, out=place / "run", resume=True)
    assert hashes(place / "run") == hashes(place / "whole")


@pytest.mark.parametrize(
    "wrong",
    [
        "train.freeze=[tokens.*]",
        "train.fp32=[tokens.*]",
        "watch.dump={every: 1, layers: [tokens.*]}",
    ],
)
def test_a_pattern_that_matches_nothing_is_told_before_anything_is_written(wrong: str, tmp_path: Path) -> None:
    """So that the same command without it starts the run, and is not refused as another recipe of one that is there."""
    with pytest.raises(RecipeError) as caught:
        train(small("schedule.steps=1", "schedule.warmup_epochs=0", "precision=bf16", wrong), out=tmp_path / "run")
    assert caught.value.code == "V104" and "tokens.*" in caught.value.what
    assert not (tmp_path / "run" / "recipe.yaml").exists()


@pytest.mark.parametrize(
    ("family", "names"),
    [("cct", ("mixup", "erasing", "drop path")), ("vit", ("cutmix", "repeats", "in parts")), ("beit", ("recompute",))],
    ids=str,
)
def test_A10_a_resume_keeps_the_bits(family: str, names: tuple[str, ...], tmp_path: Path) -> None:
    same_bits(family, [override for name in names for override in SETTINGS[name]], tmp_path)


def test_A10_a_run_may_go_on_without_recomputing(tmp_path: Path) -> None:
    noisy = (*PLAIN, "model.drop_path=0.3")
    train(small(*noisy, family="vit"), out=tmp_path / "whole")
    with pytest.raises(Stopped):
        train(small(*noisy, "train.recompute=true", family="vit"), out=tmp_path / "run", listener=_stop_after(3))
    train(small(*noisy, family="vit"), out=tmp_path / "run", resume=True)
    assert hashes(tmp_path / "run") == hashes(tmp_path / "whole")


@pytest.mark.prove
@pytest.mark.parametrize("family", ["cct", "vit", "beit"])
@pytest.mark.parametrize("name", SETTINGS)
def test_A10_each_by_itself(name: str, family: str, tmp_path: Path) -> None:
    same_bits(family, SETTINGS[name], tmp_path)


@pytest.mark.prove
@pytest.mark.parametrize("number", range(30))
def test_A10_random_pairs(number: int, tmp_path: Path) -> None:
    draw = random.Random(number)
    first, second = draw.sample(sorted(SETTINGS), 2)
    family = draw.choice(("cct", "vit", "beit", "hybrid"))
    same_bits(family, (*SETTINGS[first], *SETTINGS[second]), tmp_path, last=draw.randint(1, 7))
