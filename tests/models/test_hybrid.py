"""Vision transformers behind a ResNet against what timm's and Google's code answered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.models import battery
from tests.models.battery import HYBRID_BOUND, Arrays, Reference, Taps
from vitrail.models import build, set_attention
from vitrail.models.configs import ViTConfig
from vitrail.models.hybrid import StdConv
from vitrail.models.layers import SamePool, same_padding

TAPS = Taps(embed="norm_pre", block0="blocks.0", norm="norm")

TINY = ViTConfig(
    image_size=(64, 64), classes=10, stem="resnet", stages=(1, 1, 1), patch=1, dim=32, depth=2, heads=4
)  # fmt: skip
R26 = replace(TINY, image_size=(224, 224), classes=1000, stages=(2, 2, 2, 2), dim=384, depth=12, heads=6)

CASES = {
    "timm_hybrid_tiny_111": TINY,
    "timm_hybrid_tiny_stem_p4": replace(TINY, stages=(), patch=4),
    "timm_real_vit_small_r26_s32_224": R26,
    "timm_real_vit_tiny_r_s16_p8_224": replace(R26, stages=(), patch=8, dim=192, heads=3),
    "timm_real_vit_base_r50_s16_224": replace(R26, stages=(3, 4, 9), dim=768, heads=12, classes=0),
}

GOOGLE = replace(TINY, stem_numerics="google", gelu="tanh", stem_width=32, mlp_ratio=2.0)
GOOGLE_CASES = {
    "google_hybrid_tiny_r11": replace(GOOGLE, stages=(1, 1)),
    "google_hybrid_tiny_stem": replace(GOOGLE, stages=(), patch=8),
    "google_real_r26_s32": replace(R26, stem_numerics="google", gelu="tanh"),
}


@pytest.fixture(scope="module", params=battery.by_size(CASES))
def case(request: pytest.FixtureRequest, shared: Path) -> tuple[Reference, ViTConfig]:
    """Each case once, its weights made once for all the tests of it."""
    return Reference(shared, request.param), CASES[request.param]


def test_float64_logits_and_inner_values_are_those_of_the_original(case: tuple[Reference, ViTConfig]) -> None:
    reference, config = case
    classifier = reference.native(config)
    battery.check_logits(reference, classifier, np.float64)
    battery.check_activations(reference, classifier, TAPS)


@pytest.mark.parametrize("path", ["explicit", "fused"])
def test_float32_logits_are_those_of_the_original(case: tuple[Reference, ViTConfig], path: str) -> None:
    reference, config = case
    classifier = reference.native(config, np.float32)
    set_attention(classifier.module, path)
    battery.check_logits(reference, classifier, np.float32, HYBRID_BOUND)


@pytest.mark.parametrize("name", GOOGLE_CASES)
def test_googles_numerics_give_googles_answers(shared: Path, name: str) -> None:
    reference = Reference(shared, name)
    config = GOOGLE_CASES[name]
    weights = _from_google(config, reference.weights())
    doubles = battery.filled(config, {name: value.astype(np.float64) for name, value in weights.items()})
    battery.check_logits(reference, doubles, np.float64)
    battery.check_activations(reference, doubles, TAPS)
    battery.check_logits(reference, battery.filled(config, weights), np.float32, HYBRID_BOUND)


def _from_google(c: ViTConfig, theirs: Arrays) -> Arrays:
    """The names and layouts of vit_jax, just as far as these cases need them."""
    theirs, ours = dict(theirs), {}

    def take(name: str) -> NDArray[np.float32]:
        value = theirs.pop(name)
        if "gn" in name:
            return value.reshape(-1)  # (1, 1, 1, C) in old files
        return np.ascontiguousarray(value.transpose(3, 2, 0, 1)) if value.ndim == 4 else value

    def pair(name: str, scale: str, source: str) -> None:
        weight = take(f"{source}/{scale}")
        ours[f"{name}.weight"] = weight.T if weight.ndim == 2 else weight
        ours[f"{name}.bias"] = take(f"{source}/bias")

    ours["cls_token"] = take("cls")
    ours["pos_embed"] = take("Transformer/posembed_input/pos_embedding")
    stem = "patch_embed.backbone." + ("stem." if c.stages else "")
    ours[stem + "conv.weight"] = take("conv_root/kernel")
    pair(stem + "norm", "scale", "gn_root")
    for stage, units in enumerate(c.stages):
        for unit in range(units):
            name, source = f"patch_embed.backbone.stages.{stage}.blocks.{unit}.", f"block{stage + 1}/unit{unit + 1}/"
            if not unit:
                ours[name + "downsample.conv.weight"] = take(source + "conv_proj/kernel")
                pair(name + "downsample.norm", "scale", source + "gn_proj")
            for k in (1, 2, 3):
                ours[f"{name}conv{k}.weight"] = take(f"{source}conv{k}/kernel")
                pair(f"{name}norm{k}", "scale", f"{source}gn{k}")
    pair("patch_embed.proj", "kernel", "embedding")
    for i in range(c.depth):
        name, source = f"blocks.{i}.", f"Transformer/encoderblock_{i}/"
        pair(name + "norm1", "scale", source + "LayerNorm_0")
        attention = source + "MultiHeadDotProductAttention_1/"
        parts = [(take(f"{attention}{q}/kernel"), take(f"{attention}{q}/bias")) for q in ("query", "key", "value")]
        ours[name + "attn.qkv.weight"] = np.concatenate([kernel.reshape(c.dim, c.dim).T for kernel, _ in parts])
        ours[name + "attn.qkv.bias"] = np.concatenate([bias.reshape(-1) for _, bias in parts])
        ours[name + "attn.proj.weight"] = take(attention + "out/kernel").reshape(c.dim, c.dim).T
        ours[name + "attn.proj.bias"] = take(attention + "out/bias")
        pair(name + "norm2", "scale", source + "LayerNorm_2")
        pair(name + "mlp.fc1", "kernel", source + "MlpBlock_3/Dense_0")
        pair(name + "mlp.fc2", "kernel", source + "MlpBlock_3/Dense_1")
    pair("norm", "scale", "Transformer/encoder_norm")
    pair("head", "kernel", "head")
    assert not theirs
    return ours


GOLDEN = {
    "R+Ti/16": (-0.04814867, 0.83385268, 0.88768384, 0.07450916, -0.72485136),
    "R26+S/32": (-0.31300789, 1.80485329, 2.05145474, 0.18087891, -1.79014961),
}
GOLDEN_CONFIGS = {
    "R+Ti/16": (replace(TINY, classes=5, stages=(), patch=8, dim=48, depth=1, heads=3), 23),
    "R26+S/32": (replace(TINY, classes=5, stages=(2, 2, 2, 2), dim=48, depth=1, heads=3), 107),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_logits_without_any_weight_file(name: str) -> None:
    config, count = GOLDEN_CONFIGS[name]
    weights = battery.golden({key: tuple(t.shape) for key, t in build(config, device="meta").state_dict().items()})
    assert len(weights) == count
    logits = battery.filled(config, weights).logits(torch.from_numpy(battery.golden_input(64)))
    assert logits[0] == pytest.approx(GOLDEN[name], abs=2e-8)


@pytest.mark.parametrize(("side", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 224, 225])
def test_same_padding_gives_tensorflows_sizes(size: int, side: int, stride: int) -> None:
    before, after = same_padding(size, side, stride)
    assert (size + before + after - side) // stride + 1 == -(-size // stride)
    assert after - before in (0, 1)
    assert before + after < side
    x = torch.zeros(1, 32, size, size + 1)
    assert StdConv(32, 32, side, stride, "timm")(x).shape[2:] == (-(-size // stride), -(-(size + 1) // stride))


@given(rows=st.integers(1, 9), columns=st.integers(1, 9), seed=st.integers(0, 2**32 - 1))
def test_the_pool_is_tensorflows(rows: int, columns: int, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((2, rows, columns)) - 3.0  # a pad of 0 would win
    wanted = np.empty((2, -(-rows // 2), -(-columns // 2)))
    top, left = same_padding(rows, 3, 2)[0], same_padding(columns, 3, 2)[0]
    for i, j in np.ndindex(*wanted.shape[1:]):
        y, z = 2 * i - top, 2 * j - left
        wanted[:, i, j] = x[:, max(y, 0) : y + 3, max(z, 0) : z + 3].max(axis=(1, 2))
    assert np.array_equal(SamePool()(torch.from_numpy(x)[None])[0].numpy(), wanted)


def test_kernels_are_standardised_with_each_worlds_guard() -> None:
    weight = torch.from_numpy(np.random.default_rng(0).normal(2.0, 0.01, (8, 3, 3, 3)))  # guards weigh at small spreads
    mean, std = weight.mean(dim=(1, 2, 3), keepdim=True), weight.std(dim=(1, 2, 3), correction=0, keepdim=True)
    for numerics, divisor in (("timm", (std**2 + 1e-8).sqrt()), ("google", std + 1e-5)):
        conv = StdConv(3, 8, 3, 1, numerics).double()
        conv.weight.data = weight.clone()
        with torch.no_grad():
            assert float((conv.standardised() - (weight - mean) / divisor).abs().max()) <= 1e-12
        module = build(replace(TINY, stem_numerics=numerics), device="meta")
        epsilon = {part.eps for part in module.modules() if isinstance(part, torch.nn.GroupNorm)}
        assert epsilon == {{"timm": 1e-5, "google": 1e-6}[numerics]}


def test_fresh_weights_are_those_of_timm() -> None:
    module = build(replace(TINY, stages=(1, 2)), seed=2)
    state = module.state_dict()
    for name, tensor in state.items():
        if ".conv" in name:
            assert float(tensor.std()) == pytest.approx((2 / tensor[:, 0].numel()) ** 0.5, rel=0.1), name  # fan out
        elif "backbone" in name:
            scale = 0.0 if name.endswith("bias") or "norm3" in name else 1.0  # a unit begins as its shortcut
            assert bool((tensor == scale).all()), name
    alone = build(replace(TINY, stages=(), patch=4)).state_dict()["patch_embed.backbone.conv.weight"]
    assert 0.98 * 147**-0.5 <= float(alone.abs().max()) <= 147**-0.5
