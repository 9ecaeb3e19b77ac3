"""What a run learns from besides its labels: a network of any world that answers for the same pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitrail.errors import RecipeError
from vitrail.opening import classifier
from vitrail.recipe import Recipe
from vitrail.verbs.refusals import refuse_random

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vitrail.models.classifier import Classifier


@dataclass(frozen=True)
class Teacher:
    """A network in evaluation mode: pictures as the run has them -> logits. sha256: of its tensors."""

    module: nn.Module
    sha256: str
    report: tuple[str, ...]


def teacher_of(recipe: Recipe, classes: tuple[str, ...]) -> Teacher:
    """The teacher that the recipe's loss names. RecipeError V104 where its pictures or its classes are not the run's.

    Pictures that it wants with another mean and std are given to it so; their size must be that of the run.
    """
    from vitrail.bundle.manifest import weights_hash
    from vitrail.weights import native_tensors

    assert recipe.loss.teacher is not None
    path = recipe.loss.teacher.path
    opened = classifier(path)
    refuse_random(opened.provenance, "learn from")
    problems = _problems(recipe, opened, classes)
    if problems:
        raise RecipeError(
            "V104", f"`{path}` cannot teach this run", evidence=problems, hint="give a teacher of the same task"
        )
    report = [f"taught by `{path}`, {type(opened.config).__name__.removesuffix('Config')} of {opened.config.dim} wide"]
    module = opened.module.float()
    mine, theirs = recipe.policy, opened.policy
    if (mine.mean, mine.std) != (theirs.mean, theirs.std):
        report.append(f"the teacher is given mean {theirs.mean} and std {theirs.std}")
        module = _renormalised(module, recipe, opened)
    return Teacher(module.eval().requires_grad_(False), weights_hash(native_tensors(opened.module)), tuple(report))


def _problems(recipe: Recipe, opened: Classifier, classes: tuple[str, ...]) -> list[str]:
    found = []
    if len(opened.classes) != len(classes):
        found.append(f"it knows {len(opened.classes)} classes, the run {len(classes)}")
    elif sorted(opened.classes) == sorted(classes) and opened.classes != classes:
        found.append("it knows the same classes in another order")
    for what, mine, theirs in (
        ("pictures of", recipe.config.image_size, opened.config.image_size),
        ("channels:", recipe.config.channels, opened.config.channels),
    ):
        if mine != theirs:
            found.append(f"it takes {what} {theirs}, the run {mine}")
    return found


def _renormalised(module: nn.Module, recipe: Recipe, opened: Classifier) -> nn.Module:
    """The network on pictures with the run's mean and std."""
    import torch

    mine, theirs = recipe.policy, opened.policy

    class Renormalised(torch.nn.Module):
        """x -> the network of (x std + mean - its mean) / its std, a channel at a time."""

        scale: Tensor
        shift: Tensor

        def __init__(self) -> None:
            super().__init__()
            scale = [a / b for a, b in zip(mine.std, theirs.std, strict=True)]
            shift = [(a - b) / c for a, b, c in zip(mine.mean, theirs.mean, theirs.std, strict=True)]
            self.network = module
            self.register_buffer("scale", torch.tensor(scale)[:, None, None])
            self.register_buffer("shift", torch.tensor(shift)[:, None, None])

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x * self.scale + self.shift)  # type: ignore[no-any-return]

    return Renormalised()
