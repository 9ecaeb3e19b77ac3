"""Adapters in every family: silent when fresh, the same network when merged, and nothing else learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from vitrail.models import build, set_attention
from vitrail.models.catalog import variant
from vitrail.models.configs import ModelConfig
from vitrail.models.lora import TARGETS, LoRA, attach, merged
from vitrail.training.adapter import put_on
from vitrail.training.configs import LoRA as Settings
from vitrail.weights.heads import head_names

SMALL = {"image_size": (16, 16), "dim": 16, "heads": 2, "depth": 2, "classes": 5}
CONFIGS: dict[str, ModelConfig] = {
    "vit": replace(variant("vit_tiny_patch16_224").config, patch=4, **SMALL),  # type: ignore[arg-type]
    "cct": replace(variant("cct_2_3x2_32").config, conv_width=8, **SMALL),  # type: ignore[arg-type]
    "beit": replace(variant("beit_base_patch16_224").config, patch=4, shared_bias=True, **SMALL),  # type: ignore[arg-type]
}
IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()


def adapted(family: str, *targets: str) -> nn.Module:
    """A float64 network whose adapters change its answers."""
    module = build(CONFIGS[family], seed=1)
    put_on(module, CONFIGS[family], Settings(rank=3, targets=targets or tuple(TARGETS)), seed=2)
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, LoRA):
                part.lora_b.normal_(std=0.3, generator=random)
    return module.double()


@pytest.mark.parametrize("family", CONFIGS)
def test_fresh_adapters_change_no_answer(family: str) -> None:
    config = CONFIGS[family]
    module, plain = build(config, seed=1), build(config, seed=1).eval()
    put_on(module, config, Settings(), seed=2)
    with torch.no_grad():
        assert (module.double().eval()(IMAGES) - plain.double()(IMAGES)).abs().max() < 1e-14


@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("family", CONFIGS)
def test_merged_answers_the_same_on_every_path(family: str, training: bool, path: str) -> None:
    module = adapted(family)
    for part in module.modules():  # without masks, so that training mode differs by its paths alone
        for name in ("attn_drop", "rate", "p"):
            if hasattr(part, name):
                setattr(part, name, 0.0)
    set_attention(module, path)  # type: ignore[arg-type]
    plain = merged(module)
    assert not any(isinstance(part, LoRA) for part in plain.modules())
    assert plain.state_dict().keys() == build(CONFIGS[family], device="meta").state_dict().keys()
    with torch.no_grad():
        ours, theirs = module.train(training)(IMAGES), plain.train(training)(IMAGES)
        untouched = build(CONFIGS[family], seed=1).double().train(False)(IMAGES)
    assert (ours - theirs).abs().max() < 1e-12
    assert (ours - untouched).abs().max() > 1e-5


@pytest.mark.parametrize("family", CONFIGS)
def test_only_adapters_and_head_learn_and_the_gradient_is_that_of_the_merged_weight(family: str) -> None:
    module = adapted(family, "qkv").eval()
    learning = {name for name, p in module.named_parameters() if p.requires_grad}
    assert {name for name in learning if "lora" not in name} == set(head_names(CONFIGS[family]))
    plain = merged(module).requires_grad_(True)
    module(IMAGES).square().sum().backward()
    plain(IMAGES).square().sum().backward()
    assert all(p.grad is None for name, p in module.named_parameters() if name not in learning)
    for name, part in module.named_modules():
        if isinstance(part, LoRA):
            whole = plain.get_parameter(f"{name}.weight").grad
            assert whole is not None
            assert part.lora_b.grad is not None
            assert torch.allclose(part.lora_b.grad, part.scale * whole @ part.lora_a.T, rtol=1e-9, atol=1e-12)
            assert torch.allclose(part.lora_a.grad, part.scale * part.lora_b.T @ whole, rtol=1e-9, atol=1e-12)


def test_targets_name_layers_of_blocks_alone() -> None:
    for family, config in CONFIGS.items():
        for target, count in (("qkv", 1), ("proj", 1), ("mlp", 2)):
            module = build(config, device="meta")
            attach(module, rank=2, alpha=4.0, targets=(target,))
            found = [name for name, part in module.named_modules() if isinstance(part, LoRA)]
            assert len(found) == count * config.depth, (family, found)
            assert all("blocks." in name for name in found)


def test_adapters_start_as_a_function_of_the_seed() -> None:
    def first(seed: int) -> torch.Tensor:
        module = build(CONFIGS["vit"])
        put_on(module, CONFIGS["vit"], Settings(), seed=seed)
        return module.get_parameter("blocks.1.attn.qkv.lora_a").detach()

    assert torch.equal(first(4), first(4))
    assert not torch.equal(first(4), first(5))
    assert first(4).std() == pytest.approx(16**-0.5, rel=0.2)


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="no accelerator here")
def test_adapters_merged_on_a_device_have_the_bits_of_the_processor() -> None:
    """Not every device has float64, and `convert --base` is to give what the run made."""
    module = adapted("vit").float()
    here = merged(module).state_dict()
    device = torch.accelerator.current_accelerator()
    assert device is not None
    there = merged(module.to(device)).state_dict()
    assert all(tensor.device.type == device.type for tensor in there.values())
    assert all(torch.equal(tensor.cpu(), here[name]) for name, tensor in there.items())
