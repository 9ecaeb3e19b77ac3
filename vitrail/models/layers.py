"""Parts that more than one family is made of.

Letters: B pictures, N tokens, D width, H heads.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.models.configs import AttentionPath


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
    return [last * i / max(1, depth - 1) for i in range(depth)]


def attend(q: Tensor, k: Tensor, v: Tensor, *, path: AttentionPath, dropout: float) -> Tensor:
    """softmax(q k^T / sqrt(D/H)) v with dropout on the weights.  3 x (B, H, N, D/H) -> (B, H, N, D/H)

    `explicit` writes it out, `fused` is torch's kernel: the same numbers up to rounding, at different speeds.
    """
    if path == "fused":
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(dim=-1)  # (B, H, N, N)
    return F.dropout(weights, dropout) @ v
