"""A MODEL is measured with its own policy or with another one, by a recipe or by settings of the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from vitrail.cli.main import run
from vitrail.errors import RecipeError, UsageError
from vitrail.models import build
from vitrail.models.catalog import variant
from vitrail.models.classifier import Classifier
from vitrail.models.configs import ViTConfig
from vitrail.pictures.policy import HALF, Policy
from vitrail.recipe.evaluating import evaluation_recipe, is_evaluation
from vitrail.recipe.read import evaluation_names, recipe_names
from vitrail.verbs.evaluate import evaluate_as
from vitrail.weights import published

SIZE = (32, 32)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model `vit.safetensors` and pictures twice as wide as tall in `photos`."""
    folder = tmp_path_factory.mktemp("place")
    config = ViTConfig(image_size=SIZE, classes=3, dim=32, depth=2, heads=2, patch=8)
    module = build(config, seed=3)
    with torch.no_grad():
        module.get_parameter("head.weight").mul_(40)
    model = Classifier(module, config, Policy(size=SIZE, mean=HALF.mean, std=HALF.std), tuple("abc"))
    vitrail.weights.save_as(model, folder / "vit.safetensors", "timm")
    random = np.random.default_rng(0)
    for name in "abc":
        (folder / "photos" / name).mkdir(parents=True)
        for index in range(5):
            rough = random.integers(0, 256, (6, 12, 3), np.uint8)
            big = Image.fromarray(rough).resize((96, 48), Image.Resampling.NEAREST)
            big.save(folder / "photos" / name / f"{index}.png")
    return folder


def by_hand(place: Path, policy: Policy) -> float:
    """The loss of the model on all pictures prepared so, by nothing but its parts."""
    opened = vitrail.open(place / "vit.safetensors")
    assert isinstance(opened, Classifier)
    model = replace(opened, policy=policy)
    files = sorted((place / "photos").rglob("*.png"))
    batch = policy.normalise(np.stack([policy.pixels(path) for path in files]))
    logits = model.logits(batch).astype(np.float64)
    labels = ["abc".index(path.parent.name) for path in files]
    logp = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return float(-logp[np.arange(len(labels)), labels].mean())


@pytest.mark.parametrize("settings", [[], ["policy.mode=squash"], ["policy.mode=squash", "policy.crop=0.5"]])
def test_pictures_are_prepared_as_asked(place: Path, settings: list[str]) -> None:
    asked = evaluation_recipe(str(place / "vit.safetensors"), str(place / "photos"), settings)
    opened = vitrail.open(place / "vit.safetensors")
    found = evaluate_as(asked, part="all")
    assert found.evaluation.total == 15
    assert found.evaluation.loss == pytest.approx(by_hand(place, asked.policy.of(opened.policy)), rel=1e-5)
    assert any("does not say what it was trained on" in note for note in found.source.notes)  # a bare weight file
    told = [note for note in found.source.notes if "prepared otherwise" in note]
    assert bool(told) == bool(settings)


def test_a_recipe_of_one_s_own(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / "mine.yaml"
    path.write_text(f"weights: {{path: {place / 'vit.safetensors'}}}\npolicy: {{mode: squash}}\n")
    assert is_evaluation(str(path))
    assert run(["evaluate", str(path), "--data", str(place / "photos"), "--part", "all"]) == 0
    assert "mode squash for crop" in capsys.readouterr().err
    assert run(["evaluate", str(path), "policy.mode=crop", "--data", str(place / "photos"), "--part", "all"]) == 0
    assert "prepared otherwise" not in capsys.readouterr().err


def test_what_is_refused(place: Path) -> None:
    def problems(*settings: str) -> str:
        with pytest.raises(RecipeError) as caught:
            evaluation_recipe("MODEL", "DIR", settings)
        return "\n".join(caught.value.evidence) + caught.value.what

    assert "policy.mode `sqush` is not one of crop, squash, pad" in problems("policy.mode=sqush")
    assert "train has no effect in an evaluation" in problems("train.seed=1")
    assert "policy.modus no such key; did you mean `mode`?" in problems("policy.modus=pad")
    assert "is no setting" in problems("policy")
    model = vitrail.open(place / "vit.safetensors")
    for wrong in (["policy.size=64"], ["policy.mean=[0.5]", "policy.std=[0.5]"], ["policy.crop=2.0"]):
        asked = evaluation_recipe("MODEL", "DIR", wrong)
        with pytest.raises(UsageError) as caught:
            asked.policy.of(model.policy)
        assert caught.value.code == "V007" and caught.value.evidence
    (place / "bare.yaml").write_text("policy: {mode: pad}\nformat: '2.0'\n")
    with pytest.raises(RecipeError) as found:
        evaluation_recipe(str(place / "bare.yaml"), "DIR")
    assert any("weights.path is missing" in line for line in found.value.evidence)
    assert any("this vitrail reads 1" in line for line in found.value.evidence)


def test_the_five_variants_of_the_model_zoo_are_shipped() -> None:
    wanted = ["patch16_224", "patch16_384", "patch32_224", "patch32_384", "patch8_224"]
    assert evaluation_names() == tuple(f"imagenet/evaluate/vit_base_{name}" for name in wanted)
    assert not set(evaluation_names()) & set(recipe_names())
    for name in evaluation_names():
        asked = evaluation_recipe(name)
        row = published.published(asked.weights.path)
        own = variant(row.variant).policy
        assert asked.policy.of(own) == own  # canonical: what the weights bring
        squashed = evaluation_recipe(name, None, ["policy.mode=squash"]).policy.of(own)
        assert (squashed.mode, squashed._resized(375, 500)) == ("squash", (248, 248) if own.crop < 1 else (384, 384))
