"""CCT in plain torch, as its paper and its published code describe it (arXiv 2104.05704): a peer to be timed.

Attention written out, `F.dropout`, torch's `bernoulli_`. Not SHI-Labs' own code: written anew, with its names,
so that our weights fit and the answers can be compared. Letters: B pictures, N tokens, D width, H heads.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.models.configs import CCTConfig


class Attention(nn.Module):
    def __init__(self, c: CCTConfig) -> None:
        super().__init__()
        self.heads = c.heads
        self.qkv = nn.Linear(c.dim, 3 * c.dim, bias=False)
        self.attn_drop = nn.Dropout(c.attention_dropout)
        self.proj = nn.Linear(c.dim, c.dim)

    def forward(self, x: Tensor) -> Tensor:
        B, N, D = x.shape  # noqa: N806
        q, k, v = self.qkv(x).reshape(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1)) * (D // self.heads) ** -0.5
        weights = self.attn_drop(weights.softmax(dim=-1))
        mixed: Tensor = self.proj((weights @ v).transpose(1, 2).reshape(B, N, D))
        return mixed


class Block(nn.Module):
    def __init__(self, c: CCTConfig, drop_path: float) -> None:
        super().__init__()
        hidden = int(c.dim * c.mlp_ratio)
        self.pre_norm, self.norm1 = nn.LayerNorm(c.dim), nn.LayerNorm(c.dim)
        self.self_attn = Attention(c)
        self.linear1, self.linear2 = nn.Linear(c.dim, hidden), nn.Linear(hidden, c.dim)
        self.rate = drop_path

    def drop_path(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1 - self.rate
        mask = torch.floor(keep + torch.rand(x.shape[0], 1, 1, dtype=x.dtype))
        return x.div(keep) * mask

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.self_attn(self.pre_norm(x)))
        x = self.norm1(x)
        return x + self.drop_path(self.linear2(F.gelu(self.linear1(x))))


class Tokenizer(nn.Module):
    def __init__(self, c: CCTConfig) -> None:
        super().__init__()
        widths = (c.channels, *[c.conv_width] * (c.conv_layers - 1), c.dim)
        self.conv_layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, width, c.kernel, c.stride, c.padding, bias=False),
                    nn.ReLU(),
                    nn.MaxPool2d(3, 2, 1),
                )
                for before, width in pairwise(widths)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.conv_layers(x).flatten(2).transpose(1, 2)
        return tokens


class Transformer(nn.Module):
    def __init__(self, c: CCTConfig) -> None:
        super().__init__()
        self.positional_emb = nn.Parameter(torch.zeros(1, c.tokens, c.dim))
        self.attention_pool = nn.Linear(c.dim, 1)
        self.blocks = nn.ModuleList(Block(c, c.drop_path * i / (c.depth - 1)) for i in range(c.depth))
        self.norm = nn.LayerNorm(c.dim)
        self.fc = nn.Linear(c.dim, c.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.positional_emb
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        pooled = self.attention_pool(x).softmax(dim=1).transpose(-1, -2) @ x
        logits: Tensor = self.fc(pooled.squeeze(-2))
        return logits


class PlainCCT(nn.Module):
    """Pictures (B, C, H, W) -> (B, classes)"""

    def __init__(self, c: CCTConfig) -> None:
        super().__init__()
        self.tokenizer = Tokenizer(c)
        self.classifier = Transformer(c)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.tokenizer(x))
        return logits
