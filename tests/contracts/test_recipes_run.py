"""Every shipped recipe takes two steps, on made pictures where it names no data; every variant answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitrail
from tests.data.test_sources import cifar10
from vitrail.models.catalog import VARIANTS
from vitrail.models.count import macs
from vitrail.recipe import load_recipe, recipe_names
from vitrail.verbs.train import train


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir()
        for index in range(30):
            Image.fromarray(random.integers(0, 256, (40, 50, 3), np.uint8)).save(root / name / f"{index}.png")
    return root


@pytest.mark.parametrize("name", recipe_names())
def test_two_steps(name: str, photos: Path, tmp_path: Path) -> None:
    given = {
        "digits/cct_2_3x2_32": [],
        "cifar10/cct_2_3x2_32": [f"data.root={cifar10(tmp_path / 'cifar')}"],
        "folder/scratch": [f"data.root={photos}"],
        "folder/finetune": [f"data.root={photos}", f"weights.path={tmp_path / 'start.safetensors'}"],
    }[name]
    if name == "folder/finetune":
        vitrail.weights.save_as(vitrail.create("cct_7_3x1_32"), tmp_path / "start.safetensors")
    # the probe asks for time, not for answers: what it would choose is given
    fixed = ["schedule.steps=2", "schedule.warmup_epochs=0", "precision=fp32", "train.attention=explicit"]
    done = train(load_recipe(name, [*given, *fixed]), out=tmp_path / "run")
    assert done.steps == 2
    assert (done.bundle / "manifest.json").is_file()
    assert done.page.is_file()
    again = load_recipe(done.folder / "recipe.yaml")
    assert "auto" not in (again.precision, again.train.attention, again.data.source)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_variant_is_whole(name: str) -> None:
    row = VARIANTS[name]
    assert row.policy.size == row.config.image_size
    assert row.policy.problems() == row.config.problems() == []
    if macs(row.config) < 2_000_000_000:
        images = np.zeros((1, row.config.channels, *row.config.image_size), np.float32)
        assert vitrail.create(name).logits(images).shape == (1, row.config.classes)
