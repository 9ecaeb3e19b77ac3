"""Runs that learn from a teacher: any MODEL of the same task, held to by its hash."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.verbs.small import small
from tests.verbs.test_start import DIGITS, saved, source
from vitrail.errors import RecipeError, UsageError
from vitrail.pictures.policy import HALF
from vitrail.recipe import Recipe
from vitrail.recipe.read import parse_recipe
from vitrail.recipe.settle import taught_by
from vitrail.verbs.teacher import _problems, teacher_of
from vitrail.verbs.train import train

STEPS = ("schedule.steps=2", "schedule.warmup_epochs=0")


def taught(path: Path | str, *overrides: str) -> Recipe:
    teacher = f"{{name: soft, path: {path}, alpha: 0.7, temperature: 2.0}}"
    loss = f"loss={{name: cross_entropy, smoothing: 0.1, teacher: {teacher}}}"
    return small(loss, *STEPS, *overrides, family="cct")


def test_a_run_learns_from_a_network_of_another_family_and_resumes(tmp_path: Path) -> None:
    path = saved(source("vit"), tmp_path / "teacher.safetensors", "timm")
    told: list[str] = []
    done = train(taught(path), out=tmp_path / "run", listener=lambda event: told.append(str(event.get("text"))))
    assert done.steps == 2
    assert any(line.startswith("taught by") for line in told)
    teacher = parse_recipe((done.folder / "recipe.yaml").read_text(), "r").loss.teacher
    assert teacher is not None and teacher.sha256 is not None
    moved = path.rename(tmp_path / "moved.safetensors")
    assert train(taught(moved), out=tmp_path / "run", resume=True).steps == 0
    other = train(taught(moved, "loss.teacher.alpha=0.1"), out=tmp_path / "other")
    weights = [(folder / "bundle" / "weights.safetensors").read_bytes() for folder in (done.folder, other.folder)]
    assert weights[0] != weights[1]
    with pytest.raises(RecipeError, match="another teacher"):
        taught_by(taught(moved, "loss.teacher.sha256=abc"), teacher.sha256)


def test_a_teacher_sees_the_pictures_as_it_was_trained_on_them(tmp_path: Path) -> None:
    made = source("vit")
    path = saved(made, tmp_path / "teacher.safetensors", "timm")
    recipe = taught(path)
    found = teacher_of(recipe, DIGITS)
    opened = HALF
    assert recipe.policy.mean != opened.mean
    pictures = np.random.default_rng(0).uniform(0, 1, (2, 3, 16, 16)).astype(np.float32)

    def normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> np.ndarray:
        return (pictures - np.array(mean, np.float32)[:, None, None]) / np.array(std, np.float32)[:, None, None]

    with torch.no_grad():
        ours = found.module(torch.tensor(normalised(recipe.policy.mean, recipe.policy.std)))
    theirs = made.logits(normalised(opened.mean, opened.std))
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-4)
    assert not any(p.requires_grad for p in found.module.parameters())
    assert not found.module.training


def test_teachers_of_another_task_are_refused(tmp_path: Path) -> None:
    path = saved(source("vit", classes=7), tmp_path / "seven.safetensors", "timm")
    with pytest.raises(RecipeError) as refused:
        teacher_of(taught(path), DIGITS)
    assert refused.value.code == "V104"
    assert refused.value.evidence == ("it knows 7 classes, the run 10",)
    large = saved(source("vit", image_size=(24, 24)), tmp_path / "large.safetensors", "timm")
    with pytest.raises(RecipeError) as refused:
        teacher_of(taught(large), DIGITS)
    assert "it takes pictures of (24, 24), the run (16, 16)" in refused.value.evidence
    with pytest.raises(UsageError, match="random weights"):
        teacher_of(taught("vit_tiny_patch16_224"), DIGITS)
    made = source("vit")
    named = replace(made, classes=tuple(reversed(DIGITS)))
    assert _problems(taught(path), named, DIGITS) == ["it knows the same classes in another order"]
