"""What a classifier shows beside its logits, for every family."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.models import battery
from vitrail.errors import UsageError
from vitrail.models import build, set_attention
from vitrail.models.classifier import Classifier
from vitrail.models.configs import AttentionPath, BEiTConfig, CCTConfig, ModelConfig, ViTConfig

VIT = ViTConfig(image_size=(16, 24), classes=5, patch=8, dim=12, depth=3, heads=3)
BEIT = BEiTConfig(image_size=(16, 24), classes=5, patch=8, dim=12, depth=3, heads=3, shared_bias=True)
CCT = CCTConfig(image_size=(16, 24), classes=5, dim=12, depth=3, heads=3)
LITE = CCTConfig(
    image_size=(16, 24), classes=5, dim=12, depth=3, heads=3, kernel=8, stride=8, padding=0, conv_bias=True,
    max_pool=False, pooling="class",
)  # fmt: skip
HYBRID = ViTConfig(
    image_size=(16, 24), classes=5, stem="resnet", stem_width=32, patch=2, dim=12, depth=3, heads=3, register_tokens=2,
    class_position=False,
)  # fmt: skip
FAMILIES: dict[str, ModelConfig] = {"vit": VIT, "hybrid": HYBRID, "beit": BEIT, "cct": CCT, "lite": LITE}
PREFIX = {"vit": 1, "hybrid": 3, "beit": 1, "cct": 0, "lite": 1}


class Names(NamedTuple):
    """Paths of parts: a block, its attention and the norm before it, the last norm, the head."""

    block: str
    attention: str
    before: str
    norm: str
    head: str


TIMM = Names("blocks.{}", "blocks.{}.attn", "blocks.{}.norm1", "norm", "head")
SHI_BLOCK = "classifier.blocks.{}"
SHI = Names(SHI_BLOCK, SHI_BLOCK + ".self_attn", SHI_BLOCK + ".pre_norm", "classifier.norm", "classifier.fc")
NAMES = {"vit": TIMM, "hybrid": TIMM, "beit": TIMM, "cct": SHI, "lite": SHI}


def _classifier(config: ModelConfig, kind: type = np.float64) -> Classifier:
    """Weights large enough that attention is far from uniform."""
    generator = np.random.default_rng(3)
    shapes = {name: tuple(t.shape) for name, t in build(config, device="meta").state_dict().items()}
    weights = {
        name: generator.standard_normal(shape) * 0.5 + ("norm" in name and name.endswith("weight"))
        for name, shape in shapes.items()
    }
    return battery.filled(config, {name: value.astype(kind) for name, value in weights.items()})


def _pictures(kind: type = np.float32) -> NDArray[np.float32]:
    return np.random.default_rng(4).standard_normal((2, 3, 16, 24)).astype(kind)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_features_tokens_and_maps_fit_each_other(family: str) -> None:
    config = FAMILIES[family]
    classifier = _classifier(config)
    tokens, features, grid = classifier.tokens(_pictures()), classifier.features(_pictures()), config.grid
    assert tokens.shape == (2, PREFIX[family] + grid[0] * grid[1], 12)
    assert features.shape == (2, 12)
    where = classifier.token_map(_pictures())
    assert where.shape == (2, 12, *grid)
    for row, column in np.ndindex(*grid):
        assert np.array_equal(where[:, :, row, column], tokens[:, PREFIX[family] + row * grid[1] + column])
    if family in ("vit", "hybrid", "lite"):
        assert np.abs(features - tokens[:, 0]).max() <= 1e-12 * np.abs(tokens).max()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_answers_come_in_the_weights_precision_and_leave_the_network_as_it_was(family: str, kind: type) -> None:
    classifier = _classifier(FAMILIES[family], kind)
    classifier.module.train()
    block = NAMES[family].block.format(1)
    answers = (
        classifier.logits(_pictures()), classifier.features(_pictures()), classifier.tokens(_pictures()),
        classifier.token_map(_pictures()), classifier.intermediates(_pictures(), [block])[block],
        classifier.attention_maps(_pictures(), [1])[1],
    )  # fmt: skip
    assert {answer.dtype.type for answer in answers} == {kind}
    assert classifier.module.training
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in classifier.module.modules())
    assert all(np.array_equal(a, b) for a, b in zip(answers[:2], (classifier.logits(_pictures()),
               classifier.features(_pictures())), strict=True))  # fmt: skip


@pytest.mark.parametrize("shape", [(2, 3, 24, 16), (2, 1, 16, 24), (3, 16, 24), (2, 3, 16, 24, 1), ()])
def test_a_batch_of_another_shape_is_refused(family: str, shape: tuple[int, ...]) -> None:
    classifier = _classifier(FAMILIES[family])
    for ask in (classifier.logits, classifier.features, classifier.tokens, classifier.attention_maps):
        with pytest.raises(UsageError, match=r"the network takes \(B, 3, 16, 24\)") as caught:
            ask(np.zeros(shape, np.float32))
        assert caught.value.code == "V007"


def test_half_precision_weights_answer_in_float32() -> None:
    classifier = _classifier(VIT, np.float32)
    classifier.module.bfloat16()
    assert classifier.tokens(_pictures()).dtype == np.float32
    assert classifier.attention_maps(_pictures())[0].dtype == np.float32


def test_intermediates_are_what_leaves_the_named_parts_for_all_tokens(family: str) -> None:
    config = FAMILIES[family]
    classifier = _classifier(config)
    last, norm, head = NAMES[family].block.format(2), NAMES[family].norm, NAMES[family].head
    found = classifier.intermediates(_pictures(), [last, norm, head, last])
    assert list(found) == [last, norm, head]
    assert found[last].shape == (2, PREFIX[family] + config.grid[0] * config.grid[1], 12)
    assert np.array_equal(found[norm], classifier.tokens(_pictures()))
    assert np.array_equal(found[head], classifier.logits(_pictures()))
    if not isinstance(classifier.module.get_submodule(norm), torch.nn.Identity):
        scale, shift = (p.detach().numpy() for p in classifier.module.get_submodule(norm).parameters())
        x = found[last]
        eps = classifier.module.get_submodule(norm).eps
        by_hand = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * scale + shift
        assert np.abs(found[norm] - by_hand).max() <= 1e-10


def test_names_of_parts_are_refused_with_the_nearest() -> None:
    classifier = _classifier(VIT)
    for name, word in (("blocks.7", "blocks"), ("block.1", "blocks.1"), ("", "")):
        with pytest.raises(UsageError, match="no part") as caught:
            classifier.intermediates(_pictures(), ["blocks.0", name])
        assert caught.value.code == "V007"
        assert word in caught.value.hint
    with pytest.raises(UsageError, match="only holds other parts") as caught:
        classifier.intermediates(_pictures(), ["blocks"])
    assert caught.value.code == "V007"


@pytest.mark.parametrize("path", ["explicit", "fused"])
def test_attention_maps_are_the_weights_that_the_network_uses(family: str, path: AttentionPath) -> None:
    config = FAMILIES[family]
    classifier = _classifier(config)
    set_attention(classifier.module, path)
    tokens = PREFIX[family] + config.grid[0] * config.grid[1]
    maps = classifier.attention_maps(_pictures())
    assert list(maps) == [0, 1, 2]
    for block, weights in maps.items():
        assert weights.shape == (2, 3, tokens, tokens)
        assert np.abs(weights.sum(axis=-1) - 1.0).max() <= 1e-12
        assert float(weights.std()) > 0.3 / tokens, "attention is near uniform: a wrong map would not show"
        assert np.abs(weights @ _values(classifier, family, block) - _heads(classifier, family, block)).max() <= 1e-10


def _values(classifier: Classifier, family: str, block: int) -> NDArray[np.float64]:
    """The values (B, heads, N, 4) of a block, from what its norm gave."""
    norm = NAMES[family].before.format(block)
    layer = classifier.module.get_submodule(NAMES[family].attention.format(block))
    values = classifier.intermediates(_pictures(), [norm])[norm] @ layer.qkv.weight.detach().numpy()[24:].T
    if family == "beit":
        values = values + layer.v_bias.detach().numpy()
    elif layer.qkv.bias is not None:
        values = values + layer.qkv.bias.detach().numpy()[24:]
    return values.reshape(*values.shape[:2], 3, 4).transpose(0, 2, 1, 3)


def _heads(classifier: Classifier, family: str, block: int) -> NDArray[np.float64]:
    """What the network's own attention gave (B, heads, N, 4) before its projection, found from what left that."""
    name = NAMES[family].attention.format(block) + ".proj"
    out = classifier.intermediates(_pictures(), [name])[name]
    layer = classifier.module.get_submodule(name)
    mixed = np.linalg.solve(layer.weight.detach().numpy(), (out - layer.bias.detach().numpy())[..., None])[..., 0]
    return mixed.reshape(*mixed.shape[:2], 3, 4).transpose(0, 2, 1, 3)


def test_attention_maps_of_chosen_blocks() -> None:
    classifier = _classifier(VIT)
    every = classifier.attention_maps(_pictures())
    chosen = classifier.attention_maps(_pictures(), [-1, 0, 2])
    assert list(chosen) == [-1, 0, 2]
    assert np.array_equal(chosen[-1], every[2])
    assert np.array_equal(chosen[0], every[0])
    assert np.array_equal(chosen[2], every[2])
    assert classifier.attention_maps(_pictures(), []) == {}
    for block in (3, -4):
        with pytest.raises(UsageError, match=f"no block {block}") as caught:
            classifier.attention_maps(_pictures(), [0, block])
        assert caught.value.code == "V007"
