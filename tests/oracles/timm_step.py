"""One training step of ours beside one of timm's: the same weights, pictures, smoothed labels and AdamW.

The gradients of training mode with all masks off, on both attention paths, in float32 and in float64 (but for the
loss, which ours takes in float32 always); and from timm's gradients every weight after the step, with timm's own
parameter groups and optimizer. Its loop has nothing else in it.

python tests/oracles/timm_step.py
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torchvision_stub  # noqa: F401
from held import Held
from networks import absent, apart_by_name, fill
from torch import Tensor, nn

from vitrail import weights
from vitrail.data.batches import TrainBatch
from vitrail.models import set_attention
from vitrail.models.catalog import VARIANTS
from vitrail.training.configs import CrossEntropy
from vitrail.training.optimizer_configs import AdamW
from vitrail.training.optimizers import make
from vitrail.training.step import How, forward_backward

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import timm
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2

NAMES = ("vit_tiny_patch16_224", "vit_base_patch32_224", "beit_base_patch16_224")
CUT, BATCH, CLASSES, SMOOTHING, LR, DECAY = 3, 4, 7, 0.1, 1e-3, 0.05
WHOLE, LOSS_ALONE, STEP = 2e-6, 5e-7, 1e-9  # bounds in float32; where only the loss is; of a step in float64
HOW = How(device=torch.device("cpu"), precision="fp32", loss=CrossEntropy(smoothing=SMOOTHING), seed=0)


def networks(name: str, kind: torch.dtype, path: Any) -> tuple[nn.Module, nn.Module]:
    """Ours and timm's, of the same weights, in training mode; neither has masks."""
    config = replace(VARIANTS[name].config, depth=CUT, classes=CLASSES)
    assert not config.dropout and not config.drop_path and not config.attention_dropout
    theirs = timm.create_model(name, pretrained=False, num_classes=CLASSES, depth=CUT).double()
    fill(theirs)
    ours = weights.from_tensors(theirs.state_dict(), config, dialect="timm").module
    set_attention(ours, path)
    return ours.to(kind).train(), theirs.to(kind).train()


def batch(size: tuple[int, int], kind: torch.dtype) -> TrainBatch:
    random = np.random.default_rng(1)
    images = random.standard_normal((BATCH, 3, *size)).astype(np.float64 if kind == torch.float64 else np.float32)
    return TrainBatch(0, 0, np.arange(BATCH), images, random.integers(0, CLASSES, BATCH))


def of(module: nn.Module) -> dict[str, Tensor]:
    return {name: absent(parameter).clone() for name, parameter in module.named_parameters()}


def step(name: str, kind: torch.dtype, path: Any) -> list[tuple[str, float, float]]:
    """The greatest differences of gradients and, in float64, of what the step changed."""
    ours, theirs = networks(name, kind, path)
    given = batch(VARIANTS[name].config.image_size, kind)
    loss = LabelSmoothingCrossEntropy(SMOOTHING)(theirs(torch.as_tensor(given.images)), torch.as_tensor(given.labels))
    loss.backward()
    mine = forward_backward(ours, given, HOW)
    bound = LOSS_ALONE if kind == torch.float64 else WHOLE
    found, where = apart_by_name(_shared(of(ours)), _shared(of(theirs)))
    measured = [("loss", abs(float(mine) / loss.item() - 1), bound), (f"gradients ({where})", found, bound)]
    return [*measured, farthest_step(name, ours, theirs)] if kind == torch.float64 else measured


def farthest_step(name: str, ours: nn.Module, theirs: nn.Module) -> tuple[str, float, float]:
    """The greatest difference of what AdamW changes, of one gradient."""
    before = {key: p.detach().clone() for key, p in theirs.named_parameters()}
    mine = dict(ours.named_parameters())
    for key, parameter in theirs.named_parameters():
        mine[key].grad = absent(parameter).clone()
    create_optimizer_v2(theirs, "adamw", lr=LR, weight_decay=DECAY).step()
    decayed: Any = "weights" if name.startswith("beit") else "family"
    optimizer = make(AdamW(weight_decay=DECAY, decayed=decayed), ours)
    for group in optimizer.param_groups:
        group["lr"] = LR * group["lr_scale"]
    optimizer.step()
    one, other = (
        {key: p.detach() - before[key] for key, p in module.named_parameters() if key in before}
        for module in (ours, theirs)
    )
    found, where = apart_by_name(one, other)
    return f"step ({where})", found, STEP


def _shared(gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: gradient for name, gradient in gradients.items() if not name.endswith(".k_bias")}


def main() -> int:
    held = Held(f"one step beside timm {timm.__version__}")
    for name in NAMES:
        for kind in (torch.float32, torch.float64):
            for path in ("explicit", "fused"):
                with held.trying(name):
                    held.within(f"{name}, {CUT} blocks, {kind}, {path}", *step(name, kind, path))
    return held.end()


if __name__ == "__main__":
    sys.exit(main())
