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
from vitrail.models import set_attention, set_recompute
from vitrail.training.configs import CrossEntropy
from vitrail.training.step import How, forward_backward

NAMES: dict[str, tuple[Any, str]] = {
    "timm_vit_tiny_p8_cls": (test_vit.CASES, "timm"),
    "timm_beit_tiny_relpos_mean": (test_beit.CASES, "timm"),
    "shi_cct_tiny_learnable": (test_cct.CASES, "shi_labs"),
    "shi_cvt_tiny_learnable": (test_cct.CASES, "shi_labs"),
}
BOUND = (
    1e-5  # of float32, beside the greatest value of each tensor: a pool's gradient is a small difference of great ones
)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_in_training_mode_and_float32(shared: Path, name: str, path: Any, recompute: bool) -> None:
    cases, dialect = NAMES[name]
    reference = Reference(shared, name)
    config = replace(cases[name], dropout=0.0, attention_dropout=0.0, drop_path=0.0)  # type: ignore[type-var]
    module = reference.classifier(config, dialect, np.float32).module.train()
    set_attention(module, path)
    if recompute:
        set_recompute(module)
    labels = reference.values["labels"].astype(np.int64)
    batch = TrainBatch(0, 0, np.arange(len(labels)), reference.input, labels)
    how = How(device=torch.device("cpu"), precision="fp32", loss=CrossEntropy(), seed=0)
    loss = forward_backward(module, batch, how)
    assert abs(float(loss) - float(reference.values["loss"])) <= 1e-6
    found = {name: p.grad for name, p in module.named_parameters() if p.requires_grad}
    recorded = {key[5:]: value for key, value in reference.values.items() if key.startswith("grad/")}
    assert found.keys() == recorded.keys()
    for key, gradient in found.items():
        assert gradient is not None
        wanted = recorded[key]
        assert np.abs(gradient.numpy() - wanted).max() <= BOUND * np.abs(wanted).max() + 1e-9, key
