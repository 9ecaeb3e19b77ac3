"""Losses on logits, always in float32, each a mean over the pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.training.configs import BinaryCrossEntropy, Loss, SoftTeacher, Teacher


def loss_of(
    config: Loss,
    logits: Tensor,
    target: Tensor,
    taught: Tensor | None = None,
    class_weights: Tensor | None = None,
) -> Tensor:
    """The loss of logits (B, K) against labels (B,) or soft targets (B, K), a float32 scalar.

    taught: a teacher's logits (B, K) on the same pictures, exactly where the config names one.
    class_weights: of `cross_entropy`.
    """
    assert (config.teacher is None) == (taught is None)
    if isinstance(config, BinaryCrossEntropy):
        found = binary_cross_entropy(logits, target, config)
    else:
        smoothing = over_all(config.smoothing, config.smoothing_over, logits.shape[-1])
        found = cross_entropy(logits, target, smoothing, class_weights)
    if config.teacher is None or taught is None:
        return found
    alpha = config.teacher.alpha
    return (1.0 - alpha) * found + alpha * distillation(logits, taught, config.teacher)


def over_all(smoothing: float, over: str, classes: int) -> float:
    """The smoothing over all classes that puts as much on the label as `smoothing` over all or the others does.

    >>> over_all(0.1, "others", 5)
    0.125
    """
    return smoothing if over == "all" else min(1.0, smoothing * classes / (classes - 1))


def cross_entropy(
    logits: Tensor, target: Tensor, smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy of logits (B, K) against labels (B,) or soft targets (B, K), a float32 scalar.

    smoothing s: a target t becomes (1 - s) t + s/K, so a label's own class gets 1 - s + s/K (arXiv 1512.00567).
    class_weights (K,): the part of the loss that falls to each class counts so much. The mean is over pictures, of
    labels too, where torch alone would divide by the sum of the labels' weights.

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


def binary_cross_entropy(logits: Tensor, target: Tensor, config: BinaryCrossEntropy) -> Tensor:
    """Sigmoid cross-entropy of logits (B, K) against labels (B,) or soft targets (B, K), smoothed, then cut in two."""
    classes = logits.shape[-1]
    wanted = target.float() if target.is_floating_point() else F.one_hot(target, classes).float()
    smoothing = over_all(config.smoothing, config.smoothing_over, classes)
    wanted = (1.0 - smoothing) * wanted + smoothing / classes
    if config.threshold is not None:
        wanted = (wanted > config.threshold).float()
    mean = F.binary_cross_entropy_with_logits(logits.float(), wanted)
    return mean * classes if config.over_classes == "sum" else mean


def distillation(logits: Tensor, taught: Tensor, teacher: Teacher) -> Tensor:
    """How far logits (B, K) are from a teacher's, as DeiT's code has it.

    Hard: cross-entropy against the teacher's class. Soft: T^2 KL(teacher || student) of both softmaxes at the
    temperature T, as a mean over pictures and classes alike.
    """
    ours, theirs = logits.float(), taught.float()
    if not isinstance(teacher, SoftTeacher):
        return F.cross_entropy(ours, theirs.argmax(dim=1))
    heat = teacher.temperature
    apart = F.kl_div(
        torch.log_softmax(ours / heat, dim=1), torch.log_softmax(theirs / heat, dim=1), reduction="sum", log_target=True
    )
    return apart * heat**2 / ours.numel()
