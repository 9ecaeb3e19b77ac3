"""Which precision and attention path trains fastest here: a few real steps of each, once per machine and model."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from vitrail.machine import fastest, has_fast_bf16, synchronize
from vitrail.models import build, set_attention
from vitrail.models.configs import ModelConfig
from vitrail.models.count import macs
from vitrail.training.configs import Attention, Precision
from vitrail.training.step import casting

PICTURES = 16  # in a probed step: enough to be bound by the same things as a full batch
WORK = 32e9  # multiplications of its forward pass: a large network is probed on fewer pictures, in seconds
ON_A_DEVICE = 64  # pictures of a step on an accelerator, which few would leave idle
CPU = torch.device("cpu")


def fastest_way(
    config: ModelConfig, precision: Precision, attention: Attention, batch: int, *, device: torch.device = CPU
) -> tuple[Precision, Attention]:
    """(precision, attention) with every `auto` settled; bf16 is only tried where the device multiplies it itself."""
    precisions: tuple[Precision, ...] = (precision,)
    if precision == "auto":
        precisions = ("fp32", "bf16") if has_fast_bf16(device) else ("fp32",)
    attentions: tuple[Attention, ...] = ("fused", "explicit") if attention == "auto" else (attention,)
    pictures = min(batch, ON_A_DEVICE)
    if device.type == "cpu":
        pictures = max(1, min(batch, PICTURES, int(WORK / macs(config))))
    ways = {f"{p}/{a}": _step(config, p, a, pictures, device) for p in precisions for a in attentions}
    place = f"{torch.get_num_threads()} threads" if device.type == "cpu" else _name(device)
    best = fastest(ways, f"training step of {config} at batch {pictures}, {place}, torch {torch.__version__}")
    return next((p, a) for p in precisions for a in attentions if f"{p}/{a}" == best)


def _name(device: torch.device) -> str:
    named = getattr(torch.get_device_module(device), "get_device_name", None)
    return device.type if named is None else str(named(device))


def _step(
    config: ModelConfig, precision: Precision, attention: Attention, pictures: int, device: torch.device
) -> Callable[[], None]:
    made: list[nn.Module] = []
    assert precision != "auto"
    settled = precision

    def step() -> None:
        if not made:
            made.append(build(config).to(device))
            set_attention(made[0], "fused" if attention == "fused" else "explicit")
        module = made[0]
        images = torch.zeros(pictures, config.channels, *config.image_size, device=device)
        images = images.contiguous(memory_format=torch.channels_last)  # as the step has them
        with casting(device, settled):
            logits = module(images)
        loss = F.cross_entropy(logits.float(), torch.zeros(pictures, dtype=torch.long, device=device))
        torch.autograd.backward(loss)
        synchronize(device)

    return step
