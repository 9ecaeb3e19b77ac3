"""The optimizers of a recipe, as torch has them: one fused kernel a step."""

from __future__ import annotations

import torch
from torch import nn

from vitrail.training import configs
from vitrail.training.groups import groups

# What an optimizer keeps for each parameter that it has updated; a checkpoint holds these, by parameter name.
KEPT: dict[str, tuple[str, ...]] = {
    "AdamW": ("exp_avg", "exp_avg_sq", "step"),
    "SGD": ("momentum_buffer",),
}
HYPER = ("weight_decay", "betas", "eps", "momentum", "nesterov")  # the learning rate is set anew at every step
_FUSED = ("cpu", "cuda", "mps", "xpu")


def make(config: configs.Optimizer, module: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of `config` over the trainable parameters of `module`, which lies on its device already.

    The learning rate is 0 until a step sets it.
    """
    parts = groups(module, config.weight_decay)
    fused = all(p.device.type in _FUSED and p.is_floating_point() for part in parts for p in part["params"])
    if isinstance(config, configs.AdamW):
        return torch.optim.AdamW(parts, lr=0.0, betas=config.betas, eps=config.eps, fused=fused)
    return torch.optim.SGD(parts, lr=0.0, momentum=config.momentum, nesterov=config.nesterov, fused=fused)
