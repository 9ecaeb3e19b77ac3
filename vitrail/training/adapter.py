"""Adapters in training: put on a network, of which then only they and its head are trained."""

from __future__ import annotations

import torch
from torch import nn

from vitrail.models.configs import ModelConfig
from vitrail.models.lora import OWN, attach
from vitrail.randomness import key
from vitrail.training.configs import LoRA
from vitrail.weights.heads import head_names


def put_on(module: nn.Module, config: ModelConfig, adapter: LoRA, *, seed: int) -> None:
    """Fresh adapters beside the layers that are adapted, a function of (config, adapter, seed); all else is frozen.

    The head stays trainable. A network on the device `meta` gets its shapes alone.
    """
    on_meta = next(module.parameters()).is_meta
    generator = None if on_meta else torch.Generator().manual_seed(key(seed, "adapter") >> 1)
    attach(module, rank=adapter.rank, alpha=adapter.alpha, targets=adapter.targets, generator=generator)
    head = set(head_names(config))
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in head or name.rpartition(".")[2] in OWN)
