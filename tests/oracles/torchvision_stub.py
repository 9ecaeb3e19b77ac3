"""Imported first: torchvision's Python side beside a torch for which there is no build of it.

timm asks for torchvision, whose compiled operators do not load beside a CPU build of torch; importing it then fails
where it gives shapes to operators that do not exist. Here they are declared by name, without an implementation:
pictures, transforms and models then work, `torchvision.ops` and `torchvision.io` do not.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import torch

_SHAPED = re.compile(r"register_(?:fake|meta)\(\"(?:torchvision::)?(\w+)\"")


def _place() -> Path:
    found = importlib.util.find_spec("torchvision")
    assert found is not None and found.submodule_search_locations, "torchvision is not installed"
    return Path(found.submodule_search_locations[0])


def _declare() -> torch.library.Library | None:
    """The missing operators; None where the compiled ones load."""
    try:
        torch.ops.load_library(_place() / "_C.so")
        return None
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in sorted(set(_SHAPED.findall((_place() / "_meta_registrations.py").read_text()))):
            library.define(f"{name}() -> ()")
        return library


LIBRARY = _declare()  # kept alive: the declarations go with it
