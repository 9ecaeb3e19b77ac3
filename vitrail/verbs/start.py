"""What a run starts from: weights of any world, fitted to the model that the recipe trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from vitrail.errors import RecipeError
from vitrail.models.configs import ModelConfig
from vitrail.opening import classifier, kind_of, local
from vitrail.recipe import Recipe
from vitrail.recipe.schema import Weights
from vitrail.recipe.settle import numerics_open
from vitrail.verbs.refusals import refuse_random

if TYPE_CHECKING:
    from vitrail.weights import Loaded


def start(recipe: Recipe, classes: tuple[str, ...]) -> Loaded | None:
    """The classifier to train on, in float32, with a head for `classes`; None where the recipe names no weights.

    Numerics that the recipe leaves open (GELU, epsilons, padding) are those of the weights. Positions and channels are
    fitted where the recipe itself gives model.image_size or model.channels. Errors as `weights.load` and `adopt`.
    """
    weights = recipe.weights
    if weights is None:
        return None
    if kind_of(weights.path) in ("weights", "published", "hub"):
        return _in_float32(_foreign(recipe, weights, classes))
    if weights.dialect is not None:
        raise RecipeError(
            "V104", f"weights.dialect has no effect: `{weights.path}` is no foreign file", hint="leave it out"
        )
    return _in_float32(_own(recipe, weights, classes))


def _foreign(recipe: Recipe, weights: Weights, classes: tuple[str, ...]) -> Loaded:
    """A weight file or folder, also one that is first pulled from the net."""
    from vitrail.weights import load

    config = recipe.config
    loaded = load(
        local(weights.path),
        model=config,
        dialect=weights.dialect,
        classes=classes,
        head=weights.head,
        image_size=config.image_size if _given(recipe, "image_size") else None,
        channels=config.channels if _given(recipe, "channels") else None,
    )
    unseen = tuple(name for name in numerics_open(recipe) if name != "key_bias")  # that one is shown by the tensors
    return _computing_as(loaded, unseen, loaded.numerics)


def _own(recipe: Recipe, weights: Weights, classes: tuple[str, ...]) -> Loaded:
    """A run, a bundle or a checkpoint."""
    from vitrail.weights import adopt, resized

    opened = classifier(weights.path)
    refuse_random(opened.provenance, "start from")
    config, lines = _with(recipe.config, numerics_open(recipe), vars(opened.config))
    if _given(recipe, "image_size") and opened.config.image_size != config.image_size:
        fitted = resized(opened, config.image_size)
        opened, lines = fitted.classifier, [*lines, *fitted.report]
    loaded = adopt(opened, config, classes=classes, head=weights.head)
    return replace(loaded, report=(*lines, *loaded.report))


def _given(recipe: Recipe, field: str) -> bool:
    """Whether the recipe itself names a setting of the model, not its variant."""
    return recipe.origins.get(f"model.{field}") in ("recipe", "command line")


def _computing_as(loaded: Loaded, fields: tuple[str, ...], numerics: Mapping[str, object]) -> Loaded:
    """The same tensors in a network with these numerics."""
    from vitrail.models import build

    old = loaded.classifier
    config, lines = _with(old.config, fields, numerics)
    if config == old.config:
        return loaded
    module = build(config, device="meta")
    module.load_state_dict(old.module.state_dict(), assign=True)
    return replace(loaded, classifier=replace(old, module=module, config=config), report=(*loaded.report, *lines))


def _with(
    config: ModelConfig, fields: tuple[str, ...], numerics: Mapping[str, object]
) -> tuple[ModelConfig, list[str]]:
    new = {name: numerics[name] for name in fields if name in numerics and numerics[name] != getattr(config, name)}
    if not new:
        return config, []
    words = ", ".join(f"{name} {value}" for name, value in new.items())
    line = f"computed as the weights were: {words}; settings under `model` override it"
    return replace(config, **new), [line]  # type: ignore[arg-type]


def _in_float32(loaded: Loaded) -> Loaded:
    """Training goes on in float32, whatever the file holds."""
    import torch

    module = loaded.classifier.module
    kinds = {parameter.dtype for parameter in module.parameters()} - {torch.float32}
    if not kinds:
        return loaded
    words = ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
    line = f"{words} weights taken as float32 to train"
    return replace(loaded, classifier=replace(loaded.classifier, module=module.float()), report=(*loaded.report, line))
