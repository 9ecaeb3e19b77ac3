"""The gradients of a training step are those of the originals: ViT's and BEiT's of timm, CCT's of SHI-Labs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models import test_beit, test_cct, test_vit
from tests.models.battery import Reference
from vitrail.data.batches import TrainBatch
from vitrail.models import set_attention
from vitrail.training.configs import CrossEntropy
from vitrail.training.step import How, forward_backward

NAMES: dict[str, tuple[Any, str]] = {
    "timm_vit_tiny_p8_cls": (test_vit.CASES, "timm"),
    "timm_beit_tiny_relpos_mean": (test_beit.CASES, "timm"),
    "shi_cct_tiny_learnable": (test_cct.CASES, "shi_labs"),
    "shi_cvt_tiny_learnable": (test_cct.CASES, "shi_labs"),
}
# beside the greatest value of each tensor, and beside nothing: a pool's gradient is a small difference of great ones
BOUNDS = {np.float64: (1e-6, 1e-8), np.float32: (1e-5, 1e-6)}  # the loss is float32 in both


@pytest.mark.parametrize("kind", BOUNDS)
@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_the_way_that_training_takes(shared: Path, name: str, path: Any, kind: Any) -> None:
    cases, dialect = NAMES[name]
    reference = Reference(shared, name)
    config = replace(cases[name], dropout=0.0, attention_dropout=0.0, drop_path=0.0)  # type: ignore[type-var]
    module = reference.classifier(config, dialect, kind).module.train()
    set_attention(module, path)
    labels = reference.values["labels"].astype(np.int64)
    batch = TrainBatch(0, 0, np.arange(len(labels)), reference.input.astype(kind), labels)
    how = How(device=torch.device("cpu"), precision="fp32", loss=CrossEntropy(), seed=0)
    loss = forward_backward(module, batch, how)
    assert abs(float(loss) - float(reference.values["loss"])) <= 1e-6
    found = {name: p.grad for name, p in module.named_parameters() if p.requires_grad}
    recorded = {key[5:]: value for key, value in reference.values.items() if key.startswith("grad/")}
    assert found.keys() == recorded.keys()
    relative, absolute = BOUNDS[kind]
    for key, gradient in found.items():
        assert gradient is not None
        wanted = recorded[key]
        assert np.abs(gradient.numpy() - wanted).max() <= relative * np.abs(wanted).max() + absolute, key
