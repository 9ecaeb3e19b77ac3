"""Losses on logits, always in float32."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy of logits (B, K) against labels (B,) or soft targets (B, K), a float32 scalar.

    smoothing s: a target t becomes (1 - s) t + s/K, so a label's own class gets 1 - s + s/K (arXiv 1512.00567).

    >>> import torch
    >>> logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]])
    >>> round(float(cross_entropy(logits, torch.tensor([2, 0]), 0.1)), 6)
    1.012859
    """
    wanted = target.float() if target.is_floating_point() else target
    return F.cross_entropy(logits.float(), wanted, label_smoothing=smoothing)
