"""The optimizers of a recipe: torch's where it has them, in one fused kernel a step where it offers one."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vitrail.ranks.spread import lies_in_parts
from vitrail.training import optimizer_configs as configs
from vitrail.training import update_rules
from vitrail.training.groups import groups

# What an optimizer keeps for each parameter that it has updated; a checkpoint holds these, by parameter name.
KEPT: dict[str, tuple[str, ...]] = {
    "Adam": ("exp_avg", "exp_avg_sq", "step"),
    "AdamW": ("exp_avg", "exp_avg_sq", "step"),
    "AdamWeightDecay": ("exp_avg", "exp_avg_sq"),
    "Lamb": ("exp_avg", "exp_avg_sq", "step"),
    "Lion": ("exp_avg",),
    "SGD": ("momentum_buffer",),
    "Muon": ("momentum_buffer",),
}
# Settings of a group that a checkpoint holds; the learning rate is set anew at every step.
HYPER = (
    *("weight_decay", "lr_scale", "hidden", "betas", "eps", "momentum", "nesterov"),
    *("always_adapt", "ns_steps", "adjust_lr_fn"),
)
_FUSED = ("cpu", "cuda", "mps", "xpu")


def make(config: configs.Optimizer, module: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of `config` over the trainable parameters of `module`, which lies on its device already.

    The learning rate is 0 until a step sets it: each group's is the schedule's times the group's `lr_scale`.
    """
    parts = groups(module, config)
    every = [p for part in parts for p in part["params"]]
    fused = all(p.device.type in _FUSED and p.is_floating_point() and not lies_in_parts(p) for p in every)
    match config:
        case configs.AdamW():
            return torch.optim.AdamW(parts, lr=0.0, betas=config.betas, eps=config.eps, fused=fused)
        case configs.Adam():
            return torch.optim.Adam(parts, lr=0.0, betas=config.betas, eps=config.eps, fused=fused)
        case configs.SGD():
            return torch.optim.SGD(parts, lr=0.0, momentum=config.momentum, nesterov=config.nesterov, fused=fused)
        case configs.AdamWeightDecay():
            return update_rules.AdamWeightDecay(parts, betas=config.betas, eps=config.eps)
        case configs.Lion():
            return update_rules.Lion(parts, betas=config.betas)
        case configs.Lamb():
            return update_rules.Lamb(parts, betas=config.betas, eps=config.eps, always_adapt=config.always_adapt)
        case configs.Muon():
            return update_rules.MuonAdamW(parts, muon=_muon(config), adamw=_adamw(config, fused))


def _muon(config: configs.Muon) -> dict[str, Any]:
    return {
        "momentum": config.momentum,
        "nesterov": config.nesterov,
        "ns_steps": config.newton_schulz,
        "adjust_lr_fn": config.adjust,
    }


def _adamw(config: configs.Muon, fused: bool) -> dict[str, Any]:
    return {"betas": config.betas, "eps": config.eps, "fused": fused}


def kept_by(optimizer: torch.optim.Optimizer) -> dict[nn.Parameter, tuple[str, ...]]:
    """What the optimizer keeps for each of its parameters, whether it holds it already or not."""
    name = type(optimizer).__name__

    def words(group: dict[str, Any]) -> tuple[str, ...]:
        if name == "MuonAdamW":
            return KEPT["Muon" if group["hidden"] else "AdamW"]
        return KEPT[name]

    return {p: words(group) for group in optimizer.param_groups for p in group["params"]}
