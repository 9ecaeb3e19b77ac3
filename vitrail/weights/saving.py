"""From a classifier to a weight file in any dialect."""

from __future__ import annotations

from pathlib import Path

from vitrail.errors import WeightsError
from vitrail.formats import safetensors
from vitrail.models.classifier import Classifier
from vitrail.models.configs import family_of
from vitrail.weights.dialects import dialect_of
from vitrail.weights.rules import from_native
from vitrail.weights.saved import Saved, to_metadata
from vitrail.weights.tensors import native_tensors


def save_as(classifier: Classifier, path: str | Path, *, dialect: str = "native") -> None:
    """Write the weights under a dialect's names, with config, policy and classes beside them.

    The container follows from the suffix; `.safetensors` is written. WeightsError V205 unknown dialect, V206 another
    suffix; SystemFault V701 when the disk refuses. The same classifier gives the same bytes.
    """
    target = Path(path)
    if target.suffix != ".safetensors":
        raise WeightsError(
            "V206", f"`{target}`: no container is written for `{target.suffix}`", hint="end the name in `.safetensors`"
        )
    table = dialect_of(dialect, family_of(classifier.config))
    variant = classifier.provenance.get("variant")
    saved = Saved(
        config=classifier.config,
        policy=classifier.policy,
        classes=classifier.classes,
        dialect=table.name,
        variant=variant if isinstance(variant, str) else None,
    )
    safetensors.write(target, from_native(table, native_tensors(classifier.module)), to_metadata(saved))
