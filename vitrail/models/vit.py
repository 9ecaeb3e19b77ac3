"""The vision transformer (Dosovitskiy et al. 2020, arXiv 2010.11929), with what published weights have added to it.

Letters: B pictures, C channels, p x p pixels of a patch, N tokens, M tokens that ask, D width, D' width of what enters
the head, K classes, H heads. The parameter names are timm's.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn

from vitrail.models.configs import ViTConfig
from vitrail.models.dropout import Dropout
from vitrail.models.hybrid import HybridEmbed
from vitrail.models.layers import Attention, Blocks, DropPath, Mlp, PatchEmbed, init_layers, linear_rates


class LayerScale(nn.Module):
    """A learned factor for each channel of a residual branch (arXiv 2103.17239).  (B, N, D) -> (B, N, D)"""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """Pre-norm block: attention, then MLP, each added to the stream; with `first`, for the first tokens alone.

    (B, N, D) -> (B, M, D)
    """

    def __init__(self, c: ViTConfig, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(c.dim, c.eps)
        self.attn = Attention(c, bias=c.qkv_bias)
        self.ls1 = LayerScale(c.dim) if c.layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(c.dim, c.eps)
        self.mlp = Mlp(c)
        self.ls2 = LayerScale(c.dim) if c.layer_scale else nn.Identity()
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, first: int | None = None) -> Tensor:
        x = self.drop_path(x[:, :first], self.ls1(self.attn(self.norm1(x), first)))
        x = self.drop_path(x, self.ls2(self.mlp(self.norm2(x))))
        return x


class ViT(nn.Module):
    """A vision transformer.  (B, C, H, W) -> (B, K)"""

    def __init__(self, c: ViTConfig) -> None:
        super().__init__()
        self.config = c
        self.cls_token = _token(1, c.dim) if c.class_token else None
        self.dist_token = _token(1, c.dim) if c.distilled else None
        self.reg_token = _token(c.register_tokens, c.dim) if c.register_tokens else None
        self.pos_embed = _token(c.position_rows, c.dim)
        self.patch_embed = PatchEmbed(c, bias=not c.pre_norm) if c.stem == "patches" else HybridEmbed(c)
        self.pos_drop = Dropout(c.dropout)
        norm = partial(nn.LayerNorm, c.dim, c.eps)
        self.norm_pre = norm() if c.pre_norm else nn.Identity()
        self.blocks = Blocks(Block(c, rate) for rate in linear_rates(c.drop_path, c.depth))
        self.norm = nn.Identity() if c.fc_norm else norm()
        self.fc_norm = norm() if c.fc_norm else nn.Identity()
        width = c.pre_logits or c.dim
        self.pre_logits = (
            nn.Sequential(OrderedDict(fc=nn.Linear(c.dim, width), act=nn.Tanh())) if c.pre_logits else nn.Identity()
        )
        self.head = _head(width, c.classes)
        self.head_dist = _head(width, c.classes) if c.distilled else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.pooled(x)
        x = self.head(x) if self.head_dist is None else (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2
        return x

    def features(self, x: Tensor) -> Tensor:
        """What enters the head; of two heads the mean of what enters each.  (B, C, H, W) -> (B, D')"""
        x = self.pooled(x)
        return x.mean(dim=1) if self.config.distilled else x

    def tokens(self, x: Tensor) -> Tensor:
        """Every token after the last block and the norm that stands before pooling.  (B, C, H, W) -> (B, N, D)"""
        return self.encode(x, first=None)

    def pooled(self, x: Tensor) -> Tensor:
        """What enters the head, and in evaluation mode nothing computed besides.  -> (B, D'), or distilled (B, 2, D)"""
        c = self.config
        if c.pooling == "mean":
            x = self.tokens(x)[:, c.prefix :].mean(dim=1)
        else:
            x = self.encode(x, first=None if self.training else 1 + c.distilled)
            x = x[:, :2] if c.distilled else x[:, 0]
        x = self.pre_logits(self.fc_norm(x))
        return x

    def encode(self, x: Tensor, first: int | None) -> Tensor:
        """All blocks, the last one for the first tokens alone; then the norm.  (B, C, H, W) -> (B, M, D)"""
        x = self.embed(x)
        x = self.norm(self.blocks.run(x, first=first))
        return x

    def embed(self, x: Tensor) -> Tensor:
        """The tokens that enter the first block.  (B, C, H, W) -> (B, N, D)"""
        x = self.patch_embed(x)
        if not self.config.class_position:
            x = x + self.pos_embed
        given = [token for token in (self.cls_token, self.dist_token, self.reg_token) if token is not None]
        x = torch.cat([*(token.expand(x.shape[0], -1, -1) for token in given), x], dim=1)  # (B, N, D)
        if self.config.class_position:
            x = x + self.pos_embed
        x = self.norm_pre(self.pos_drop(x))
        return x

    def init_weights(self, generator: torch.Generator) -> None:
        """timm's start: truncated normals of 0.02, tokens close to 0, torch's own patches, BiT's own ResNet."""
        c = self.config
        init_layers(self, generator)
        for module in self.modules():
            if isinstance(module, LayerScale):
                nn.init.constant_(module.gamma, c.layer_scale_init)
        if isinstance(self.patch_embed, HybridEmbed):
            self.patch_embed.init_weights(generator)
        nn.init.trunc_normal_(self.pos_embed, std=0.02, generator=generator)
        for token in (self.cls_token, self.reg_token):
            if token is not None:
                nn.init.normal_(token, std=1e-6, generator=generator)
        if self.dist_token is not None:
            nn.init.trunc_normal_(self.dist_token, std=0.02, generator=generator)


def _token(count: int, dim: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(1, count, dim))


def _head(width: int, classes: int) -> nn.Module:
    return nn.Linear(width, classes) if classes else nn.Identity()
