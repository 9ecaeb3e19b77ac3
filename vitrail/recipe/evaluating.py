"""Evaluation recipes: which MODEL is measured on what, and what is done to its pictures. One strict YAML file each.

Its keys are `weights` {path}, `policy` and `data`; `name` and `format` as in every recipe. What `policy` leaves out is
the model's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from vitrail.data.configs import Data
from vitrail.errors import RecipeError, UsageError, nearest
from vitrail.formats.yaml import Node, read
from vitrail.pictures.policy import Interpolation, Mode, Policy
from vitrail.recipe.build import Builder
from vitrail.recipe.ranges import RANGES
from vitrail.recipe.read import evaluation_names, overridden, problems_of, recipe_path
from vitrail.recipe.schema import FORMAT


@dataclass(frozen=True, kw_only=True)
class PolicyChange:
    """What is done to a picture otherwise than the model says."""

    size: tuple[int, int] | None = None
    mode: Mode | None = None
    crop: float | None = None
    interpolation: Interpolation | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def of(self, policy: Policy) -> Policy:
        """The policy with the changes. UsageError V007 for one that cannot be, or another size than the network's."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        changed = replace(policy, **{name: value for name, value in given.items() if value is not None})
        problems = changed.problems()
        if changed.size != policy.size:
            problems.append(f"size {list(changed.size)} is not the network's {list(policy.size)}")
        if changed.channels != policy.channels:
            problems.append(f"{changed.channels} channels, the network has {policy.channels}")
        if problems:
            raise UsageError("V007", "the policy does not stand", evidence=problems, hint="change what it names")
        return changed


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Which MODEL is measured: any that `opening.open` takes."""

    path: str


@dataclass(frozen=True, kw_only=True)
class EvaluationRecipe:
    """A measurement. data: None where a run brings its own pictures."""

    weights: Measured
    policy: PolicyChange = PolicyChange()
    data: Data | None = None
    name: str = "evaluation"
    format: str = FORMAT


def is_evaluation(name: str) -> bool:
    """Whether a MODEL is the name of a shipped evaluation recipe, or the path of a YAML file."""
    return name in evaluation_names() or name.endswith((".yaml", ".yml"))


def evaluation_recipe(model: str, data: str | None = None, settings: Sequence[str] = ()) -> EvaluationRecipe:
    """What `vitrail evaluate MODEL --data DATA key=value ...` asks for; model may be an evaluation recipe.

    RecipeError V101 lists every problem.

    >>> evaluation_recipe("imagenet/evaluate/vit_base_patch8_224", "DIR", ["policy.mode=squash"]).policy.mode
    'squash'
    """
    where, root = model, Node({"weights": Node({"path": Node(model, 0)}, 0)}, 0)
    if is_evaluation(model):
        where = str(recipe_path(model))
        root = read(recipe_path(model).read_text("utf-8"), where)
    if data is not None:
        root = overridden(root, "data.root", data)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not all(key.strip().split(".")):
            raise RecipeError("V101", f"`{setting}` is no setting", hint="write `policy.mode=squash`")
        root = overridden(root, key.strip(), text, parse=True)
    return _built(root, where)


def _built(root: Node, where: str) -> EvaluationRecipe:
    builder = Builder(RANGES)
    if not isinstance(root.value, dict):
        raise RecipeError("V103", f"`{where}` is no mapping of keys to values", hint="see `vitrail show recipes`")
    known: dict[str, Any] = {
        "weights": Measured, "policy": PolicyChange, "data": Data, "name": str, "format": str,
    }  # fmt: skip
    built: dict[str, Any] = {}
    for key, node in root.value.items():
        if key in known:
            built[key] = builder.value(known[key], node, key)
        else:
            builder.note(node, key, f"has no effect in an evaluation; {nearest(key, known)}".rstrip("; "))
    version = built.get("format", FORMAT)
    if str(version).split(".")[0] != FORMAT.split(".")[0]:
        builder.note(root.value["format"], "format", f"is `{version}`, this vitrail reads {FORMAT}")
    if "weights" not in built:
        builder.note(root, "weights.path", "is missing: an evaluation recipe names the MODEL it measures")
    if builder.problems:
        raise problems_of(builder, where)
    return EvaluationRecipe(**built)
