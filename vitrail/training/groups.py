"""Which parameters are decayed: matrices and tables are, vectors and biases are not, frozen ones are in no group."""

from __future__ import annotations

from typing import Any

from torch import nn


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Weight decay is for what has two axes or more. Position tables and the class token of a CCT have three.

    The published CCT weights were trained so: SHI-Labs' networks name no exceptions, and timm's rule was this one.
    """
    return parameter.ndim > 1 and name.rpartition(".")[2] != "bias"


def groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: each trainable parameter in exactly one; no group is empty.

    >>> [(len(group["params"]), group["weight_decay"]) for group in groups(nn.Linear(2, 3), 0.05)]
    [(1, 0.05), (1, 0.0)]
    """
    parts = _parts(module)
    made = ((parts["decayed"], weight_decay), (parts["not decayed"], 0.0))
    return [{"params": [p for _, p in part], "weight_decay": decay} for part, decay in made if part]


def describe(module: nn.Module, weight_decay: float) -> str:
    """One line that says what is decayed, what is not and what is frozen.

    >>> describe(nn.Linear(2, 3), 0.05)
    'decayed by 0.05: 1 tensor of 6 values; not decayed: 1 tensor of 3 values'
    """
    words = []
    for name, part in _parts(module).items():
        if part:
            by = f" by {weight_decay:g}" if name == "decayed" else ""
            many = "tensor" if len(part) == 1 else "tensors"
            words.append(f"{name}{by}: {len(part)} {many} of {sum(p.numel() for _, p in part)} values")
    return "; ".join(words)


def _parts(module: nn.Module) -> dict[str, list[tuple[str, nn.Parameter]]]:
    parts: dict[str, list[tuple[str, nn.Parameter]]] = {"decayed": [], "not decayed": [], "frozen": []}
    for name, parameter in module.named_parameters():  # a shared parameter comes once
        part = "frozen" if not parameter.requires_grad else "decayed" if is_decayed(name, parameter) else "not decayed"
        parts[part].append((name, parameter))
    return parts
