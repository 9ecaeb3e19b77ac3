"""BEiT and BEiT v2 against what timm's and unilm's code answered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import battery
from tests.models.battery import Arrays, Reference, Taps
from vitrail.engines import onnx
from vitrail.models import build, set_attention
from vitrail.models.beit import BEiT
from vitrail.models.classifier import Classifier
from vitrail.models.configs import BEiTConfig
from vitrail.models.count import shapes
from vitrail.models.layers import project
from vitrail.models.tables import relative_index

TAPS = Taps(embed="pos_drop", block0="blocks.0", norm="norm")

TINY = BEiTConfig(image_size=(64, 64), classes=10, dim=32, depth=2, heads=4)
BASE = BEiTConfig(image_size=(224, 224))
SHARED = replace(TINY, block_bias=False, shared_bias=True)

CASES = {
    "timm_beit_tiny_relpos_mean": TINY,
    "timm_beit_tiny_sharedrelpos": SHARED,
    "timm_beit_tiny_abs_cls": replace(
        TINY, block_bias=False, absolute_positions=True, layer_scale=False, pooling="class"
    ),
    "timm_beit_tiny_all": replace(TINY, absolute_positions=True, shared_bias=True, qkv_bias=False),
    "timm_beit_tiny_nonsquare": replace(TINY, image_size=(32, 80)),
    "timm_real_beit_base_patch16_224": BASE,
    "timm_real_beit_base_patch16_384": replace(BASE, image_size=(384, 384)),
    "timm_real_beitv2_base_patch16_224": BASE,
    "unilm_beit_tiny_relpos": TINY,
    "unilm_beit_tiny_shared_abs": replace(SHARED, absolute_positions=True),
    "unilm_beit_tiny_nomean": replace(TINY, layer_scale=False, pooling="class"),
    "unilm_beit2_tiny": TINY,
    "unilm_beit_real_base_patch16_224": BASE,
}
QUICK = tuple(name for name in CASES if "_tiny" in name)
REAL = tuple(name for name in CASES if "_real_" in name)
GRADIENTS = ("timm_beit_tiny_relpos_mean", "timm_beit_tiny_sharedrelpos", "unilm_beit_tiny_relpos")
EVERYTHING = replace(TINY, absolute_positions=True, shared_bias=True, key_bias=True, pooling="class")


def ours(reference: Reference, config: BEiTConfig, kind: type = np.float64) -> Classifier:
    """Our network with the case's weights; unilm's files also hold the index, which must be that of the grid."""
    weights: Arrays = {}
    for name, value in reference.weights().items():
        if name.endswith("relative_position_index"):
            assert value.dtype == np.int64
            assert np.array_equal(value, relative_index(config.grid))
        else:
            weights[name] = value.astype(kind)
    return battery.filled(config, weights)


def drawn(config: BEiTConfig, seed: int = 0) -> BEiT:
    """A float64 network in which every tensor matters: fresh ones have tables of 0 and hardly a head."""
    module = build(config, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    assert isinstance(module, BEiT)
    return module.eval()


def pictures(config: BEiTConfig, count: int = 2) -> torch.Tensor:
    shape = (count, config.channels, *config.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def test_every_case_of_the_reference_is_measured(shared: Path) -> None:
    kinds = ("timm_beit", "timm_real_beit", "unilm_beit")
    assert {path.stem for kind in kinds for path in (shared / "reference").glob(f"{kind}*.npz")} == set(CASES)


@pytest.mark.parametrize("name", QUICK)
def test_float64_logits_and_inner_values_are_those_of_the_original(shared: Path, name: str) -> None:
    reference = Reference(shared, name)
    classifier = ours(reference, CASES[name])
    battery.check_logits(reference, classifier, np.float64)
    battery.check_activations(reference, classifier, TAPS)


@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("name", QUICK)
def test_float32_logits_are_those_of_the_original(shared: Path, name: str, path: str) -> None:
    reference = Reference(shared, name)
    classifier = ours(reference, CASES[name], np.float32)
    set_attention(classifier.module, path)
    battery.check_logits(reference, classifier, np.float32)


@pytest.mark.parametrize("name", battery.by_size(REAL))
def test_published_sizes_answer_in_float32_as_the_original(shared: Path, name: str) -> None:
    reference = Reference(shared, name)
    classifier = ours(reference, CASES[name], np.float32)
    set_attention(classifier.module, "fused")
    battery.check_logits(reference, classifier, np.float32)


@pytest.mark.prove
@pytest.mark.parametrize("name", REAL)
def test_published_sizes_answer_in_float64_as_the_original(shared: Path, name: str) -> None:
    reference = Reference(shared, name)
    classifier = ours(reference, CASES[name])
    battery.check_logits(reference, classifier, np.float64)
    battery.check_activations(reference, classifier, TAPS)


@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_those_of_the_original(shared: Path, name: str, path: str) -> None:
    reference = Reference(shared, name)
    classifier = ours(reference, CASES[name])
    set_attention(classifier.module, path)
    battery.check_gradients(reference, classifier)


def test_golden_logits_without_any_weight_file() -> None:
    config = BEiTConfig(image_size=(32, 32), classes=5, patch=8, dim=48, depth=2, heads=3)
    weights = battery.golden(shapes(config))
    assert len(weights) == 39
    logits = battery.filled(config, weights).logits(torch.from_numpy(battery.golden_input(32)))
    assert logits[0] == pytest.approx([0.56464509, -1.053412, -1.60801325, -0.5221187, 1.03078372], abs=2e-8)


@pytest.mark.parametrize("config", [*dict.fromkeys(CASES[name] for name in QUICK), EVERYTHING])
def test_a_network_holds_the_counted_tensors_in_that_order(config: BEiTConfig) -> None:
    state = build(config, device="meta").state_dict()
    assert [(name, tuple(tensor.shape)) for name, tensor in state.items()] == list(shapes(config).items())


@given(st.tuples(st.integers(1, 7), st.integers(1, 7)))
@settings(max_examples=30, deadline=None)
def test_the_index_tells_every_distance_from_every_other(grid: tuple[int, int]) -> None:
    index = relative_index(grid)
    config = replace(TINY, image_size=(16 * grid[0], 16 * grid[1]))
    made = BEiT(config).relative_index()
    assert made is not None
    assert np.array_equal(made.numpy(), index)
    assert index.max() == config.distances - 1
    rows: dict[int, tuple[int, int]] = {}
    where = [(row, column) for row in range(grid[0]) for column in range(grid[1])]
    for i, (row, column) in enumerate(where):
        for j, (other_row, other_column) in enumerate(where):
            way = (row - other_row, column - other_column)
            assert rows.setdefault(int(index[1 + i, 1 + j]), way) == way
    assert len(set(rows.values())) == len(rows) == (2 * grid[0] - 1) * (2 * grid[1] - 1)
    assert min(rows) == 0
    assert set(rows) == set(range(len(rows)))


def test_the_index_is_the_published_one() -> None:
    small = [[11, 9, 9, 9, 9], [10, 4, 3, 1, 0], [10, 5, 4, 2, 1], [10, 7, 6, 4, 3], [10, 8, 7, 5, 4]]
    assert relative_index((2, 2)).tolist() == small
    large = relative_index((14, 14))
    assert [large[0, 1], large[1, 0], large[1, 1], large[1, 2], large[2, 1]] == [729, 730, 364, 363, 365]
    assert [large[1, 196], large[196, 1], large.max()] == [0, 728, 731]
    sizes = {14: 732, 16: 964, 24: 2212, 32: 3972}
    assert {g: BEiTConfig(image_size=(16 * g, 16 * g)).distances for g in sizes} == sizes


@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("config", [EVERYTHING, replace(EVERYTHING, qkv_bias=False, key_bias=False)])
def test_the_class_token_alone_gives_the_same_logits(config: BEiTConfig, path: str) -> None:
    module = drawn(config)
    set_attention(module, path)
    with torch.no_grad():
        short, whole = module.features(pictures(config)), module.tokens(pictures(config))
    assert whole.shape == (2, config.tokens, config.dim)
    assert torch.allclose(short, whole[:, 0], rtol=0, atol=1e-12)


def test_in_evaluation_the_last_block_asks_for_the_class_token_alone() -> None:
    module = drawn(EVERYTHING)
    seen: list[tuple[int, ...]] = []
    for block in module.blocks:
        block.register_forward_hook(lambda _block, _inputs, output: seen.append(tuple(output.shape)))
    with torch.no_grad():
        module(pictures(EVERYTHING))
        module.train()(pictures(EVERYTHING))
    whole, alone = (2, EVERYTHING.tokens, EVERYTHING.dim), (2, 1, EVERYTHING.dim)
    assert seen == [whole, alone, whole, whole]


@pytest.mark.parametrize("config", [TINY, SHARED, EVERYTHING])
def test_both_attention_paths_give_the_same_numbers_and_gradients(config: BEiTConfig) -> None:
    module = drawn(config).float()
    images, labels = pictures(config, 4).float().numpy(), np.arange(4)
    logits, found = [], []
    for path in ("explicit", "fused"):
        set_attention(module, path)
        with torch.no_grad():
            logits.append(module(torch.from_numpy(images)).numpy())
        found.append(battery.gradients(module, images, labels)[0])
    assert np.abs(logits[0] - logits[1]).max() <= 1e-6 * max(1.0, np.abs(logits[0]).max())
    for key, value in found[0].items():
        # a key bias has gradient 0 but for rounding
        assert np.abs(value - found[1][key]).max() <= 1e-5 * max(1.0, np.abs(value).max()), key


def test_a_key_bias_changes_no_answer() -> None:
    module = drawn(EVERYTHING)
    with torch.no_grad():
        before = module(pictures(EVERYTHING))
        for i in range(EVERYTHING.depth):
            module.get_parameter(f"blocks.{i}.attn.k_bias").mul_(-3.0)
        assert torch.allclose(module(pictures(EVERYTHING)), before, rtol=0, atol=1e-12)
        module.get_parameter("blocks.0.attn.q_bias").mul_(-3.0)
        assert not torch.allclose(module(pictures(EVERYTHING)), before, rtol=0, atol=1e-6)


@pytest.mark.parametrize("path", ["explicit", "fused"])
@pytest.mark.parametrize("config", [SHARED, EVERYTHING])
def test_attention_weights_are_those_that_attention_uses(config: BEiTConfig, path: str) -> None:
    module = drawn(config)
    set_attention(module, path)
    layer, taken = module.blocks[1].attn, {}
    layer.register_forward_hook(lambda _layer, inputs, output: taken.update(inputs=inputs, output=output))
    with torch.no_grad():
        module.tokens(pictures(config))
        weights = layer.weights(*taken["inputs"])
        x, bias = taken["inputs"][0], layer.qkv_bias()
        value = project(x, layer.qkv, bias, heads=config.heads, first=None)[2]
        again = layer.proj((weights @ value).transpose(1, 2).flatten(2))
    assert weights.shape == (2, config.heads, config.tokens, config.tokens)
    assert torch.allclose(weights.sum(-1), torch.ones(()).double(), rtol=0, atol=1e-12)
    assert torch.allclose(again, taken["output"], rtol=0, atol=1e-12)


def test_without_classes_the_answer_is_the_features() -> None:
    for config in (TINY, EVERYTHING):
        headless = replace(config, classes=0)
        module = drawn(headless)
        with torch.no_grad():
            images = pictures(headless)
            assert torch.equal(module(images), module.features(images))
            assert module(images).shape == (2, config.dim)


def test_training_drops_and_evaluation_does_not() -> None:
    config = replace(TINY, dropout=0.2, attention_dropout=0.2, drop_path=0.5)
    module = drawn(config)
    rates = [block.drop_path.rate for block in drawn(replace(config, depth=5)).blocks]
    assert rates == pytest.approx([0, 0.125, 0.25, 0.375, 0.5])
    with torch.no_grad():
        images = pictures(config)
        assert torch.equal(module(images), module(images))
        torch.manual_seed(0)
        module.train()
        assert not torch.equal(module(images), module(images))


def test_fresh_weights_have_the_published_statistics() -> None:
    config = replace(BASE, depth=3, absolute_positions=True, shared_bias=True, layer_scale_init=1e-5)
    state = build(config, seed=1).state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in build(config, seed=1).state_dict().items())
    for name, tensor in state.items():
        ending = name.rsplit(".", 1)[-1]
        if name.startswith("patch_embed"):
            bound = (3 * 16 * 16) ** -0.5  # torch's own start: uniform
            assert 0.98 * bound <= float(tensor.abs().max()) <= bound, name
        elif ending in ("gamma_1", "gamma_2"):
            assert bool((tensor == 1e-5).all()), name
        elif ending in ("bias", "q_bias", "v_bias", "relative_position_bias_table"):
            assert bool((tensor == 0).all()), name
        elif "norm" in name:
            assert bool((tensor == 1).all()), name
        else:
            wanted = 0.02
            if name.endswith(("attn.proj.weight", "mlp.fc2.weight")):
                wanted /= (2 * (int(name.split(".")[1]) + 1)) ** 0.5
            if name == "head.weight":
                wanted *= 0.001
            assert float(tensor.std()) == pytest.approx(wanted, rel=0.1), name


def test_norms_have_the_configs_epsilon_and_gelu_its_form() -> None:
    module = drawn(replace(TINY, eps=1e-5))
    assert {part.eps for part in module.modules() if isinstance(part, torch.nn.LayerNorm)} == {1e-5}
    with torch.no_grad():
        images = pictures(TINY)
        erf, tanh = (drawn(replace(TINY, gelu=form))(images) for form in ("erf", "tanh"))
    assert 1e-6 < float((erf - tanh).abs().max()) < 1e-1


def test_the_onnx_graph_answers_alike() -> None:
    config = replace(EVERYTHING, image_size=(32, 48))
    module = drawn(config).float()
    data = onnx.write(module, classes=[str(i) for i in range(10)], image=(3, *config.image_size))
    images = pictures(config, 3).float()
    with torch.no_grad():
        wanted = module(images).numpy()
    assert np.abs(onnx.open(data, threads=1).logits(images.numpy()) - wanted).max() <= 2e-5
