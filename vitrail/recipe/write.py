"""A resolved recipe as YAML: every value, and behind each where it came from. It runs the same run again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, cast

from vitrail.formats.yaml import scalar_text
from vitrail.recipe.build import key_of
from vitrail.recipe.schema import FORMAT, PARTS, Recipe

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

COLUMN = 44  # where the comments start


def to_plain(recipe: Recipe) -> dict[str, object]:
    """The recipe as nested plain values, in the order of the file."""
    out: dict[str, object] = {
        "format": FORMAT,
        "name": recipe.name,
        "model": {"variant": recipe.variant, **_plain(recipe.config)},
        "policy": _plain(recipe.policy),
    }
    for key in PARTS:
        value = getattr(recipe, key)
        if is_dataclass(value) and not isinstance(value, type):
            out[key] = _plain(value)
        elif value is not None:
            out[key] = value
    if recipe.data.batch_per_device is not None:
        out["data"] = _but(out["data"], "batch")
    return out


def _but(values: object, *keys: str) -> dict[str, object]:
    return {key: value for key, value in cast(Mapping[str, object], values).items() if key not in keys}


def _plain(part: DataclassInstance) -> dict[str, object]:
    """A part by the keys of its file; what a recipe's author names (`data.rename`) stays as it is."""
    out: dict[str, object] = {}
    for item in fields(part):
        key, value = key_of(item.name), getattr(part, item.name)
        if is_dataclass(value) and not isinstance(value, type):
            out[key] = _plain(value)
        elif isinstance(value, Mapping):
            out[key] = dict(value)
        elif isinstance(value, tuple):
            out[key] = list(value)
        elif value is not None:
            out[key] = value
    return out


def fingerprint(recipe: Recipe) -> str:
    """SHA-256 over everything that decides the weights: over `deciding`."""
    return hashlib.sha256(json.dumps(deciding(recipe), sort_keys=True).encode()).hexdigest()


def deciding(recipe: Recipe) -> dict[str, object]:
    """The plain values that decide the weights.

    Left out: names, where data, start weights and a teacher lie, how many threads load, which of several equal devices
    computes, who keeps freed memory or computes again what it did not keep, when is saved and evaluated (unless
    evaluations may end the run), how it is told, what is watched, how long it may take, how several ranks share the
    work and how long they wait. Batch and rate are settled by now.
    """
    values = to_plain(recipe)
    told = ["format", "name", "checkpoint", "journal", "watch"]
    for key in [*told, *(["evaluation"] if recipe.evaluation.patience is None else [])]:
        del values[key]
    if recipe.weights is not None:
        values["weights"] = recipe.weights.sha256
    if recipe.loss.teacher is not None:
        values["loss"] = {**_but(values["loss"]), "teacher": _but(_plain(recipe.loss.teacher), "path")}
    values["data"] = _but(values["data"], "root", "val", "workers", "patience")
    train = _but(values["train"], "keep_pages", "recompute", "time", "parallel", "patience")
    values["train"] = {**train, "device": recipe.train.device.partition(":")[0]}
    values["schedule"] = _but(values["schedule"], "lr_rule")
    return values


def to_yaml(recipe: Recipe, *, version: str) -> str:
    """The text of `recipe.yaml` in a run folder."""
    lines = [f"# {recipe.name}, resolved by vitrail {version}. Behind each value stands where it came from."]
    for key, value in to_plain(recipe).items():
        lines += [""] if isinstance(value, dict) else []
        _emit(lines, key, value, recipe.origins, key, 0)
    return "\n".join(lines) + "\n"


def _emit(lines: list[str], name: str, value: object, origins: Mapping[str, str], key: str, depth: int) -> None:
    lead = "  " * depth
    if isinstance(value, dict) and value:
        lines.append(f"{lead}{scalar_text(name)}:")
        for child, inner in value.items():
            _emit(lines, child, inner, origins, f"{key}.{child}", depth + 1)
        return
    text = f"{lead}{scalar_text(name)}: {_scalar(value)}"
    origin = origins.get(key)
    lines.append(f"{text.ljust(COLUMN)} # {origin}" if origin else text)


def _item(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        return _scalar(value)
    return scalar_text([value])[1:-1]


def _scalar(value: object) -> str:
    if value == {}:
        return "{}"
    if isinstance(value, float):
        # PyYAML writes 1e-05 so that it reads back as text: always with a point
        text = repr(value)
        return text if "e" not in text or "." in text.split("e")[0] else text.replace("e", ".0e")
    if isinstance(value, list):
        # inside brackets more texts need quotes than outside
        return f"[{', '.join(map(_item, value))}]"
    return scalar_text(value)
