"""`evaluate --knn`: how good a model's features are, by the nearest neighbours of held-out pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrail.data.configs import Data
from vitrail.data.loader import evaluation_batches
from vitrail.errors import UsageError
from vitrail.evaluation.evaluate import evaluate as measure
from vitrail.evaluation.knn import TEMPERATURE, bank_of, refuse_too_few
from vitrail.machine import move
from vitrail.opening import classifier
from vitrail.recipe.evaluating import EvaluationRecipe
from vitrail.verbs.evaluate import EvaluateResult, Part, chosen_source, data_of, prepared_as
from vitrail.verbs.refusals import refuse_random

if TYPE_CHECKING:
    from vitrail.models.classifier import Classifier


def evaluate_knn(
    model: str | Path | Classifier,
    data: str | Path | Data | None = None,
    *,
    k: int = 20,
    part: Part = "auto",
    batch: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> EvaluateResult:
    """The held-out pictures of a source classed by their k nearest neighbours among its training pictures.

    The model's own classes and head are of no importance; those of the source count. probabilities are shares of the
    votes. Errors as `evaluate` and `knn.bank_of`; UsageError V007 for another part, which the bank would hold itself.
    """
    if part not in ("auto", "held-out"):
        raise UsageError("V007", f"part is `{part}`", hint="neighbours are sought for the held-out pictures alone")
    opened = classifier(model) if isinstance(model, (str, Path)) else model
    refuse_random(opened.provenance, "evaluate")
    source, _ = chosen_source(opened.provenance, data_of(model, data), "held-out")
    refuse_too_few(len(source.training), k)
    total, done = len(source.training) + len(source.held_out), 0

    def features(images: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal done
        out = opened.features(images)
        done += len(images)
        if progress is not None:
            progress(min(done, total), total)
        return out

    training, held_out = (
        evaluation_batches(source, indices, opened.policy, batch=batch, workers=2)
        for indices in (source.training, source.held_out)
    )
    bank = bank_of(features, training, len(source.classes), k=k)
    evaluation = measure(lambda images: bank.votes(features(images), k), held_out, source.classes)
    how = {"k": k, "temperature": TEMPERATURE, "bank": len(bank.labels)}
    return EvaluateResult(source, "held-out", evaluation, knn=how)


def evaluate_knn_as(
    recipe: EvaluationRecipe,
    *,
    k: int = 20,
    part: Part = "auto",
    batch: int = 64,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> EvaluateResult:
    """As `evaluate_knn`, of the MODEL of an evaluation recipe, with its pictures prepared as the recipe says."""
    path = recipe.weights.path
    opened = classifier(path)
    move(opened.module, device)
    model = replace(opened, policy=recipe.policy.of(opened.policy))
    result = evaluate_knn(model, data_of(path, recipe.data), k=k, part=part, batch=batch, progress=progress)
    return prepared_as(result, model.policy, opened.policy)
