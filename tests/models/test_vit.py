"""Plain vision transformers against what timm's code answered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.models import battery
from tests.models.battery import Reference, Taps
from vitrail.models import build, set_attention
from vitrail.models.classifier import Classifier
from vitrail.models.configs import AttentionPath, Gelu, ViTConfig
from vitrail.models.layers import gelu

TAPS = Taps(embed="norm_pre", block0="blocks.0", norm="norm")

TINY = ViTConfig(image_size=(32, 32), classes=10, patch=8, dim=32, depth=2, heads=4)
BASE = ViTConfig(image_size=(224, 224))
REAL_TINY = replace(BASE, dim=192, heads=3)
SMALL = replace(BASE, dim=384, heads=6)
LARGE = replace(BASE, dim=1024, depth=24, heads=16)

CASES = {
    "timm_vit_tiny_p8_cls": TINY,
    "timm_vit_tiny_p16_avg": replace(TINY, image_size=(64, 64), patch=16, pooling="mean", fc_norm=True),
    "timm_vit_tiny_p14_noqkvbias": replace(TINY, image_size=(56, 56), patch=14, heads=2, qkv_bias=False),
    "timm_vit_tiny_p32_nocls_gap": replace(
        TINY, image_size=(96, 96), patch=32, dim=16, heads=8, class_token=False, pooling="mean", fc_norm=True
    ),
    "timm_vit_tiny_p8_nonsquare": replace(TINY, image_size=(40, 64)),
    "timm_vit_tiny_p8_gray": replace(TINY, channels=1),
    "timm_vit_tiny_p8_layerscale": replace(TINY, layer_scale=True, mlp_ratio=3.0),
    "timm_vit_tiny_p8_reg4_noembedcls": replace(TINY, register_tokens=4, class_position=False),
    "timm_vit_tiny_p8_prenorm": replace(TINY, pre_norm=True),
    "timm_vit_tiny_p8_gelutanh": replace(TINY, gelu="tanh"),
    "timmold_vit_tiny_prelogits": replace(TINY, pre_logits=24),
    "timmold_vit_tiny_distilled": replace(TINY, distilled=True),
    "timm_real_vit_tiny_patch16_224": REAL_TINY,
    "timm_real_vit_small_patch32_224": replace(SMALL, patch=32),
    "timm_real_vit_base_patch32_224": replace(BASE, patch=32),
    "timm_real_vit_base_patch16_224": BASE,
    "timm_real_vit_base_patch8_224": replace(BASE, patch=8),
    "timm_real_vit_large_patch16_384": replace(LARGE, image_size=(384, 384)),
}
LONG = ("timm_real_vit_base_patch8_224", "timm_real_vit_large_patch16_384")
HYBRIDS = ("hybrid", "r26", "r50", "r_s16")


def test_every_case_of_the_reference_is_measured(shared: Path) -> None:
    found = {path.stem for kind in ("timm_vit", "timmold", "timm_real_vit")
             for path in (shared / "reference").glob(f"{kind}_*.npz")}  # fmt: skip
    assert {name for name in found if not any(word in name for word in HYBRIDS)} == set(CASES)


@pytest.fixture(scope="module", params=battery.by_size(name for name in CASES if name not in LONG))
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
    battery.check_logits(reference, classifier, np.float32)


@pytest.mark.prove
@pytest.mark.parametrize("name", LONG)
def test_large_networks_answer_as_the_original(shared: Path, name: str) -> None:
    reference = Reference(shared, name)
    battery.check_logits(reference, reference.native(CASES[name], np.float32), np.float32)
    classifier = reference.native(CASES[name])
    battery.check_logits(reference, classifier, np.float64)
    battery.check_activations(reference, classifier, TAPS)


@pytest.mark.parametrize("path", ["explicit", "fused"])
def test_gradients_are_those_of_the_original(shared: Path, path: str) -> None:
    reference = Reference(shared, "timm_vit_tiny_p8_cls")
    classifier = reference.native(TINY)
    set_attention(classifier.module, path)
    battery.check_gradients(reference, classifier)


GOLDEN = {
    "erf": (0.49804891, 1.50379386, 0.91616818, -0.60206857, -1.39570658),
    "tanh": (0.49801166, 1.50366357, 0.91608482, -0.60201545, -1.39557404),
    "quick": (0.4978455, 1.50308518, 0.91571553, -0.60177893, -1.3949858),
}


@pytest.mark.parametrize("form", GOLDEN)
def test_golden_logits_without_any_weight_file(form: Gelu) -> None:
    config = ViTConfig(image_size=(32, 32), classes=5, dim=48, depth=2, heads=3, gelu=form)
    weights = battery.golden({name: tuple(t.shape) for name, t in build(config, device="meta").state_dict().items()})
    assert len(weights) == 32
    logits = battery.filled(config, weights).logits(torch.from_numpy(battery.golden_input(32)))
    assert logits[0] == pytest.approx(GOLDEN[form], abs=2e-8)


def test_the_forms_of_gelu_are_the_published_ones() -> None:
    one = torch.ones((), dtype=torch.float64)
    values = [gelu(one, form).item() for form in ("erf", "tanh", "quick")]
    assert values == pytest.approx([0.841344746, 0.841191991, 0.845795766], abs=1e-9)
    x = torch.linspace(-10, 10, 200_001, dtype=torch.float64)
    assert float((gelu(x, "tanh") - gelu(x, "erf")).abs().max()) == pytest.approx(4.732e-4, rel=1e-3)
    assert float((gelu(x, "quick") - gelu(x, "erf")).abs().max()) == pytest.approx(2.0335e-2, rel=1e-3)


FORMS = {
    "class": TINY,
    "registers": replace(TINY, register_tokens=4, class_position=False, pre_norm=True, layer_scale=True),
    "pre_logits": replace(TINY, pre_logits=24, qkv_bias=False, gelu="quick"),
    "distilled": replace(TINY, distilled=True),
    "mean": replace(TINY, pooling="mean"),
    "mean_after": replace(TINY, pooling="mean", fc_norm=True, class_token=False),
    "headless": replace(TINY, classes=0),
    "one_block": replace(TINY, depth=1),
    "resnet": replace(TINY, stem="resnet", stages=(1, 1), patch=1),
}


def _fresh(config: ViTConfig) -> Classifier:
    """Float64 weights that are far from a fresh network's: every bias, scale and token matters."""
    generator = np.random.default_rng(7)
    shapes = {name: tuple(t.shape) for name, t in build(config, device="meta").state_dict().items()}
    weights = {
        name: generator.standard_normal(shape) * (0.1 if len(shape) == 1 else np.prod(shape) ** -0.25)
        + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        for name, shape in shapes.items()
    }
    return battery.filled(config, weights)


