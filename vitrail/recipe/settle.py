"""What a recipe leaves open and the data, or the weights to start from, decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from vitrail.data.sources import Source
from vitrail.errors import RecipeError
from vitrail.recipe.schema import Recipe

if TYPE_CHECKING:
    from vitrail.models.classifier import Classifier


def settle(recipe: Recipe, source: Source, start: Classifier | None) -> Recipe:
    """The recipe with what data and start weights decide: the number of classes, the policy. RecipeError V104."""
    origins = dict(recipe.origins)
    config = recipe.config
    if recipe.classes_given and config.classes != len(source.classes):
        raise RecipeError(
            "V104",
            f"model.classes is {config.classes}, `{source.place}` holds {len(source.classes)} classes",
            hint=f"give model.classes={len(source.classes)}, or leave it out",
        )
    if not recipe.classes_given:
        origins["model.classes"] = "data"
        config = replace(config, classes=len(source.classes))
    policy = recipe.policy
    if start is not None:
        if start.config != config:
            raise RecipeError(
                "V104",
                "the weights are of another model than the recipe names",
                evidence=differences(asdict(start.config), asdict(config)),
                hint="set these under `model`, or start from other weights",
            )
        if not any(
            origin in ("recipe", "command line") for key, origin in origins.items() if key.startswith("policy.")
        ):
            policy = start.policy
            origins |= {key: "weights" for key in origins if key.startswith("policy.")}
    if recipe.data.batch > len(source.training):
        raise RecipeError(
            "V104",
            f"data.batch is {recipe.data.batch}, there are {len(source.training)} pictures to train on",
            hint=f"give data.batch={max(1, len(source.training) // 4)}",
        )
    data = replace(recipe.data, source=source.name, root=recipe.data.root or source.name)  # type: ignore[arg-type]
    if recipe.data.source == "auto":
        origins["data.source"] = "data"
    return replace(recipe, config=config, classes_given=True, policy=policy, data=data, origins=origins)


def differences(one: Mapping[str, Any], other: Mapping[str, Any], lead: str = "") -> list[str]:
    """`key  was -> is` for every leaf that differs."""
    lines: list[str] = []
    keys: Iterable[str] = dict.fromkeys([*one, *other])
    for key in keys:
        left, right = one.get(key), other.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            lines += differences(left, right, f"{lead}{key}.")
        elif left != right:
            lines.append(f"{lead}{key}  {left} -> {right}")
    return lines
