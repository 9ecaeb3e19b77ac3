"""What every exported graph computes: the network with what may stand before it, in one precision, for good."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from vitrail.bundle.formats import Form, Precision
from vitrail.models import set_attention
from vitrail.models.classifier import Classifier
from vitrail.models.configs import AttentionPath
from vitrail.models.folded import folded
from vitrail.pictures.policy import Policy

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Deployed(nn.Module):
    """A frozen network with its ends: images (B, C, H, W) or pixels (B, H, W, C) in, float32 logits (B, K) out, and
    where the form wants them the probabilities and numbers of the best classes.
    """

    scale: Tensor  # (C, 1, 1)
    shift: Tensor  # (C, 1, 1)

    def __init__(self, network: nn.Module, form: Form, policy: Policy) -> None:
        super().__init__()
        self.network = network
        self.pixels = form.takes == "pixels"
        self.top = form.top
        self.dtype = DTYPES[form.precision]
        # Normalised before the network, in float32, by a product and a sum: folded into the first convolution it would
        # be wrong where that pads (CCT), and lose bits in bf16.
        mean, std = (np.array(values, np.float64)[:, None, None] for values in (policy.mean, policy.std))
        self.register_buffer("scale", torch.from_numpy((1 / (255 * std)).astype(np.float32)))
        self.register_buffer("shift", torch.from_numpy((-mean / std).astype(np.float32)))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        if self.pixels:
            images = images.permute(0, 3, 1, 2).to(torch.float32) * self.scale + self.shift
        out: Tensor = self.network(images.to(self.dtype))
        logits = out.to(torch.float32)
        return logits if self.top is None else (logits, *logits.softmax(dim=-1).topk(self.top))


def deployed(source: Classifier, form: Form, *, attention: AttentionPath) -> Deployed:
    """A copy of the classifier's network on the processor that no exporter can change, in the form's precision."""
    network = folded(source.module).to("cpu", DTYPES[form.precision]).eval()
    set_attention(network, attention)
    return Deployed(network, form, source.policy).eval().requires_grad_(False)


def example(source: Classifier, form: Form) -> Tensor:
    """Zeros of what the graph takes; two pictures where the batch is free, as one would be taken for a constant."""
    return zeros(form, source.policy.channels, source.policy.size)


def zeros(form: Form, channels: int, size: tuple[int, int]) -> Tensor:
    """Zeros of what a graph of that form takes, for pictures of size (height, width)."""
    count = form.batch or 2
    if form.takes == "pixels":
        return torch.zeros(count, *size, channels, dtype=torch.uint8)
    return torch.zeros(count, channels, *size)
