"""Weight files of all worlds, read into our networks and written back."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitrail.class_names.numbered import placeholders as placeholders
    from vitrail.weights.loading import Loaded as Loaded
    from vitrail.weights.loading import adopt as adopt
    from vitrail.weights.loading import from_tensors as from_tensors
    from vitrail.weights.loading import load as load
    from vitrail.weights.loading import resized as resized
    from vitrail.weights.saving import save_as as save_as
    from vitrail.weights.tensors import load_native as load_native
    from vitrail.weights.tensors import native_tensors as native_tensors
    from vitrail.weights.tensors import network as network

# imported on first use: all but placeholders need torch
_HOMES = {
    "Loaded": "vitrail.weights.loading",
    "adopt": "vitrail.weights.loading",
    "from_tensors": "vitrail.weights.loading",
    "load": "vitrail.weights.loading",
    "load_native": "vitrail.weights.tensors",
    "native_tensors": "vitrail.weights.tensors",
    "network": "vitrail.weights.tensors",
    "placeholders": "vitrail.class_names.numbered",
    "resized": "vitrail.weights.loading",
    "save_as": "vitrail.weights.saving",
}

__all__ = [
    "Loaded",
    "adopt",
    "from_tensors",
    "load",
    "load_native",
    "native_tensors",
    "network",
    "placeholders",
    "resized",
    "save_as",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'vitrail.weights' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
