"""Weights that leave nothing of a network unseen, its gradients, and how far two networks are apart."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn


def numbers(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Standard normal float64 numbers, the same everywhere."""
    return torch.from_numpy(np.random.Generator(np.random.PCG64(seed)).standard_normal(shape))


@torch.no_grad()
def fill(module: nn.Module, seed: int = 0) -> None:
    """Weights so large that every bias, scale and table changes the answer, and none so large that one drowns it.

    Kernels keep the spread of what passes through them; all else is spread by a half, scales around 1.
    """
    for place, (name, parameter) in enumerate(sorted(module.named_parameters())):
        values = numbers(tuple(parameter.shape), seed * 10_000 + place)
        if _is_kernel(name, parameter):
            values *= math.prod(parameter.shape[1:]) ** -0.5
        else:
            values = (1 if _is_scale(name) else 0) + values / 2
        parameter.copy_(values)


def _is_kernel(name: str, parameter: Tensor) -> bool:
    return parameter.ndim > 1 and name.endswith("weight")


def _is_scale(name: str) -> bool:
    return name.endswith(("weight", "gamma", "gamma_1", "gamma_2", "lambda_1", "lambda_2"))


def gradients(module: nn.Module, logits: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Of a fixed mixture of the logits, for every parameter by name."""
    module.zero_grad(set_to_none=True)
    (logits * numbers(tuple(logits.shape), seed + 1)).sum().backward()
    return {name: absent(parameter) for name, parameter in module.named_parameters()}


def absent(parameter: nn.Parameter) -> Tensor:
    """The gradient; zeros where none flowed."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def apart(ours: Tensor, theirs: Tensor) -> float:
    """The greatest difference of two tensors of one shape; inf for others, NaN where there is one."""
    return float((ours - theirs).detach().abs().max()) if ours.shape == theirs.shape else math.inf


def apart_by_name(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> tuple[float, str]:
    """The greatest difference beside the greatest value of its tensor, over all names, and where it is."""
    if odd := ours.keys() ^ theirs.keys():
        return math.inf, f"{len(odd)} names: {sorted(odd)[0]}"
    found = [(apart(ours[name], theirs[name]) / max(float(theirs[name].abs().max()), 1e-30), name) for name in ours]
    return max(found, key=lambda pair: (math.isnan(pair[0]), pair[0]))
