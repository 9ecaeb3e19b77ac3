"""Compact transformers: CCT, CVT and ViT-Lite (Hassani et al. 2021, arXiv 2104.05704).

Letters: B pictures, C channels, H x W pixels, N tokens, M tokens that ask, D width, K classes, h heads.
The parameter names are those of github.com/SHI-Labs/Compact-Transformers.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from vitrail.models.configs import CCTConfig
from vitrail.models.dropout import Dropout
from vitrail.models.layers import Attention, Blocks, DropPath, SamePool, gelu, linear_rates
from vitrail.models.tables import sine_table


class Tokenizer(nn.Module):
    """Convolutions that turn a picture into tokens.  (B, C, H, W) -> (B, N, D)"""

    def __init__(self, c: CCTConfig) -> None:
        super().__init__()
        widths = [c.channels, *[c.conv_width] * (c.conv_layers - 1), c.dim]
        self.conv_layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(wide, out, c.kernel, c.stride, c.padding, bias=c.conv_bias),
                    *((nn.ReLU(), _pool(c)) if c.max_pool else ()),
                )
                for wide, out in pairwise(widths)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_layers(x)  # (B, D, rows, columns)
        return x.flatten(2).transpose(1, 2)  # (B, N, D)


def _pool(c: CCTConfig) -> nn.Module:
    return SamePool() if c.pool_padding == "same" else nn.MaxPool2d(kernel_size=3, stride=2, padding=1)


class Block(nn.Module):
    """Attention, then MLP; the second norm sits on the stream itself; with `first`, for the first tokens alone.

    (B, N, D) -> (B, M, D)
    """

    def __init__(self, c: CCTConfig, drop_path: float) -> None:
        super().__init__()
        hidden = int(c.dim * c.mlp_ratio)
        self.pre_norm = nn.LayerNorm(c.dim)
        self.self_attn = Attention(c, bias=False)
        self.norm1 = nn.LayerNorm(c.dim)
        self.linear1 = nn.Linear(c.dim, hidden)
        self.linear2 = nn.Linear(hidden, c.dim)
        self.gelu = c.gelu
        self.dropout = Dropout(c.dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, first: int | None = None) -> Tensor:
        x = self.drop_path(x[:, :first], self.self_attn(self.pre_norm(x), first))
        x = self.norm1(x)
        x = self.drop_path(x, self.dropout(self.linear2(self.dropout(gelu(self.linear1(x), self.gelu)))))
        return x


class Encoder(nn.Module):
    """Positions, blocks, pooling and head.  (B, N, D) -> (B, K)"""

    def __init__(self, c: CCTConfig) -> None:
        super().__init__()
        if c.pooling == "class":
            self.class_emb = nn.Parameter(torch.zeros(1, 1, c.dim))
        else:
            self.attention_pool = nn.Linear(c.dim, 1)
        if c.positions == "learned":
            self.positional_emb = nn.Parameter(torch.empty(1, c.tokens, c.dim))
        elif c.positions == "sine":
            self.positional_emb = nn.Parameter(torch.tensor(sine_table(c.tokens, c.dim)[None]), requires_grad=False)
        self.pooling = c.pooling
        self.positions = c.positions
        self.dropout = Dropout(c.dropout)
        self.blocks = Blocks(Block(c, rate) for rate in linear_rates(c.drop_path, c.depth))
        self.norm = nn.LayerNorm(c.dim)
        self.fc = nn.Linear(c.dim, c.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(self.features(x))
        return x

    def features(self, x: Tensor) -> Tensor:
        """What enters the head, and in evaluation mode nothing computed besides.  (B, N, D) -> (B, D)"""
        if self.pooling == "class":
            return self.tokens(x, first=None if self.training else 1)[:, 0]
        x = self.tokens(x)
        weights: Tensor = self.attention_pool(x).softmax(dim=1)  # (B, N, 1)
        return (weights.transpose(1, 2) @ x).squeeze(1)

    def tokens(self, x: Tensor, first: int | None = None) -> Tensor:
        """All blocks, the last one for the first tokens alone; then the norm.  (B, N, D) -> (B, M, D)"""
        if self.pooling == "class":
            x = torch.cat([self.class_emb.expand(x.shape[0], -1, -1), x], dim=1)
        if self.positions != "none":
            x = x + self.positional_emb
        x = self.dropout(x)
        x = self.norm(self.blocks.run(x, first=first))
        return x


class CCT(nn.Module):
    """A compact transformer.  (B, C, H, W) -> (B, K)"""

    def __init__(self, c: CCTConfig) -> None:
        super().__init__()
        self.config = c
        self.tokenizer = Tokenizer(c)
        self.classifier = Encoder(c)

    def forward(self, x: Tensor) -> Tensor:
        x = self.classifier(self.tokenizer(x))
        return x

    def features(self, x: Tensor) -> Tensor:
        """What enters the head.  (B, C, H, W) -> (B, D)"""
        return self.classifier.features(self.tokenizer(x))

    def tokens(self, x: Tensor) -> Tensor:
        """Every token after the last block and its norm.  (B, C, H, W) -> (B, N, D)"""
        return self.classifier.tokens(self.tokenizer(x))

    def init_weights(self, generator: torch.Generator) -> None:
        """SHI-Labs' start: Kaiming convolutions, truncated normals elsewhere, zero biases and class token."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, generator=generator)
                if module.bias is not None:
                    bound = module.weight[0].numel() ** -0.5  # torch's own start for convolution biases
                    nn.init.uniform_(module.bias, -bound, bound, generator=generator)
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
            if isinstance(module, (nn.Linear, nn.LayerNorm)) and module.bias is not None:
                nn.init.zeros_(module.bias)
        head = self.classifier
        if head.positions == "learned":
            nn.init.trunc_normal_(head.positional_emb, std=0.2, generator=generator)
