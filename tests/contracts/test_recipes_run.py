"""Every shipped recipe takes two steps, on made pictures where it names no data; every variant answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitrail
from tests.data.test_sources import cifar10
from vitrail.models import build
from vitrail.models.catalog import VARIANTS
from vitrail.models.classifier import Classifier
from vitrail.models.configs import ModelConfig
from vitrail.models.count import macs
from vitrail.pictures.policy import HALF, Policy
from vitrail.recipe import load_recipe, recipe_names
from vitrail.verbs.train import shorthand, train

# the probe asks for time, not for answers: what it would choose is given
FIXED = ["schedule.steps=2", "schedule.warmup_epochs=0", "precision=fp32", "train.attention=explicit"]
SMALL = ["model.depth=1", "model.dim=32", "model.heads=2", "data.batch=2", "evaluation.batch=2"]


def save(config: ModelConfig, path: Path, dialect: str = "google") -> None:
    """Random weights of a network, in a file of that world."""
    row = Policy(size=config.image_size, mean=HALF.mean, std=HALF.std)
    names = tuple(f"class_{i}" for i in range(config.classes))
    vitrail.weights.save_as(Classifier(build(config), config, row, names), path, dialect)


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
    start, cifar = tmp_path / "start.npz", f"data.root={cifar10(tmp_path / 'cifar')}"
    given = {
        "digits/cct_2_3x2_32": [],
        "cifar10/cct_2_3x2_32": [cifar],
        "cifar10/vit_base_patch16_224": [cifar, f"weights.path={start}", *SMALL],
        "folder/scratch": [f"data.root={photos}"],
        "folder/finetune": [f"data.root={photos}", f"weights.path={tmp_path / 'start.safetensors'}"],
        "folder/lora": [f"data.root={photos}", f"weights.path={start}", *SMALL],
        "folder/linear_probe": [f"data.root={photos}", f"weights.path={start}", *SMALL],
    }[name]
    if name in ("folder/lora", "folder/linear_probe"):
        save(load_recipe(name, SMALL).config, start)
    if name == "folder/finetune":
        vitrail.weights.save_as(vitrail.create("cct_7_3x1_32"), tmp_path / "start.safetensors")
    if name == "cifar10/vit_base_patch16_224":
        save(load_recipe(name, SMALL).config, start)
    done = train(load_recipe(name, [*given, *FIXED]), out=tmp_path / "run")
    assert done.steps == 2
    assert (done.bundle / "manifest.json").is_file()
    assert done.page.is_file()
    again = load_recipe(done.folder / "recipe.yaml")
    assert "auto" not in (again.precision, again.train.attention, again.data.source)


@pytest.mark.parametrize(
    ("variant", "file", "dialect"),
    [
        ("vit_tiny_patch16_224", "start.npz", "google"),
        ("vit_tiny_r_s16_p8_224", "start.safetensors", "timm"),
        ("beit_base_patch16_224", "start.safetensors", "timm"),
    ],
)
def test_finetune_from_a_file_of_every_family(
    variant: str, file: str, dialect: str, photos: Path, tmp_path: Path
) -> None:
    """What `vitrail train --model NAME --weights FILE --data DIR` runs, on two blocks of the variant at 64 pixels."""
    small = ["model.depth=2", "model.image_size=64", "data.batch=4", "evaluation.batch=4"]
    small += ["model.dim=48", "model.heads=3"] if variant.startswith("beit") else []
    given = [*shorthand(variant, str(tmp_path / file), str(photos)), *small]
    save(replace(load_recipe("folder/finetune", given).config, image_size=(32, 32)), tmp_path / file, dialect)
    told: list[str] = []
    done = train(
        load_recipe("folder/finetune", [*given, *FIXED]),
        out=tmp_path / "run",
        listener=lambda event: told.append(str(event.get("text"))),
    )
    assert done.steps == 2
    assert any("head replaced by zeros" in line for line in told)
    assert any("2x2 -> 4x4" in line or "1x1 -> 2x2" in line for line in told)


@pytest.mark.prove
def test_a_network_of_base_size_trains_a_step_in_memory(photos: Path, tmp_path: Path) -> None:
    given = [*shorthand("vit_base_patch16_224", None, str(photos)), "data.batch=4", "evaluation.batch=4", *FIXED]
    assert train(load_recipe("folder/scratch", [*given, "schedule.steps=1"]), out=tmp_path / "run").steps == 1


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_variant_is_whole(name: str) -> None:
    row = VARIANTS[name]
    assert row.policy.size == row.config.image_size
    assert row.policy.problems() == row.config.problems() == []
    if macs(row.config) < 2_000_000_000:
        images = np.zeros((1, row.config.channels, *row.config.image_size), np.float32)
        assert vitrail.create(name).logits(images).shape == (1, row.config.classes)
