"""What a recipe leaves open and the data, or the weights to start from, decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from vitrail.data.sources import Source
from vitrail.errors import DataError, RecipeError
from vitrail.models.configs import NUMERICS
from vitrail.recipe.schema import Recipe

if TYPE_CHECKING:
    from vitrail.weights import Loaded

# Settings of a model that no shape decides: left open, they are those of the weights that a run starts from.
OPEN = (*NUMERICS, "key_bias")


def settle(recipe: Recipe, source: Source) -> Recipe:
    """The recipe with what the data decide: the number of classes and the source. RecipeError V104."""
    if len(source.classes) < 2:
        raise DataError(
            "V402",
            f"`{source.place}` holds one class, `{source.classes[0]}`: there is nothing to tell apart",
            hint="give the folder that holds the class folders",
        )
    if not len(source.training):
        raise DataError(
            "V401",
            f"`{source.place}` holds nothing to train on: all of its {len(source.labels):,} pictures are held out",
            hint="name the training pictures as data.root, and these as data.val",
        )
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
    if recipe.data.batch > len(source.training):
        raise RecipeError(
            "V104",
            f"data.batch is {recipe.data.batch}, there are {len(source.training)} pictures to train on",
            hint=f"give data.batch={max(1, len(source.training) // 4)}",
        )
    data = replace(
        recipe.data,
        source=source.name,  # type: ignore[arg-type]
        root=recipe.data.root or source.name,
        class_order=source.class_order,
        classes=None if recipe.data.classes is None else source.classes,
    )
    if recipe.data.source == "auto":
        origins["data.source"] = "data"
    return replace(recipe, config=config, classes_given=True, data=data, origins=origins)


def started_from(recipe: Recipe, start: Loaded) -> Recipe:
    """The recipe with what its start weights decide: their hash, numerics left open, the policy where they state one.

    RecipeError V104 when the recipe names the hash of other weights.
    """
    from vitrail.bundle.manifest import weights_hash
    from vitrail.weights import native_tensors

    assert recipe.weights is not None
    found = weights_hash(native_tensors(start.classifier.module))
    if recipe.weights.sha256 not in (None, found):
        raise RecipeError(
            "V104",
            f"`{recipe.weights.path}` holds other weights than the recipe was resolved with",
            evidence=[f"recipe {recipe.weights.sha256}", f"file   {found}"],
            hint="give the file it was resolved with, or leave weights.sha256 out",
        )
    config = start.classifier.config
    changed = [f.name for f in fields(config) if getattr(config, f.name) != getattr(recipe.config, f.name)]
    assert set(changed) <= set(OPEN), changed
    for name in changed:  # what the recipe itself says is not changed behind its back
        if recipe.origins.get(f"model.{name}") in ("recipe", "command line"):
            raise RecipeError(
                "V104",
                f"model.{name} is {getattr(recipe.config, name)}, of `{recipe.weights.path}` {getattr(config, name)}",
                hint=f"give model.{name}={str(getattr(config, name)).lower()}, or leave it out",
            )
    origins = {**recipe.origins, "weights.sha256": "weights"} | {f"model.{name}": "weights" for name in changed}
    policy = recipe.policy
    of_policy = {key: origin for key, origin in origins.items() if key.startswith("policy.")}
    if start.policy_stated and not {"recipe", "command line"} & set(of_policy.values()):
        policy = start.classifier.policy
        origins |= dict.fromkeys(of_policy, "weights")
    weights = replace(recipe.weights, sha256=found)
    return replace(recipe, config=config, weights=weights, policy=policy, origins=origins)


def taught_by(recipe: Recipe, found: str) -> Recipe:
    """The recipe with the hash of its teacher's tensors. RecipeError V104 when it names another one."""
    teacher = recipe.loss.teacher
    assert teacher is not None
    if teacher.sha256 not in (None, found):
        raise RecipeError(
            "V104",
            f"`{teacher.path}` holds another teacher than the recipe was resolved with",
            evidence=[f"recipe {teacher.sha256}", f"file   {found}"],
            hint="give the one it was resolved with, or leave loss.teacher.sha256 out",
        )
    loss = replace(recipe.loss, teacher=replace(teacher, sha256=found))
    return replace(recipe, loss=loss, origins={**recipe.origins, "loss.teacher.sha256": "weights"})


def numerics_open(recipe: Recipe) -> tuple[str, ...]:
    """The numerics of the model that the recipe leaves to its variant, and so to its start weights."""
    return tuple(name for name in OPEN if recipe.origins.get(f"model.{name}") == "variant")


def as_chosen(wanted: Recipe, before: Recipe) -> Recipe:
    """A wanted recipe with everything that it leaves open as an earlier run of it settled it."""
    origins = dict(wanted.origins)
    train = wanted.train
    changes: dict[str, Any] = {}
    if wanted.precision == "auto":
        changes["precision"], origins["precision"] = before.precision, "probe"
    if train.attention == "auto":
        train, origins["train.attention"] = replace(train, attention=before.train.attention), "probe"
    if train.device == "auto":
        train, origins["train.device"] = replace(train, device=before.train.device), "machine"
    if train.threads is None:
        train, origins["train.threads"] = replace(train, threads=before.train.threads), "machine"
    teacher, taught = wanted.loss.teacher, before.loss.teacher
    if teacher is not None and taught is not None and teacher.sha256 is None:
        changes["loss"] = replace(wanted.loss, teacher=replace(teacher, sha256=taught.sha256))
        origins["loss.teacher.sha256"] = "weights"
    if wanted.weights is not None and before.weights is not None and wanted.weights.sha256 is None:
        changes["weights"] = replace(wanted.weights, sha256=before.weights.sha256)
        origins["weights.sha256"] = "weights"
        if type(wanted.config) is type(before.config):
            numerics = {name: getattr(before.config, name) for name in numerics_open(wanted)}
            changes["config"] = replace(wanted.config, **numerics)
            origins |= {
                f"model.{name}": "weights" for name, value in numerics.items() if value != getattr(wanted.config, name)
            }
        of_policy = {key: origin for key, origin in origins.items() if key.startswith("policy.")}
        if not {"recipe", "command line"} & set(of_policy.values()):
            changes["policy"] = before.policy
            origins |= dict.fromkeys(of_policy, "weights")
    return replace(wanted, train=train, origins=origins, **changes)


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
