"""Factors drawn into the weights beside them, a mean before a product: the same answers up to rounding, by less work.

Letters: B pictures, N tokens, D width, H heads.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn

from vitrail.models import beit, layers, vit


class MeanMlp(nn.Module):
    """An MLP of which the mean over the patches is wanted: its second layer, a linear map, is given the mean.

    prefix: how many tokens stand before the patches.  (B, N, D) -> (B, 1, D)
    """

    def __init__(self, mlp: layers.Mlp, prefix: int) -> None:
        super().__init__()
        self.fc1, self.fc2, self.gelu, self.prefix = mlp.fc1, mlp.fc2, mlp.gelu, prefix

    def forward(self, x: Tensor) -> Tensor:
        x = layers.gelu(self.fc1(x), self.gelu)  # (B, N, hidden)
        x = self.fc2(x[:, self.prefix :].mean(dim=1, keepdim=True))
        return x


def folded(network: nn.Module) -> nn.Module:
    """A copy for inference alone: attention's 1 / sqrt(D/H) lies in what makes its queries, LayerScale in the layer
    before it; where the patches' mean is the answer, the last layer of the last block is given the mean alone.

    For heads of 64, 16 or 4 channels the first is a power of two and changes no bit.

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
    if isinstance(network, (vit.ViT, beit.BEiT)):
        _take_mean_early(network)
    return network


def _take_mean_early(network: vit.ViT | beit.BEiT) -> None:
    if network.config.pooling == "mean" and isinstance(network.norm, nn.Identity):  # a norm before it is no linear map
        last = network.blocks[-1]
        assert isinstance(last, (vit.Block, beit.Block))
        # Each token is given the same then, and the mean of the sums is what it was.
        last.register_module("mlp", MeanMlp(last.mlp, network.config.prefix))


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
