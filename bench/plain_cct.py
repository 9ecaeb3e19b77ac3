"""CCT-7 in plain torch, as its paper and its published code describe it (arXiv 2104.05704): a peer to be timed.

Attention written out, `F.dropout`, torch's `bernoulli_`. Not SHI-Labs' own code: written anew, with its names,
so that our weights fit and the answers can be compared. Letters: B pictures, N tokens, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIM, DEPTH, HEADS, TOKENS = 256, 7, 4, 256


class Attention(nn.Module):
    def __init__(self, drop: float) -> None:
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM, bias=False)
        self.attn_drop = nn.Dropout(drop)
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        B, N, D = x.shape  # noqa: N806
        q, k, v = self.qkv(x).reshape(B, N, 3, HEADS, D // HEADS).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1)) * (D // HEADS) ** -0.5
        weights = self.attn_drop(weights.softmax(dim=-1))
        mixed: Tensor = self.proj((weights @ v).transpose(1, 2).reshape(B, N, D))
        return mixed


class Block(nn.Module):
    def __init__(self, drop: float, drop_path: float) -> None:
        super().__init__()
        self.pre_norm, self.norm1 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.self_attn = Attention(drop)
        self.linear1, self.linear2 = nn.Linear(DIM, 2 * DIM), nn.Linear(2 * DIM, DIM)
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
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.conv_layers = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(before, width, 3, 1, 1, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
                for before, width in pairwise((3, *widths))
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.conv_layers(x).flatten(2).transpose(1, 2)
        return tokens


class Transformer(nn.Module):
    def __init__(self, classes: int, drop: float, drop_path: float) -> None:
        super().__init__()
        self.positional_emb = nn.Parameter(torch.zeros(1, TOKENS, DIM))
        self.attention_pool = nn.Linear(DIM, 1)
        self.blocks = nn.ModuleList(Block(drop, drop_path * i / (DEPTH - 1)) for i in range(DEPTH))
        self.norm = nn.LayerNorm(DIM)
        self.fc = nn.Linear(DIM, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.positional_emb
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        pooled = self.attention_pool(x).softmax(dim=1).transpose(-1, -2) @ x
        logits: Tensor = self.fc(pooled.squeeze(-2))
        return logits


class PlainCCT(nn.Module):
    """Pictures that make 256 tokens -> (B, classes): of 32 pixels by one convolution, of 64 by two."""

    def __init__(
        self, classes: int, *, widths: Sequence[int] = (DIM,), drop: float = 0.1, drop_path: float = 0.1
    ) -> None:
        super().__init__()
        self.tokenizer = Tokenizer(widths)
        self.classifier = Transformer(classes, drop, drop_path)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.tokenizer(x))
        return logits
