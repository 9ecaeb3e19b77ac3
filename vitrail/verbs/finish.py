"""What a run leaves behind when its steps are done: evaluation, bundle, pictures and the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail import __version__
from vitrail.bundle.manifest import WEIGHTS, Licences, Manifest, weights_hash
from vitrail.bundle.write import tools, write_bundle
from vitrail.data.sources import Source
from vitrail.recipe import Recipe
from vitrail.recipe.write import fingerprint
from vitrail.verbs.telling import write_evaluation_log
from vitrail.weights import published

if TYPE_CHECKING:
    from torch import nn

    from vitrail.evaluation.evaluate import Evaluation


def finish_run(
    folder: Path,
    recipe: Recipe,
    source: Source,
    module: nn.Module,
    evaluation: Evaluation,
    *,
    drift: Sequence[str] = (),
) -> Path:
    """Write everything of a finished run into its folder; the bundle comes last and marks the run as finished.

    drift: what changed at its resumes, which the bundle then says.
    """
    from vitrail.verbs.page import save_evaluation, write_page

    save_evaluation(folder, evaluation)
    write_evaluation_log(folder, recipe, evaluation.to_json())
    write_page(folder, recipe, source, evaluation)
    return _write_bundle(folder, recipe, source, module, evaluation, drift)


def _write_bundle(
    folder: Path, recipe: Recipe, source: Source, module: nn.Module, evaluation: Evaluation, drift: Sequence[str]
) -> Path:
    from vitrail.formats.safetensors import dumps as dump_tensors
    from vitrail.weights import native_tensors

    provenance: dict[str, object] = {
        "recipe": recipe.name,
        "recipe_sha256": fingerprint(recipe),
        "started_from": _begun(recipe),
        "data": source.name,
        "data_sha256": source.fingerprint,
        "data_holdout": recipe.data.holdout,
        "seed": recipe.train.seed,
        "training_pictures": len(source.training),
        "held_out_pictures": evaluation.total,
        "held_out_correct": evaluation.correct,
    }
    if drift:
        provenance["drift"] = list(drift)
    tensors = native_tensors(module)
    manifest = Manifest(
        config=recipe.config,
        policy=recipe.policy,
        classes=source.classes,
        weights="trained",
        weights_sha256=weights_hash(tensors),
        variant=recipe.variant,
        provenance=provenance,
        licences=_licences(recipe),
        tools={"vitrail": __version__, **tools(("torch", "numpy", "pillow"))},
    )
    write_bundle(folder / "bundle", manifest, {WEIGHTS: dump_tensors(tensors)})
    return folder / "bundle"


def _begun(recipe: Recipe) -> str:
    """What the run started from: published weights by name, and nothing of a path of this machine."""
    if recipe.weights is None:
        return "random"
    return recipe.weights.path if recipe.weights.path in published.names() else "given weights"


def _licences(recipe: Recipe) -> Licences:
    """Published weights hand theirs on; `vitrail export --licence` states others."""
    begun = _begun(recipe)
    return Licences(published.published(begun).licence) if begun in published.names() else Licences()
