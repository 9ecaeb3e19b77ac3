"""From our network to a file of any dialect and container and back: every bit, every tensor once (C12)."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitrail.errors import WeightsError
from vitrail.formats import read_tensors
from vitrail.formats.stored import Tensors
from vitrail.models import build
from vitrail.models.catalog import variant
from vitrail.models.classifier import Classifier
from vitrail.models.configs import BEiTConfig, CCTConfig, ModelConfig, ViTConfig, family_of
from vitrail.pictures.policy import HALF, Policy
from vitrail.weights import from_tensors, load, native_tensors, save_as
from vitrail.weights.dialects import TABLES
from vitrail.weights.rules import Dialect
from vitrail.weights.translate import from_native, read, write

KINDS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
SUFFIXES = (".safetensors", ".npz", ".pth", ".ckpt", ".h5", ".weights.h5")


@st.composite
def vits(draw: st.DrawFn) -> ViTConfig:
    heads, patch = draw(st.integers(1, 3)), draw(st.sampled_from([2, 4]))
    stem = draw(st.sampled_from(["patches", "patches", "resnet"]))
    stages = draw(st.sampled_from([(), (1,), (1, 2)])) if stem == "resnet" else ()
    config = ViTConfig(
        image_size=(32, 32),
        patch=patch,
        stem=stem,
        stages=stages,
        stem_width=32,
        stem_numerics=draw(st.sampled_from(["timm", "google"])),
        channels=draw(st.sampled_from([1, 3])),
        classes=draw(st.integers(0, 4)),
        dim=heads * draw(st.integers(1, 4)),
        depth=draw(st.integers(1, 11)),
        heads=heads,
        mlp_ratio=draw(st.sampled_from([1.0, 2.0])),
        qkv_bias=draw(st.booleans()),
        layer_scale=draw(st.booleans()),
        pre_norm=draw(st.booleans()),
        gelu=draw(st.sampled_from(["erf", "tanh", "quick"])),
        eps=draw(st.sampled_from([1e-6, 1e-12])),
        register_tokens=draw(st.sampled_from([0, 0, 2])),
        class_position=draw(st.booleans()),
        pre_logits=draw(st.sampled_from([0, 0, 3])),
    )
    return draw(
        st.sampled_from(
            [
                config,
                replace(config, pooling="mean", fc_norm=True),
                replace(config, pooling="mean", class_token=False),
                replace(config, distilled=True, pre_logits=0, register_tokens=0),
                ViTConfig(image_size=(8, 8), patch=4, classes=3, dim=6, depth=2, heads=3, gelu=config.gelu),
            ]
        )
    )


@st.composite
def beits(draw: st.DrawFn) -> BEiTConfig:
    heads = draw(st.integers(1, 3))
    qkv_bias = draw(st.booleans())
    return BEiTConfig(
        image_size=(draw(st.sampled_from([8, 12])), draw(st.sampled_from([8, 12]))),
        patch=4,
        classes=draw(st.integers(0, 4)),
        channels=draw(st.sampled_from([1, 3])),
        absolute_positions=draw(st.booleans()),
        block_bias=draw(st.booleans()),
        shared_bias=draw(st.booleans()),
        dim=heads * 4,
        depth=draw(st.integers(1, 11)),
        heads=heads,
        mlp_ratio=2.0,
        qkv_bias=qkv_bias,
        key_bias=qkv_bias and draw(st.booleans()),
        layer_scale=draw(st.booleans()),
        gelu=draw(st.sampled_from(["erf", "tanh"])),
        eps=draw(st.sampled_from([1e-6, 1e-5])),
        pooling=draw(st.sampled_from(["class", "mean"])),
    )


@st.composite
def ccts(draw: st.DrawFn) -> CCTConfig:
    heads = draw(st.integers(1, 3))
    return CCTConfig(
        image_size=(16, 16),
        classes=draw(st.integers(1, 4)),
        conv_layers=draw(st.integers(1, 2)),
        conv_width=5,
        dim=heads * 2,
        depth=draw(st.integers(1, 11)),
        heads=heads,
        mlp_ratio=2.0,
        pooling=draw(st.sampled_from(["sequence", "class"])),
        positions=draw(st.sampled_from(["learned", "sine", "none"])),
        pool_padding=draw(st.sampled_from(["torch", "same"])),
        gelu=draw(st.sampled_from(["erf", "tanh"])),
    )


CONFIGS = st.one_of(vits(), beits(), ccts())


def bits(tensors: Tensors) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (tensor.dtype, tensor.shape, bytes(tensor.data)) for name, tensor in tensors.items()}


def random_weights(config: ModelConfig, kind: torch.dtype, seed: int) -> Classifier:
    """Every tensor random, also those that start as ones or zeros."""
    module = build(config, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in module.parameters():
            if tensor.requires_grad:
                tensor.normal_(std=0.5, generator=generator)
    count = config.channels
    policy = Policy(size=config.image_size, mode="squash", mean=HALF.mean[:1] * count, std=HALF.std[:1] * count)
    names = tuple(f"name {i}" for i in range(config.classes))
    return Classifier(module.to(kind), config, policy, names)


def holding(native: Tensors, config: ModelConfig) -> list[Dialect]:
    """The tables that hold this network whole."""
    own = [table for table in TABLES if table.family == family_of(config) and table.rename is None]
    return [table for table in own if write(table, native, config).whole]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CONFIGS, st.sampled_from(KINDS), st.integers(0, 99))
def test_C12_every_dialect_that_holds_a_network_gives_it_back(
    config: ModelConfig, kind: torch.dtype, seed: int
) -> None:
    classifier = random_weights(config, kind, seed)
    native = native_tensors(classifier.module)
    found = holding(native, config)
    assert found, "our own dialect holds every network"
    for table in found:
        theirs = from_native(table, native, config)
        back = read(table, theirs)
        assert back.whole and bits(back.tensors) == bits(native), table
        name = f"{table.name}:{table.form}" if table.form else table.name
        again = from_tensors(theirs, config, dialect=name)
        assert bits(native_tensors(again.module)) == bits(native)


def containers(table: Dialect) -> list[str]:
    if table.containers:
        return [suffix for suffix in SUFFIXES if suffix in table.containers]
    return [suffix for suffix in SUFFIXES if not suffix.endswith("h5")]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CONFIGS, st.sampled_from(KINDS), st.integers(0, 99), st.data())
def test_C12_every_container_gives_back_the_same_bits(
    config: ModelConfig, kind: torch.dtype, seed: int, data: st.DataObject
) -> None:
    classifier = random_weights(config, kind, seed)
    table = data.draw(st.sampled_from(holding(native_tensors(classifier.module), config)))
    choices = containers(table)
    suffix = data.draw(st.sampled_from(choices)) if choices else ".safetensors"
    name = f"{table.name}:{table.form}" if table.form else table.name
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"w{suffix}"
        if kind is torch.bfloat16 and suffix in (".npz", ".h5", ".weights.h5"):
            with pytest.raises(Exception, match=r"BF16|bfloat16"):
                save_as(classifier, path, name)
            assert not path.exists()
            return
        save_as(classifier, path, name)
        first = path.read_bytes()
        loaded = load(path, config, dialect=name).classifier
        assert bits(native_tensors(loaded.module)) == bits(native_tensors(classifier.module))
        stored = read_tensors(path)[0]
        assert bits(stored) == bits(from_native(table, native_tensors(classifier.module), config))
        path.unlink()
        save_as(loaded, path, name)
        if suffix != ".safetensors":  # there the class names stand beside, which a named config does not read
            assert path.read_bytes() == first


@pytest.mark.parametrize("kind", KINDS)
def test_a_hugging_face_folder_gives_back_everything(tmp_path: Path, kind: torch.dtype) -> None:
    for i, config in enumerate(
        (
            ViTConfig(image_size=(32, 48), patch=16, classes=3, dim=12, depth=2, heads=3, gelu="tanh", eps=1e-6),
            BEiTConfig(image_size=(32, 32), patch=16, classes=3, dim=12, depth=2, heads=3),
        )
    ):
        classifier = random_weights(config, kind, 3)
        save_as(classifier, tmp_path / f"{i}", "huggingface")
        back = load(tmp_path / f"{i}").classifier
        assert (back.config, back.classes, back.policy) == (config, classifier.classes, classifier.policy)
        assert bits(native_tensors(back.module)) == bits(native_tensors(classifier.module))


def test_a_form_that_is_only_read_is_refused_by_name(tmp_path: Path) -> None:
    plain = ViTConfig(image_size=(8, 8), patch=4, classes=3, dim=6, depth=2, heads=3)
    with pytest.raises(WeightsError, match="only read"):
        save_as(random_weights(plain, torch.float32, 0), tmp_path / "w.h5", "keras:checkpoint of objects")
    assert not list(tmp_path.iterdir())


def test_what_a_world_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    plain = ViTConfig(image_size=(8, 8), patch=4, classes=3, dim=6, depth=2, heads=3)
    for config, suffix, word in (
        (replace(plain, layer_scale=True), ".npz", "blocks.0.ls1.gamma"),
        (replace(plain, qkv_bias=False), ".ckpt", "blocks.0.attn.qkv.bias"),
        (replace(plain, register_tokens=2), ".h5", "reg_token"),
    ):
        with pytest.raises(WeightsError) as caught:
            save_as(random_weights(config, torch.float32, 0), tmp_path / f"w{suffix}")
        assert (
            word in str(caught.value) or word.replace("bias", "") in str(caught.value) or "missing" in str(caught.value)
        )
        assert not list(tmp_path.iterdir())


def test_numerics_that_the_other_world_lacks_are_said(tmp_path: Path) -> None:
    config = ViTConfig(image_size=(8, 8), patch=4, classes=3, dim=6, depth=2, heads=3, gelu="erf")
    first, names, policy = save_as(random_weights(config, torch.float32, 0), tmp_path / "w.npz")
    assert first == "google computes with gelu tanh, this network with erf: its answers will differ"
    assert names == "the file has no place for the names of 3 classes: name 0, name 1, name 2"
    assert policy.startswith("the file has no place for the policy: squash, crop 1, bicubic, mean 0.5")
    rest = save_as(random_weights(replace(config, gelu="tanh"), torch.float32, 0), tmp_path / "v.npz")
    assert rest == (names, policy)
    (heads,) = save_as(random_weights(config, torch.float32, 0), tmp_path / "w.pth")[2:]
    assert heads.startswith("no tensor shows heads 3")


def test_what_no_tensor_shows_is_said_where_no_config_stands_beside(tmp_path: Path) -> None:
    row = variant("vit_tiny_patch16_224")
    config = replace(row.config, pooling="mean", heads=6, gelu="tanh", classes=2)
    before = Classifier(build(config), config, row.policy, ("a", "b"), {"variant": row.name})
    assert save_as(before, tmp_path / "w.safetensors") == ()
    numerics, *rest = save_as(before, tmp_path / "w.pth")
    hidden = [line for line in rest if line.startswith("no tensor")]
    assert numerics == "timm computes with gelu erf, this network with tanh: its answers will differ"
    assert [line.split(":")[0] for line in hidden] == ["no tensor shows heads 6", "no tensor shows pooling mean"]
    bare = Classifier(build(config), config, row.policy, ("a", "b"))
    assert any("no tensor shows pooling mean" in line for line in save_as(bare, tmp_path / "v.npz"))


def test_a_bias_of_keys_is_left_out_where_the_world_has_none_and_changes_nothing(tmp_path: Path) -> None:
    config = BEiTConfig(image_size=(8, 8), patch=4, classes=3, dim=6, depth=2, heads=3, key_bias=True)
    classifier = random_weights(config, torch.float64, 0)
    line, eps, *_ = save_as(classifier, tmp_path / "w.pth", "huggingface")
    assert "cannot change an answer" in line
    assert eps.startswith("huggingface computes with eps 1e-12")
    back = load(tmp_path / "w.pth", replace(config, key_bias=False), dialect="huggingface").classifier
    pictures = np.random.default_rng(0).standard_normal((2, 3, 8, 8))
    assert np.abs(back.logits(torch.from_numpy(pictures)) - classifier.logits(torch.from_numpy(pictures))).max() < 1e-12
