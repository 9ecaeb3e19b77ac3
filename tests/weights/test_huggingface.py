"""Folders of transformers: what they say of a network and of pictures, and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.class_names.numbered import numbered
from vitrail.errors import WeightsError
from vitrail.models.configs import BEiTConfig, CCTConfig, ModelConfig, ViTConfig
from vitrail.pictures.policy import HALF, IMAGENET, Policy
from vitrail.weights.huggingface import CONFIG, PROCESSOR, config_of, states_policy, write_config
from vitrail.weights.saved import Saved

TINY: dict[str, Any] = {
    "image_size": (32, 32), "classes": 10, "patch": 8, "dim": 32, "depth": 2, "heads": 4, "mlp_ratio": 2.0,
    "eps": 1e-12,
}  # fmt: skip
BEIT: dict[str, Any] = TINY | {"block_bias": False, "drop_path": 0.1}
REFERENCE: dict[str, ModelConfig] = {
    "hf_vit_tiny": ViTConfig(**TINY),
    "hf_vit_tiny_noqkvbias_gelunew": ViTConfig(**TINY | {"eps": 1e-6}, channels=1, qkv_bias=False, gelu="tanh"),
    "hf_beit_tiny_relpos_mean": BEiTConfig(**BEIT | {"block_bias": True}),
    "hf_beit_tiny_shared_mean": BEiTConfig(**BEIT, shared_bias=True),
    "hf_beit_tiny_abs_nomean": BEiTConfig(**BEIT, absolute_positions=True, pooling="class", layer_scale=False),
}


@pytest.mark.parametrize("name", REFERENCE)
def test_a_folder_that_transformers_wrote_gives_its_config(name: str, shared: Path) -> None:
    folder = shared / "reference" / "files" / name
    saved = config_of(folder)
    assert saved is not None
    assert saved.config == REFERENCE[name]
    assert saved.classes == numbered(10)
    assert saved.dialect == "huggingface"
    assert (saved.policy.size, saved.policy.mode, saved.policy.channels) == ((32, 32), "squash", saved.config.channels)
    assert not states_policy(folder)


def folder_of(place: Path, config: dict[str, object], processor: dict[str, object] | None = None) -> Path:
    (place / CONFIG).write_text(json.dumps(config))
    if processor is not None:
        (place / PROCESSOR).write_text(json.dumps(processor))
    return place


def opened(folder: Path) -> Saved:
    saved = config_of(folder)
    assert saved is not None
    return saved


def back(folder: Path, config: ModelConfig, policy: Policy, classes: tuple[str, ...]) -> Saved:
    for name, text in write_config(config, policy, classes).items():
        (folder / name).write_text(text)
    assert states_policy(folder)
    return opened(folder)


def squashed(config: ModelConfig) -> Policy:
    return Policy(
        size=config.image_size, mode="squash", mean=HALF.mean[: config.channels], std=HALF.std[: config.channels]
    )


side = st.integers(1, 6).map(lambda n: 8 * n)
common = {
    "channels": st.sampled_from([1, 3]),
    "patch": st.sampled_from([4, 8]),
    "dim": st.integers(1, 40).map(lambda n: 4 * n),
    "depth": st.integers(1, 12),
    "heads": st.sampled_from([1, 2, 4]),
    "mlp_ratio": st.floats(0.5, 8, width=16),
    "gelu": st.sampled_from(["erf", "tanh", "quick"]),
    "eps": st.sampled_from([1e-12, 1e-6, 1e-5]),
    "dropout": st.sampled_from([0.0, 0.1]),
    "attention_dropout": st.sampled_from([0.0, 0.25]),
}
vits = st.builds(
    ViTConfig, image_size=st.tuples(side, side), classes=st.integers(0, 5), qkv_bias=st.booleans(), **common
)
bodies = st.builds(
    ViTConfig, image_size=st.tuples(side, side), classes=st.just(0), pre_logits=st.integers(1, 9), **common
)
beits = st.builds(
    BEiTConfig, image_size=side.map(lambda n: (n, n)), classes=st.integers(0, 5), absolute_positions=st.booleans(),
    block_bias=st.booleans(), shared_bias=st.booleans(), layer_scale=st.booleans(),
    drop_path=st.sampled_from([0.0, 0.2]), pooling=st.sampled_from(["mean", "class"]), **common,
)  # fmt: skip


@settings(max_examples=50)
@given(vits | bodies | beits)
def test_a_config_written_and_read_is_the_same(tmp_path_factory: pytest.TempPathFactory, config: Any) -> None:
    classes = tuple(f"name {i}" for i in range(config.classes))
    saved = back(tmp_path_factory.mktemp("hf"), config, squashed(config), classes)
    assert isinstance(saved.config, ViTConfig | BEiTConfig)
    assert saved.config.hidden == config.hidden
    assert replace(saved.config, mlp_ratio=config.mlp_ratio) == config
    assert (saved.policy, saved.classes) == (squashed(config), classes)


policies = st.builds(
    Policy,
    size=st.tuples(side, side),
    mode=st.sampled_from(["squash", "crop", "pad"]),
    crop=st.floats(0.5, 1.0),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    mean=st.just(IMAGENET.mean),
    std=st.just(IMAGENET.std),
)


@settings(max_examples=50)
@given(policies, st.integers(1, 300), st.integers(1, 300))
def test_a_policy_written_and_read_prepares_pictures_alike(
    tmp_path_factory: pytest.TempPathFactory, policy: Policy, height: int, width: int
) -> None:
    config = ViTConfig(**TINY | {"image_size": policy.size})
    try:
        saved = back(tmp_path_factory.mktemp("hf"), config, policy, numbered(10))
    except WeightsError as error:
        assert error.code == "V204"
        assert any(word in line for line in error.evidence for word in ("one pixel beside", "mode crop", "mode pad"))
        return
    assert saved.policy._resized(height, width) == policy._resized(height, width)
    assert replace(saved.policy, crop=policy.crop) == policy


VIT: dict[str, object] = {"model_type": "vit", "architectures": ["ViTForImageClassification"]}


def test_what_is_not_written_is_the_default_of_transformers(tmp_path: Path) -> None:
    saved = opened(folder_of(tmp_path, VIT))
    assert saved.config == ViTConfig(image_size=(224, 224), eps=1e-12, classes=2)
    assert saved.policy == Policy(
        size=(224, 224), mode="squash", interpolation="bilinear", mean=HALF.mean, std=HALF.std
    )


def test_labels_name_the_classes_in_order_of_their_numbers(tmp_path: Path) -> None:
    labels = {"10": "k", **{str(i): name for i, name in enumerate("abcdefghij")}}
    assert opened(folder_of(tmp_path, VIT | {"id2label": labels})).classes == tuple("abcdefghijk")
    assert opened(folder_of(tmp_path, VIT | {"id2label": {}})).classes == ()
    assert opened(folder_of(tmp_path, VIT | {"id2label": None, "num_labels": 3})).classes == numbered(3)
    text = json.loads(write_config(ViTConfig(**TINY | {"classes": 2}), squashed(ViTConfig(**TINY)), ("b", "a"))[CONFIG])
    assert text["id2label"] == {"0": "b", "1": "a"} and text["label2id"] == {"b": 0, "a": 1}


FORMS = [("gelu", "erf"), ("gelu_new", "tanh"), ("gelu_pytorch_tanh", "tanh"), ("quick_gelu", "quick")]


@pytest.mark.parametrize(("word", "gelu"), FORMS)
def test_the_form_of_gelu_has_a_name(word: str, gelu: str, tmp_path: Path) -> None:
    config = opened(folder_of(tmp_path, VIT | {"hidden_act": word})).config
    assert isinstance(config, ViTConfig) and config.gelu == gelu


def test_a_body_answers_with_its_pooler(tmp_path: Path) -> None:
    config = opened(folder_of(tmp_path, {"model_type": "vit", "architectures": ["ViTModel"]})).config
    assert isinstance(config, ViTConfig) and (config.classes, config.pre_logits) == (0, 768)
    body = {"model_type": "vit", "architectures": ["ViTModel"], "pooler_output_size": 32}
    config = opened(folder_of(tmp_path, body)).config
    assert isinstance(config, ViTConfig) and config.pre_logits == 32


def test_a_folder_without_a_config_of_transformers_says_nothing(tmp_path: Path) -> None:
    assert config_of(tmp_path) is None
    assert config_of(folder_of(tmp_path, {"architecture": "vit_base_patch16_224", "num_classes": 1000})) is None


UNKNOWN: list[tuple[dict[str, object], str]] = [
    ({"model_type": "deit"}, "model_type: `deit`"),
    ({"model_type": ["vit"]}, "model_type: "),
    ({"hidden_act": "relu"}, "hidden_act: `relu`"),
    ({"hidden_act": 3}, "hidden_act: 3 is not of the kind"),
    ({"architectures": ["ViTForMaskedImageModeling"]}, "architectures: `ViTForMaskedImageModeling`"),
    ({"patch_size": [8, 16]}, "patch_size: 8 x 16 is not square"),
    ({"patch_size": "16"}, "patch_size: "),
    ({"image_size": [224, 224, 3]}, "image_size: "),
    ({"image_size": 10**30}, "image_size: "),
    ({"image_size": 225}, "the height 225 is no multiple of the patch"),
    ({"hidden_size": 0}, "hidden_size: 0"),
    ({"hidden_size": 770}, "head_dim: 64 times 12 heads is not hidden_size 770"),
    ({"head_dim": 32}, "head_dim: 32 times 12 heads"),
    ({"layer_norm_eps": "1e-6"}, "layer_norm_eps: "),
    ({"layer_norm_eps": 10**400}, "layer_norm_eps: "),
    ({"qkv_bias": 1}, "qkv_bias: 1 is not of the kind of True"),
    ({"pruned_heads": {"0": [1]}}, "pruned_heads: "),
    ({"auto_map": {"AutoModel": "modeling.Net"}}, "auto_map: "),
    ({"quantization_config": {"bits": 4}}, "quantization_config: "),
    ({"id2label": {"0": "a", "2": "b"}}, "id2label: does not hold a name for each of 0 to 1"),
    ({"id2label": {"0": 1}}, "id2label: "),
    ({"architectures": ["ViTModel"], "pooler_act": "relu"}, "pooler_act: `relu` is not tanh"),
]


@pytest.mark.parametrize(("values", "said"), UNKNOWN)
def test_what_would_change_the_answer_is_refused_by_name(values: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        config_of(folder_of(tmp_path, VIT | values))
    assert caught.value.code == "V205"
    assert any(line.startswith(said) or said in line for line in caught.value.evidence)


def test_a_BEiT_on_pictures_that_are_not_square_is_refused_both_ways(tmp_path: Path) -> None:
    values: dict[str, object] = {"model_type": "beit", "image_size": [32, 64], "use_relative_position_bias": True}
    with pytest.raises(WeightsError) as caught:
        config_of(folder_of(tmp_path, values))
    assert "use_relative_position_bias at 32 x 64" in caught.value.evidence[0]
    config = BEiTConfig(**TINY | {"image_size": (32, 64)}, absolute_positions=True)
    with pytest.raises(WeightsError) as caught:
        write_config(config, squashed(config), numbered(10))
    assert [line.split()[0] for line in caught.value.evidence] == [
        "use_absolute_position_embeddings", "use_relative_position_bias",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "[1]", '{"a": 1, "a": 2}', '{"a": NaN}', "{" * 2000])
def test_damaged_json_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(WeightsError) as caught:
        config_of(tmp_path)
    assert caught.value.code == "V201"


KEYS = (
    "hidden_size", "num_attention_heads", "image_size", "patch_size", "id2label", "num_labels", "architectures",
    "layer_norm_eps", "head_dim", "intermediate_size", "layer_scale_init_value", "num_channels",
)  # fmt: skip
anything = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(KEYS), anything))
def test_any_config_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, values: dict[str, object]) -> None:
    for kind in ("vit", "beit"):
        try:
            config_of(folder_of(tmp_path_factory.mktemp("any"), {"model_type": kind} | values))
        except WeightsError as error:
            assert error.code in ("V201", "V205")


OLD: dict[str, object] = {
    "do_normalize": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "size": 224,
}  # fmt: skip
PREPARED: list[tuple[dict[str, object], str, int, str]] = [  # what the file says, mode, size before the cut, filter
    ({}, "squash", 224, "bilinear"),
    ({"feature_extractor_type": "ViTFeatureExtractor", "resample": 3}, "squash", 224, "bicubic"),
    ({"size": {"height": 224, "width": 224}, "image_processor_type": "ViTImageProcessorFast"},
     "squash", 224, "bilinear"),
    ({"image_processor_type": "BeitImageProcessor", "do_center_crop": False, "resample": 2},
     "squash", 224, "bilinear"),
    ({"image_processor_type": "BeitImageProcessor", "do_center_crop": True, "crop_size": 224, "size": 256},
     "squash", 256, "bicubic"),
    ({"feature_extractor_type": "DeiTFeatureExtractor", "size": 256}, "squash", 256, "bicubic"),
    ({"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 256}}, "crop", 256, "bicubic"),
    ({"image_processor_type": "CLIPImageProcessor"}, "crop", 224, "bicubic"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "mode", "resized", "filter_name"), PREPARED)
def test_processors_as_policies(
    values: dict[str, object], mode: str, resized: int, filter_name: str, tmp_path: Path
) -> None:
    policy = opened(folder_of(tmp_path, VIT, OLD | values)).policy
    assert (policy.size, policy.mode, policy.interpolation) == ((224, 224), mode, filter_name)
    assert (policy.mean, policy.std) == HALF
    assert policy._resized(300, 300) == (resized, resized)


def test_scales_are_taken_into_mean_and_deviation(tmp_path: Path) -> None:
    policy = opened(folder_of(tmp_path, VIT, OLD | {"rescale_factor": 1 / 127.5})).policy
    assert policy.mean == (0.25, 0.25, 0.25) and policy.std == (0.25, 0.25, 0.25)
    policy = opened(folder_of(tmp_path, VIT, OLD | {"do_rescale": False, "do_normalize": False})).policy
    assert policy.mean == (0.0, 0.0, 0.0) and policy.table()[0, 255] == 255
    policy = opened(folder_of(tmp_path, VIT, OLD | {"rescale_factor": 0.00392156862745098})).policy
    assert policy.mean == HALF.mean


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"image_processor_type": "ConvNextImageProcessor"}, "image_processor_type: `ConvNext`"),
    ({"do_resize": False}, "do_resize: False"),
    ({"do_resize": "yes"}, "do_resize: 'yes' is not true or false"),
    ({"resample": 9}, "resample: 9"),
    ({"resample": [2]}, "resample: [2]"),
    ({"size": {"shortest_edge": 224}}, "size: the shortest edge alone"),
    ({"size": {"shortest_edge": 224, "longest_edge": 300}}, "size: "),
    ({"size": 0}, "size: 0"),
    ({"size": 256}, "size: pictures of 256 x 256 for a network of 224 x 224"),
    ({"do_center_crop": True, "size": 256}, "crop_size: None"),
    ({"do_center_crop": True, "size": 227, "crop_size": 224}, "crop_size: 224 x 224 is cut out of 227 x 227"),
    ({"do_center_crop": True, "size": 200, "crop_size": 224}, "crop_size: 224 x 224 of 200 x 200"),
    ({"do_center_crop": True, "size": [256, 224], "crop_size": 224}, "crop_size: 224 x 224 of 256 x 224"),
    ({"do_pad": True}, "do_pad: True: it is not known what it does"),
    ({"image_mean": [0.5]}, "image_mean: 1 values for 3 channels"),
    ({"image_mean": ["a", 1, 2]}, "image_mean: "),
    ({"image_std": [0, 1, 1]}, "std [0.0, 1.0, 1.0] is not finite and above 0"),
    ({"rescale_factor": -1}, "rescale_factor: -1"),
    ({"rescale_factor": 10**400}, "rescale_factor: "),
    ({"image_processor_type": "BeitImageProcessor", "size": None}, "do_center_crop: is missing"),
]


@pytest.mark.parametrize(("values", "said"), REFUSED)
def test_a_preparation_that_no_policy_says_is_refused_by_name(
    values: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError) as caught:
        config_of(folder_of(tmp_path, VIT, OLD | values))
    assert caught.value.code == "V205"
    assert any(line.startswith(said) for line in caught.value.evidence)


NOT_THERE: list[tuple[dict[str, Any], str]] = [
    ({"stem": "resnet", "patch": 1}, "stem 'resnet'"),
    ({"class_token": False, "pooling": "mean"}, "class_token False"),
    ({"distilled": True}, "distilled True"),
    ({"register_tokens": 4}, "register_tokens 4"),
    ({"class_position": False}, "class_position False"),
    ({"pre_norm": True}, "pre_norm True"),
    ({"layer_scale": True}, "layer_scale True"),
    ({"pooling": "mean", "fc_norm": True}, "fc_norm True"),
    ({"pooling": "mean"}, "pooling 'mean'"),
    ({"pre_logits": 32}, "pre_logits 32"),
]


@pytest.mark.parametrize(("fields", "said"), NOT_THERE)
def test_networks_that_transformers_has_not_are_not_written(fields: dict[str, Any], said: str) -> None:
    config = ViTConfig(**TINY | fields)
    with pytest.raises(WeightsError) as caught:
        write_config(config, squashed(config), numbered(10))
    assert caught.value.code == "V204"
    assert any(line.startswith(said) for line in caught.value.evidence)


def test_other_families_and_policies_are_not_written() -> None:
    cct = CCTConfig(image_size=(32, 32), classes=10)
    with pytest.raises(WeightsError, match="no such network") as caught:
        write_config(cct, squashed(cct), numbered(10))
    assert caught.value.evidence == ("family cct: transformers has no CCT",)
    vit = ViTConfig(**TINY)
    for policy, said in [
        (replace(squashed(vit), interpolation="box"), "policy interpolation box"),
        (replace(squashed(vit), size=(24, 24)), "policy size 24 x 24"),
    ]:
        with pytest.raises(WeightsError) as caught:
            write_config(vit, policy, numbered(10))
        assert caught.value.evidence[0].startswith(said)


def test_a_network_of_pre_training_pools_nothing_whatever_its_config_says(shared: Path, tmp_path: Path) -> None:
    values = json.loads((shared / "reference" / "files" / "hf_beit_tiny_shared_mean" / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(values | {"architectures": ["BeitForMaskedImageModeling"]}))
    saved = config_of(tmp_path)
    assert saved is not None and isinstance(saved.config, BEiTConfig)
    assert (saved.config.pooling, saved.config.shared_bias, saved.config.classes) == ("class", True, 0)
