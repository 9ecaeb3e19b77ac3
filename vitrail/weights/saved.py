"""What our own safetensors files say about themselves, beside the tensors: the key `vitrail`, one JSON object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from vitrail.errors import WeightsError
from vitrail.models.configs import ModelConfig, config_from_json, config_to_json
from vitrail.pictures.policy import Policy
from vitrail.weights.dialects import dialect_names

KEY = "vitrail"
ADAPTER = "vitrail_adapter"  # the key of a file of adapters (`training/adapter_file.py`), which is no whole network
FORMAT = 1
# for hints: the ways to say what a file's tensors are
NAME_IT = (
    "`vitrail convert SRC DST --model VARIANT`, `vitrail train --model VARIANT --weights FILE`, "
    "or in Python `vitrail.weights.load(path, model=...)`"
)
_KEYS = {"format", "variant", "dialect", "config", "policy", "classes"}


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A model without its numbers. dialect: the names under which the file's tensors stand. licences: of `weights` and
    `data`, those that are known."""

    config: ModelConfig
    policy: Policy
    classes: tuple[str, ...]
    dialect: str
    variant: str | None = None
    licences: Mapping[str, str] = field(default_factory=dict)


def to_metadata(saved: Saved) -> dict[str, str]:
    """The metadata of a safetensors file; the same model gives the same text."""
    values = {
        "format": FORMAT,
        "variant": saved.variant,
        "dialect": saved.dialect,
        "config": config_to_json(saved.config),
        "policy": saved.policy.to_json(),
        "classes": list(saved.classes),
    }
    if saved.licences:
        values["licences"] = dict(saved.licences)
    return {KEY: json.dumps(values, sort_keys=True, allow_nan=False)}


def from_metadata(metadata: Mapping[str, str]) -> Saved | None:
    """What our own file says, None for a foreign one; WeightsError V201 when it does not hold."""
    if KEY not in metadata:
        return None
    try:
        values = json.loads(metadata[KEY])
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError(f"not of format {FORMAT}")
        if values.keys() - {"licences"} != _KEYS:
            raise ValueError(f"keys are {', '.join(sorted(map(str, values)))}")
        config = config_from_json(values["config"])
        classes = values["classes"]
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise ValueError("classes are no list of names")
        if len(classes) != config.classes:
            raise ValueError(f"{len(classes)} class names for {config.classes} classes")
        variant, dialect = values["variant"], values["dialect"]
        if (
            not isinstance(dialect, str)
            or dialect not in dialect_names()
            or not (variant is None or isinstance(variant, str))
        ):
            raise ValueError("variant or dialect is not known")
        licences = values.get("licences", {})
        if not isinstance(licences, dict) or not all(
            part in ("weights", "data") and isinstance(text, str) and text.isprintable()
            for part, text in licences.items()
        ):
            raise ValueError("licences are no texts of weights and data")
        return Saved(
            config=config,
            policy=Policy.from_json(values["policy"]),
            classes=tuple(classes),
            dialect=dialect,
            variant=variant,
            licences=licences,
        )
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            "V201", f"the metadata `{KEY}` of the file does not hold: {error}", hint=f"name the model: {NAME_IT}"
        ) from error
