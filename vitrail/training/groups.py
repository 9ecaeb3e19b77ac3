"""Which parameters are decayed: matrices and tables are, vectors, biases and what a family exempts are not.

Frozen ones are in no group.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from vitrail.models.configs import FAMILIES

# family: parameters of two axes or more that its published recipes do not decay
EXEMPT: dict[str, tuple[str, ...]] = {
    # SHI-Labs' networks name none, and timm's rule of that time was the number of axes: positions are decayed.
    "cct": (),
    # timm VisionTransformer.no_weight_decay
    "vit": ("pos_embed", "cls_token", "dist_token", "reg_token"),
    # unilm beit/modeling_finetune.py no_weight_decay; tables of relative positions are decayed (timm spares them)
    "beit": ("pos_embed", "cls_token"),
}


def exempt(module: nn.Module) -> tuple[str, ...]:
    """What the network's family exempts; nothing for a network of no family."""
    config = getattr(module, "config", None)
    return next((EXEMPT.get(name, ()) for name, kind in FAMILIES.items() if isinstance(config, kind)), ())


def is_decayed(name: str, parameter: nn.Parameter, exempted: tuple[str, ...] = ()) -> bool:
    """Weight decay is for what has two axes or more, is no bias and is not exempted by its whole name."""
    return parameter.ndim > 1 and name.rpartition(".")[2] != "bias" and name not in exempted


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
    exempted = exempt(module)
    for name, parameter in module.named_parameters():  # a shared parameter comes once
        part = "decayed" if is_decayed(name, parameter, exempted) else "not decayed"
        parts[part if parameter.requires_grad else "frozen"].append((name, parameter))
    return parts
