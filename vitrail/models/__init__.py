"""The families of networks. `build` makes a network of a config; nothing here loads weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from vitrail.models.configs import AttentionPath, CCTConfig, ModelConfig, ViTConfig

if TYPE_CHECKING:
    from torch import nn

    from vitrail.models.beit import BEiT
    from vitrail.models.cct import CCT
    from vitrail.models.vit import ViT

ATTENTION = "attention_path"  # the attribute of every attention layer


def build(config: ModelConfig, *, seed: int = 0, device: Literal["cpu", "meta"] = "cpu") -> nn.Module:
    """A network with fresh weights, a function of (config, seed) alone. device `meta` gives shapes without weights."""
    import torch

    from vitrail.randomness import key

    problems = config.problems()
    assert not problems, problems
    with torch.random.fork_rng(devices=[]), torch.device(device):  # layers draw from torch's generator when made
        network = _made(config)
    if device != "meta":
        network.init_weights(torch.Generator().manual_seed(key(seed, "init") >> 1))
    return network


def _made(config: ModelConfig) -> CCT | ViT | BEiT:
    """The network of the config's family."""
    if isinstance(config, CCTConfig):
        from vitrail.models.cct import CCT

        return CCT(config)
    if isinstance(config, ViTConfig):
        from vitrail.models.vit import ViT

        return ViT(config)
    from vitrail.models.beit import BEiT

    return BEiT(config)


def set_attention(module: nn.Module, path: AttentionPath) -> None:
    """Let every attention in `module` take that path; ValueError for another word."""
    if path not in get_args(AttentionPath):
        raise ValueError(f"attention path {path!r} is not one of {', '.join(get_args(AttentionPath))}")
    for part in module.modules():
        if hasattr(part, ATTENTION):
            setattr(part, ATTENTION, path)


def set_recompute(module: nn.Module) -> None:
    """Let every block keep what enters it alone and be computed again on the way back: the same numbers in less memory.

    arXiv 1604.06174
    """
    from vitrail.models.layers import Blocks

    for part in module.modules():
        if isinstance(part, Blocks):
            part.recompute = True
