"""Factors drawn into the weights beside them: the same answers up to rounding, by fewer operations."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from vitrail.models import beit, layers, vit


def folded(network: nn.Module) -> nn.Module:
    """A copy for inference alone: attention's 1 / sqrt(D/H) lies in what makes its queries, LayerScale in the layer
    before it. For heads of 64, 16 or 4 channels the first is a power of two and changes no bit.

    >>> import torch
    >>> from vitrail.models import build
    >>> from vitrail.models.catalog import variant
    >>> network = build(variant("cct_2_3x2_32").config).eval()
    >>> images = torch.ones(1, 3, 32, 32)
    >>> bool((folded(network)(images) == network(images)).all())
    True
    """
    network = copy.deepcopy(network).requires_grad_(False)
    for module in network.modules():
        if isinstance(module, (layers.Attention, beit.Attention)):
            _fold_scale(module)
        elif isinstance(module, vit.Block):
            for name, layer in (("ls1", module.attn.proj), ("ls2", module.mlp.fc2)):
                if isinstance(scale := getattr(module, name), vit.LayerScale):
                    _times(layer, scale.gamma)
                    setattr(module, name, nn.Identity())
        elif isinstance(module, beit.Block) and module.gamma_1 is not None and module.gamma_2 is not None:
            _times(module.attn.proj, module.gamma_1)
            _times(module.mlp.fc2, module.gamma_2)
            module.gamma_1 = module.gamma_2 = None
    return network


def _fold_scale(attention: layers.Attention | beit.Attention) -> None:
    width = attention.qkv.in_features
    bias = attention.q_bias if isinstance(attention, beit.Attention) else attention.qkv.bias
    for queries in (attention.qkv.weight[:width], None if bias is None else bias[:width]):
        if queries is not None:
            queries.mul_(attention.scale)
    attention.scale = 1.0


def _times(layer: nn.Linear, factors: Tensor) -> None:
    layer.weight.mul_(factors[:, None])
    layer.bias.mul_(factors)
