"""CCT-7/3x1 in plain torch, as its paper and its published code describe it (arXiv 2104.05704): a peer to be timed.

Attention written out, `F.dropout`, torch's `bernoulli_`. Not SHI-Labs' own code: written anew, with its names,
so that our weights fit and the answers can be compared. Letters: B pictures, N tokens, D width, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DIM, DEPTH, HEADS, TOKENS, DROP = 256, 7, 4, 256, 0.1


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM, bias=False)
        self.attn_drop = nn.Dropout(DROP)
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        B, N, D = x.shape  # noqa: N806
        q, k, v = self.qkv(x).reshape(B, N, 3, HEADS, D // HEADS).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1)) * (D // HEADS) ** -0.5
        weights = self.attn_drop(weights.softmax(dim=-1))
        mixed: Tensor = self.proj((weights @ v).transpose(1, 2).reshape(B, N, D))
        return mixed


class Block(nn.Module):
    def __init__(self, drop_path: float) -> None:
        super().__init__()
        self.pre_norm, self.norm1 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.self_attn = Attention()
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
    def __init__(self) -> None:
        super().__init__()
        conv = nn.Sequential(nn.Conv2d(3, DIM, 3, 1, 1, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.conv_layers = nn.Sequential(conv)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.conv_layers(x).flatten(2).transpose(1, 2)
        return tokens


class Transformer(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.positional_emb = nn.Parameter(torch.zeros(1, TOKENS, DIM))
        self.attention_pool = nn.Linear(DIM, 1)
        self.blocks = nn.ModuleList(Block(DROP * i / (DEPTH - 1)) for i in range(DEPTH))
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
    """(B, 3, 32, 32) -> (B, classes)"""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.tokenizer = Tokenizer()
        self.classifier = Transformer(classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.tokenizer(x))
        return logits
