"""Blocks that are computed again, or compiled: the same numbers, in less memory, and a resume to the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.training import compiled
from tests.training.tiny import batch, fingerprint, plan, silent
from vitrail.errors import UsageError
from vitrail.models import build, set_attention, set_recompute
from vitrail.models.catalog import variant
from vitrail.models.configs import ModelConfig
from vitrail.training import configs
from vitrail.training.loop import train
from vitrail.training.step import How, forward_backward

ROOT = Path(__file__).resolve().parents[2]
NOISE = {"image_size": (8, 8), "dim": 16, "heads": 2, "depth": 3, "classes": 5, "attention_dropout": 0.2}
MASKS = NOISE | {"dropout": 0.1, "drop_path": 0.3}
CONFIGS: dict[str, ModelConfig] = {
    "vit": replace(variant("vit_tiny_patch16_224").config, patch=2, **MASKS),  # type: ignore[arg-type]
    "cct": replace(variant("cct_2_3x2_32").config, conv_width=8, **MASKS),  # type: ignore[arg-type]
    "beit": replace(variant("beit_base_patch16_224").config, patch=2, shared_bias=True, **MASKS),  # type: ignore[arg-type]
}


def gradients(config: ModelConfig, path: Any, precision: Any, *, recompute: bool) -> tuple[dict[str, bytes], int]:
    """Of one step with all masks on; and the bytes that its forward pass kept for the way back."""
    module = build(config, seed=1).train()
    set_attention(module, path)
    if recompute:
        set_recompute(module)
    how = How(device=torch.device("cpu"), precision=precision, loss=configs.CrossEntropy(), seed=3, accumulate=2)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward_backward(module, batch(0, 32), how)
    return {name: _grad(p).numpy().tobytes() for name, p in module.named_parameters() if p.requires_grad}, sum(
        kept.values()
    )


def _grad(parameter: nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("family", CONFIGS)
def test_A10_recomputed_blocks_give_the_same_gradients_from_less_memory(family: str, path: str, precision: str) -> None:
    plain, much = gradients(CONFIGS[family], path, precision, recompute=False)
    again, little = gradients(CONFIGS[family], path, precision, recompute=True)
    assert again == plain
    assert little < 0.6 * much


def test_A10_a_run_with_recomputed_blocks_ends_in_the_same_bits(tmp_path: Path) -> None:
    ends = []
    for on in (False, True):
        one = plan(tmp_path / str(on), train=configs.Train(seed=5, clip=1.0, accumulate=2, recompute=on))
        ends.append(fingerprint(train(one, resume=None, listener=silent).state))
    assert ends[0] == ends[1]


def test_what_cannot_be_compiled_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(UsageError) as caught:
        train(plan(tmp_path, train=configs.Train(compile=True)), resume=None, listener=silent)
    assert caught.value.code == "V003"
    assert caught.value.evidence == ("No working C++ compiler found",)
    assert "g++" in caught.value.hint


@pytest.mark.prove
@pytest.mark.parametrize("network", compiled.NETWORKS)
def test_A10_compiled_blocks_resume_to_the_same_bits_in_a_process_and_a_cache_of_their_own(
    network: str, tmp_path: Path
) -> None:
    def run(folder: str, cache: str, stop: int) -> str:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / cache), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.training.compiled", str(tmp_path / folder), network, str(stop)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.split()[-1]

    whole = run("whole", "a", 0)
    assert run("stopped", "a", 4) == "stopped"
    assert run("stopped", "b", 0) == whole