def _pictures(config: ViTConfig, count: int = 2) -> NDArray[np.float64]:
    return np.random.default_rng(8).standard_normal((count, config.channels, *config.image_size))


@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("name", FORMS)
def test_the_last_block_computes_what_reaches_the_head_and_no_answer_changes(name: str, path: AttentionPath) -> None:
    config = FORMS[name]
    classifier = _fresh(config)
    module, pictures = classifier.module, torch.from_numpy(_pictures(config))
    set_attention(module, path)
    sizes: list[int] = []
    for block in module.blocks:
        block.register_forward_hook(lambda _block, _inputs, output: sizes.append(output.shape[1]))
    logits = classifier.logits(pictures)
    used = 1 + config.distilled if config.pooling == "class" else config.tokens
    assert sizes == [config.tokens] * (config.depth - 1) + [used]
    sizes.clear()
    assert classifier.tokens(pictures).shape == (2, config.tokens, config.dim)
    assert sizes == [config.tokens] * config.depth
    sizes.clear()
    with torch.no_grad():
        whole = module.train()(pictures).numpy()  # no noise is configured: training computes every token
    assert sizes == [config.tokens] * config.depth
    assert np.abs(logits - whole).max() <= 1e-12


@pytest.mark.parametrize("name", FORMS)
def test_both_attention_paths_give_the_same_numbers_and_gradients(name: str) -> None:
    config = FORMS[name]
    classifier = _fresh(config)
    pictures = _pictures(config).astype(np.float32)
    logits, found = [], []
    for path in ("explicit", "fused"):
        set_attention(classifier.module, path)
        found.append(battery.gradients(classifier.module, pictures, np.array([0, 1]))[0])
    for key, value in found[0].items():
        assert np.abs(value - found[1][key]).max() <= 1e-12 * max(1.0, np.abs(value).max()), key
    classifier.module.float()
    for path in ("explicit", "fused"):
        set_attention(classifier.module, path)
        logits.append(classifier.logits(pictures))
    assert np.abs(logits[0] - logits[1]).max() <= 1e-6 * max(1.0, np.abs(logits[0]).max())


@pytest.mark.parametrize("name", FORMS)
def test_the_head_answers_from_the_features(name: str) -> None:
    config = FORMS[name]
    classifier = _fresh(config)
    pictures = torch.from_numpy(_pictures(config))
    features, logits, tokens = classifier.features(pictures), classifier.logits(pictures), classifier.tokens(pictures)
    assert features.shape == (2, config.pre_logits or config.dim)
    if config.classes == 0:
        assert np.array_equal(features, logits)
    elif config.distilled:
        assert np.abs(features - tokens[:, :2].mean(axis=1)).max() <= 1e-12
    else:
        head = classifier.module.head
        assert np.abs(features @ head.weight.detach().numpy().T + head.bias.detach().numpy() - logits).max() <= 1e-12
    if name == "mean":  # Google's `gap`: the norm stands before the mean, which leaves the class token out
        assert np.abs(features - tokens[:, 1:].mean(axis=1)).max() <= 1e-12


