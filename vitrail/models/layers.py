"""Parts that more than one family is made of.

Letters: B pictures, N tokens, D width, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Stochastic depth (arXiv 1603.09382): drops a residual branch per picture, rescales the kept ones."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        mask = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)  # (B, 1, 1)
        return x * mask.div_(keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


def linear_rates(last: float, depth: int) -> list[float]:
    """Drop rates that rise linearly from 0 in the first block to `last` in the last one."""
    return [float(rate) for rate in torch.linspace(0.0, last, depth, dtype=torch.float64)]


def sine_table(tokens: int, dim: int) -> Tensor:
    """The fixed table of SHI-Labs: sin on even, cos on odd columns of p / 10000^(2 (i // 2) / dim).  (1, N, D)"""
    position = torch.arange(tokens, dtype=torch.float64)[:, None]
    column = torch.arange(dim)
    angle = position / 10000.0 ** (2 * (column // 2) / dim)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()[None]
