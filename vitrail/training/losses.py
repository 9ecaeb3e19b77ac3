"""Losses on logits, always in float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(
    logits: Tensor, target: Tensor, smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy of logits (B, K) against labels (B,) or soft targets (B, K), a float32 scalar.

    smoothing s: a target t becomes (1 - s) t + s/K, so a label's own class gets 1 - s + s/K (arXiv 1512.00567).
    class_weights (K,): the part of the loss that falls to each class counts so much. The mean is over pictures, of
    labels too, where torch alone would divide by the sum of the labels' weights.

    >>> import torch
    >>> logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]])
    >>> round(float(cross_entropy(logits, torch.tensor([2, 0]), 0.1)), 6)
    1.012859
    """
    if class_weights is not None and not target.is_floating_point():
        target = F.one_hot(target, logits.shape[1]).to(class_weights.dtype)
    wanted = target.float() if target.is_floating_point() else target
    return F.cross_entropy(logits.float(), wanted, weight=class_weights, label_smoothing=smoothing)


def balanced_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """A weight for each class, inverse to its number of pictures, 1 on the average of all pictures.

    A class without pictures has weight 0: smoothing then leaves it alone.

    >>> balanced_weights([30, 10, 0])
    (0.6666666666666666, 2.0, 0.0)
    """
    present = sum(count > 0 for count in counts)
    return tuple(sum(counts) / (present * count) if count else 0.0 for count in counts)