def test_native_names_are_timms_in_timms_order() -> None:
    config = replace(
        TINY, depth=1, register_tokens=2, pre_norm=True, layer_scale=True, pre_logits=8, qkv_bias=False
    )  # fmt: skip
    pair = ("weight", "bias")
    block = [
        "norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.proj.weight", "attn.proj.bias", "ls1.gamma",
        "norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias", "ls2.gamma",
    ]  # fmt: skip
    assert list(build(config, device="meta").state_dict()) == [
        "cls_token", "reg_token", "pos_embed", "patch_embed.proj.weight", *(f"norm_pre.{end}" for end in pair),
        *(f"blocks.0.{name}" for name in block),
        *(f"{part}.{end}" for part in ("norm", "pre_logits.fc", "head") for end in pair),
    ]  # fmt: skip
    two = list(build(replace(TINY, distilled=True), device="meta").state_dict())
    assert two[:3] == ["cls_token", "dist_token", "pos_embed"]
    assert two[-4:] == ["head.weight", "head.bias", "head_dist.weight", "head_dist.bias"]
    after = list(build(FORMS["mean_after"], device="meta").state_dict())
    assert after[0] == "pos_embed"
    assert after[-4:] == ["fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"]


def test_weights_are_a_function_of_config_and_seed() -> None:
    config = FORMS["registers"]
    state = torch.random.get_rng_state()
    one, again, other = build(config, seed=5), build(config, seed=5), build(config, seed=6)
    assert torch.equal(state, torch.random.get_rng_state())
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
        constant = name.endswith(("bias", "gamma")) or ("norm" in name and name.endswith("weight"))
        assert torch.equal(tensor, other.state_dict()[name]) == constant, name


def test_fresh_weights_have_the_statistics_of_timms() -> None:
    config = replace(REAL_TINY, depth=2, distilled=True, layer_scale=True)
    state = build(config, seed=1).state_dict()
    state["reg_token"] = build(replace(TINY, register_tokens=64, dim=192, heads=3)).state_dict()["reg_token"]
    for name, tensor in state.items():
        spread = float(tensor.std())
        if name.startswith("patch_embed"):  # torch's own: uniform in +-1 / sqrt(3 * 16 * 16)
            bound = 768**-0.5
            assert 0.98 * bound <= float(tensor.abs().max()) <= bound, name
            assert spread == pytest.approx(bound / 3**0.5, rel=0.1), name
        elif name in ("cls_token", "reg_token"):
            assert spread == pytest.approx(1e-6, rel=0.2), name
        elif name.endswith("gamma"):
            assert bool((tensor == 1e-5).all()), name
        elif name.endswith("bias") or "norm" in name:
            assert bool((tensor == (1.0 if name.endswith("weight") else 0.0)).all()), name
        else:
            assert spread == pytest.approx(0.02, rel=0.15), name


@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("field", ["dropout", "attention_dropout", "drop_path"])
def test_noise_acts_in_training_only(field: str, path: AttentionPath) -> None:
    module = build(replace(TINY, **{field: 0.5}))
    set_attention(module, path)
    x = torch.from_numpy(_pictures(TINY, 8)).float()
    torch.manual_seed(0)
    assert not torch.equal(module.train()(x), module(x))
    assert torch.equal(module.eval()(x), module(x))


def test_dropout_stands_after_positions_in_the_mlp_and_on_the_projection() -> None:
    module = build(replace(TINY, dropout=0.25, attention_dropout=0.125), device="meta")
    rates = {name: part.p for name, part in module.named_modules() if isinstance(part, torch.nn.Dropout)}
    assert rates == {
        "pos_drop": 0.25, "blocks.0.attn.proj_drop": 0.25, "blocks.0.mlp.dropout": 0.25,
        "blocks.1.attn.proj_drop": 0.25, "blocks.1.mlp.dropout": 0.25,
    }  # fmt: skip
    assert {block.attn.attn_drop for block in module.blocks} == {0.125}


def test_stochastic_depth_rises_linearly_and_norms_have_the_configs_epsilon() -> None:
    module = build(replace(BASE, drop_path=0.2, eps=1e-5), device="meta")
    assert [block.drop_path.rate for block in module.blocks] == pytest.approx(np.linspace(0, 0.2, 12))
    assert {part.eps for part in module.modules() if isinstance(part, torch.nn.LayerNorm)} == {1e-5}
    assert {part.eps for part in build(BASE, device="meta").modules() if isinstance(part, torch.nn.LayerNorm)} == {1e-6}
