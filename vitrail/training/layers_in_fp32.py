"""Layers that compute in float32 inside a step of shorter numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vitrail.training.patterns import matching

_SHORT = (torch.float16, torch.bfloat16)


def keep_in_fp32(module: nn.Module, patterns: Sequence[str]) -> None:
    """From now on the layers whose names match take float32, compute in it and give it, in training and evaluation.

    A pattern that starts with `!` takes out what those before it took. RecipeError V104 when one matches no layer.
    """
    names = [name for name, _ in module.named_modules() if name]
    kept = matching(patterns, names, key="train.fp32", kind="layer")
    for name, part in module.named_modules():
        if name in kept:
            part.register_forward_pre_hook(_enter)
            part.register_forward_hook(_leave, always_call=True)


# Whole functions and no closures: a copied network carries its hooks along, and they must see the copy.
def _enter(part: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    device = next((value.device.type for value in inputs if isinstance(value, Tensor)), "cpu")
    casting = torch.autocast(device, enabled=False)
    casting.__enter__()  # type: ignore[no-untyped-call]
    part.__dict__.setdefault("_castings", []).append(casting)
    return tuple(value.float() if isinstance(value, Tensor) and value.dtype in _SHORT else value for value in inputs)


def _leave(part: nn.Module, _inputs: tuple[Any, ...], _output: object) -> None:
    part.__dict__["_castings"].pop().__exit__(None, None, None)
