"""`config.json` as timm writes it on the hub: which of its models it is, and how pictures were prepared for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from vitrail.pictures.policy import Interpolation, Policy

MODES = {"center": "crop", "squash": "squash", "border": "pad"}


@dataclass(frozen=True)
class TimmConfig:
    """architecture: timm's name, as variants are called. policy: None where it says something that no policy can."""

    architecture: str
    policy: Policy | None
    classes: tuple[str, ...]


def read_timm(values: Mapping[str, object]) -> TimmConfig | None:
    """What timm's config says; None for a config of anybody else.

    >>> found = read_timm({"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"input_size": [3, 224, 224],
    ...     "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "crop_pct": 0.9, "interpolation": "bicubic"}})
    >>> found.policy.crop
    0.9
    """
    architecture, given = values.get("architecture"), values.get("pretrained_cfg")
    if not isinstance(architecture, str) or not isinstance(given, Mapping):
        return None
    names = values.get("label_names")
    classes = tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()
    return TimmConfig(architecture, _policy(given), classes)


def _policy(given: Mapping[str, object]) -> Policy | None:
    size, mode = given.get("input_size"), MODES.get(str(given.get("crop_mode", "center")))
    mean, std = _numbers(given.get("mean")), _numbers(given.get("std"))
    interpolation, crop = given.get("interpolation"), given.get("crop_pct")
    if not isinstance(size, list) or len(size) != 3 or not all(type(side) is int for side in size):
        return None
    if mode is None or interpolation not in get_args(Interpolation) or not isinstance(crop, int | float):
        return None
    values = {"size": size[1:], "mode": mode, "crop": float(crop), "interpolation": interpolation}
    try:
        return Policy.from_json({**values, "mean": mean, "std": std})
    except ValueError:
        return None


def _numbers(values: object) -> list[float]:
    given = values if isinstance(values, list) else []
    return [float(value) for value in given if isinstance(value, int | float)]
