"""CCT, CVT and ViT-Lite against what SHI-Labs' own code answered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models import battery
from tests.models.battery import Reference, Taps
from vitrail.models import build, set_attention
from vitrail.models.catalog import VARIANTS, variant
from vitrail.models.configs import AttentionPath, CCTConfig
from vitrail.models.count import shapes
from vitrail.models.tables import sine_table
from vitrail.weights import from_tensors

TAPS = Taps(embed="classifier.dropout", block0="classifier.blocks.0", norm="classifier.norm")

TINY = CCTConfig(image_size=(32, 32), classes=10, conv_layers=2, dim=32, depth=2, heads=2, mlp_ratio=2.0)
PATCHES = replace(TINY, kernel=4, stride=4, padding=0, conv_layers=1, conv_bias=True, max_pool=False)
LITE = replace(PATCHES, pooling="class")

CASES = {
    "shi_cct_tiny_learnable": TINY,
    "shi_cct_tiny_sine": replace(TINY, image_size=(64, 64), kernel=7, stride=2, padding=3, dim=16, positions="sine"),
    "shi_cct_tiny_none": replace(TINY, conv_layers=1, heads=4, positions="none"),
    "shi_cct_tiny_gray33": replace(TINY, image_size=(33, 33), channels=1),
    "shi_cct_tiny_nonsquare": replace(TINY, image_size=(40, 56), heads=4, mlp_ratio=1.0, classes=7),
    "shi_cvt_tiny_learnable": PATCHES,
    "shi_cvt_tiny_sine": replace(PATCHES, kernel=8, stride=8, heads=4, positions="sine"),
    "shi_vitlite_tiny_learnable": LITE,
    "shi_vitlite_tiny_sine": replace(LITE, kernel=8, stride=8, positions="sine"),
    "shi_vitlite_tiny_none": replace(LITE, image_size=(48, 48), kernel=16, stride=16, positions="none"),
} | {
    f"shi_real_{name}": variant(name).config
    for name in (
        "cct_2_3x2_32", "cct_7_3x1_32", "cct_7_3x1_32_c100", "cct_7_7x2_224", "cct_14_7x2_224", "cct_14_7x2_384",
        "cvt_2_4_32", "cvt_7_4_32", "vit_2_4_32", "vit_7_4_32",
    )
}  # fmt: skip
GRADIENTS = ("shi_cct_tiny_learnable", "shi_cvt_tiny_learnable", "shi_vitlite_tiny_learnable")


def test_every_case_of_the_reference_is_measured(shared: Path) -> None:
    assert {path.stem for path in (shared / "reference").glob("shi_*.npz")} == set(CASES)


@pytest.mark.parametrize("name", battery.by_size(CASES))
def test_float64_logits_and_inner_values_are_those_of_the_original(shared: Path, name: str) -> None:
    reference = Reference(shared, name)
    classifier = reference.classifier(CASES[name], "shi_labs")
    battery.check_logits(reference, classifier, np.float64)
    battery.check_activations(reference, classifier, TAPS)


@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("name", [name for name in CASES if "14_7x2" not in name])
def test_float32_logits_are_those_of_the_original(shared: Path, name: str, path: str) -> None:
    reference = Reference(shared, name)
    classifier = reference.classifier(CASES[name], "shi_labs", np.float32)
    set_attention(classifier.module, path)
    battery.check_logits(reference, classifier, np.float32)


@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_those_of_the_original(shared: Path, name: str, path: str) -> None:
    reference = Reference(shared, name)
    classifier = reference.classifier(CASES[name], "shi_labs")
    set_attention(classifier.module, path)
    battery.check_gradients(reference, classifier)


GOLDEN = {
    "cct_2_3x2_32": (-1.39678339, 1.18743752, -1.17537875, 0.95231351, -0.68506661,
                     0.50943977, -0.05515982, -0.06493428, 0.55988921, -0.65531813),
    "cvt_2_4_32": (-1.35054031, 1.32391811, -1.48700977, 1.42180269, -1.28636224,
                   1.20917623, -0.81450907, 0.71189184, -0.19130808, 0.02856675),
    "vit_2_4_32": (-3.07140966, 2.73743703, -2.62548635, 1.99295445, -1.57496176,
                   0.83821932, -0.16123603, -0.49149802, 1.28512997, -1.72706618),
    "vit_2_4_32_sine": (-1.7104632, 1.42312054, -1.43073062, 0.98405592, -0.80790371,
                        0.35556542, 0.01023146, -0.34226447, 0.82347628, -0.97860928),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_logits_without_any_weight_file(name: str) -> None:
    config = variant(name).config
    tensors = shapes(config)
    fixed = ("classifier.positional_emb",) if config.positions == "sine" else ()
    weights = battery.golden(tensors, skip=fixed)
    if fixed:
        weights[fixed[0]] = sine_table(config.tokens, config.dim)[None].astype(np.float64)
    logits = from_tensors(weights, name)
    pictures = torch.from_numpy(battery.golden_input(32))  # float64: the picture must not be rounded
    assert logits.logits(pictures)[0] == pytest.approx(GOLDEN[name], abs=2e-8)


def test_the_sine_table_is_the_published_one() -> None:
    row1 = [0.841471, 0.540302, 0.099833, 0.995004, 0.01, 0.99995, 0.001, 1.0]
    row3 = [0.14112, -0.989992, 0.29552, 0.955337, 0.029995, 0.99955, 0.003, 0.999996]
    table = sine_table(4, 8)
    assert table[1] == pytest.approx(row1, abs=1e-6)
    assert table[3] == pytest.approx(row3, abs=1e-6)
    assert sine_table(256, 256)[1, :4] == pytest.approx([0.8414710, 0.5403023, 0.8019618, 0.5973753], abs=1e-7)


@pytest.mark.parametrize("name", ["shi_cct_tiny_sine", "shi_cvt_tiny_sine", "shi_vitlite_tiny_sine"])
def test_a_built_sine_network_holds_the_originals_table(shared: Path, name: str) -> None:
    stored = Reference(shared, name).weights()["classifier.positional_emb"]
    built = build(CASES[name]).get_parameter("classifier.positional_emb")
    assert not built.requires_grad
    assert np.abs(built.numpy() - stored).max() <= 2e-7


@pytest.mark.parametrize("name", ["cct_7_3x1_32", "vit_7_4_32"])
def test_both_attention_paths_give_the_same_numbers_and_gradients(name: str) -> None:
    config = replace(variant(name).config, depth=2)
    module = build(config, seed=3)
    generator = np.random.default_rng(0)
    pictures = generator.standard_normal((4, 3, 32, 32), dtype=np.float32)
    labels = generator.integers(0, config.classes, 4)
    logits, found = [], []
    for path in ("explicit", "fused"):
        set_attention(module, path)
        with torch.no_grad():
            logits.append(module.eval()(torch.from_numpy(pictures)).numpy())
        found.append(battery.gradients(module, pictures, labels)[0])
    assert np.abs(logits[0] - logits[1]).max() <= 1e-6
    for key, value in found[0].items():
        assert np.abs(value - found[1][key]).max() <= 1e-6 * max(1.0, np.abs(value).max()), key


def test_explicit_is_the_path_of_a_new_network_and_an_unknown_path_is_refused() -> None:
    module = build(TINY, device="meta")
    assert {part.attention_path for part in module.modules() if hasattr(part, "attention_path")} == {"explicit"}
    set_attention(module, "fused")
    assert {part.attention_path for part in module.modules() if hasattr(part, "attention_path")} == {"fused"}
    with pytest.raises(ValueError, match="flash"):
        set_attention(module, "flash")  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("name", ["shi_vitlite_tiny_learnable", "shi_cct_tiny_learnable"])
def test_the_last_block_computes_what_reaches_the_head_and_no_answer_changes(
    shared: Path, name: str, path: AttentionPath
) -> None:
    reference, config = Reference(shared, name), replace(CASES[name], attention_dropout=0.0, drop_path=0.0)
    classifier = reference.native(config)
    set_attention(classifier.module, path)
    sizes: list[int] = []
    for block in classifier.module.classifier.blocks:
        block.register_forward_hook(lambda _block, _inputs, output: sizes.append(output.shape[1]))
    logits = classifier.logits(reference.input)
    assert sizes == [config.tokens, 1 if config.pooling == "class" else config.tokens]
    assert classifier.tokens(reference.input).shape == (len(logits), config.tokens, config.dim)
    with torch.no_grad():
        whole = classifier.module.train()(torch.from_numpy(reference.input).double()).numpy()
    assert sizes[2:] == [config.tokens] * 4
    assert np.abs(logits - whole).max() <= 1e-12


@pytest.mark.parametrize("same", [False, True])
def test_the_pool_of_the_mindspore_port_pads_at_the_end_only(same: bool) -> None:
    config = replace(TINY, conv_layers=1, pool_padding="same" if same else "torch")
    pool = build(config, device="meta").tokenizer.conv_layers[0][2]
    x = torch.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    assert pool(x).flatten().tolist() == ([11, 12, 15, 16] if same else [6, 8, 14, 16])
    assert pool(-x).flatten().tolist() == ([-1, -3, -9, -11] if same else [-1, -2, -5, -6])


def test_gelu_and_pool_are_fields_that_change_answers() -> None:
    module = build(TINY, seed=1)
    pictures = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 32, 32), dtype=np.float32))
    with torch.no_grad():
        base = module.eval()(pictures)
        for change in ({"gelu": "tanh"}, {"gelu": "quick"}, {"pool_padding": "same"}):
            assert not torch.equal(build(replace(TINY, **change), seed=1).eval()(pictures), base), change


@pytest.mark.parametrize("path", ["explicit", "fused"])
def test_attention_drops_weights_in_training_only(path: str) -> None:
    module = build(replace(TINY, attention_dropout=0.5, drop_path=0.0, depth=1))
    set_attention(module, path)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    assert not torch.equal(module.train()(x), module(x))
    assert torch.equal(module.eval()(x), module(x))


def test_weights_are_a_function_of_config_and_seed() -> None:
    state = torch.random.get_rng_state()
    one, again, other = build(TINY, seed=5), build(TINY, seed=5), build(TINY, seed=6)
    assert torch.equal(state, torch.random.get_rng_state())
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
        constant = name.endswith("bias") or ("norm" in name and name.endswith("weight"))
        assert torch.equal(tensor, other.state_dict()[name]) == constant, name


def test_fresh_weights_have_the_published_statistics() -> None:
    state = build(variant("cct_7_7x2_224").config, seed=1).state_dict()
    for name, tensor in state.items():
        if "conv_layers" in name:
            wanted = (2 / tensor[0].numel()) ** 0.5  # Kaiming, fan in
            assert float(tensor.std()) == pytest.approx(wanted, rel=0.05), name
        elif name.endswith("positional_emb"):
            assert float(tensor.std()) == pytest.approx(0.2, rel=0.05)
        elif "norm" in name:
            assert bool((tensor == (1.0 if name.endswith("weight") else 0.0)).all()), name
        elif name.endswith("bias"):
            assert bool((tensor == 0).all()), name
        else:
            assert float(tensor.std()) == pytest.approx(0.02, rel=0.1), name
            assert abs(float(tensor.mean())) <= 4 * 0.02 / tensor.numel() ** 0.5, name
    lite = build(VARIANTS["vit_7_4_32"].config).state_dict()
    assert bool((lite["classifier.class_emb"] == 0).all())
    bias = lite["tokenizer.conv_layers.0.0.bias"]  # torch's own start: uniform in +-1 / sqrt(48)
    assert 0.9 * 48**-0.5 <= float(bias.abs().max()) <= 48**-0.5


def test_stochastic_depth_rises_linearly_and_norms_have_the_originals_epsilon() -> None:
    module = build(variant("cct_14_7x2_224").config, device="meta")
    rates = [block.drop_path.rate for block in module.classifier.blocks]
    assert rates == pytest.approx(np.linspace(0, 0.1, 14))
    assert {part.eps for part in module.modules() if isinstance(part, torch.nn.LayerNorm)} == {1e-5}
