"""vitrail: image classification with vision transformers, from a folder of pictures to a proven deployed model.

>>> import vitrail
>>> "cct_7_3x1_32" in vitrail.names()
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vitrail import weights as weights
    from vitrail.engines import Bundle as Bundle
    from vitrail.errors import VitrailError as VitrailError
    from vitrail.models.classifier import Classifier as Classifier
    from vitrail.opening import create as create
    from vitrail.opening import names as names
    from vitrail.opening import open as open
    from vitrail.pictures.policy import Policy as Policy
    from vitrail.recipe import Recipe as Recipe
    from vitrail.recipe import load_recipe as load_recipe
    from vitrail.verbs.benchmark import benchmark as benchmark
    from vitrail.verbs.compare import compare as compare
    from vitrail.verbs.convert import convert as convert
    from vitrail.verbs.evaluate import evaluate as evaluate
    from vitrail.verbs.export import export as export
    from vitrail.verbs.predict import predict as predict
    from vitrail.verbs.train import train as train
    from vitrail.verbs.verify import verify as verify

# name -> where it lives; imported on first use, so that `import vitrail` costs nothing
_HOMES = {
    "Bundle": "vitrail.engines",
    "Classifier": "vitrail.models.classifier",
    "Policy": "vitrail.pictures.policy",
    "Recipe": "vitrail.recipe",
    "VitrailError": "vitrail.errors",
    "benchmark": "vitrail.verbs.benchmark",
    "compare": "vitrail.verbs.compare",
    "convert": "vitrail.verbs.convert",
    "create": "vitrail.opening",
    "evaluate": "vitrail.verbs.evaluate",
    "export": "vitrail.verbs.export",
    "load_recipe": "vitrail.recipe",
    "names": "vitrail.opening",
    "open": "vitrail.opening",
    "predict": "vitrail.verbs.predict",
    "train": "vitrail.verbs.train",
    "verify": "vitrail.verbs.verify",
}

__all__ = [
    "Bundle",
    "Classifier",
    "Policy",
    "Recipe",
    "VitrailError",
    "benchmark",
    "compare",
    "convert",
    "create",
    "evaluate",
    "export",
    "load_recipe",
    "names",
    "open",
    "predict",
    "train",
    "verify",
    "weights",
]


def __getattr__(name: str) -> object:
    if name == "weights":
        return importlib.import_module("vitrail.weights")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'vitrail' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
