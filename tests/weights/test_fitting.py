"""Other sizes, channels, classes and starts: each change by a named rule, said in a line, and nothing unasked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vitrail.errors import UsageError, VitrailError, WeightsError
from vitrail.formats import npz, safetensors
from vitrail.formats.stored import Stored, Tensors
from vitrail.models import build
from vitrail.models.configs import BEiTConfig, CCTConfig, ModelConfig, ViTConfig
from vitrail.pictures.predict import Failed, Prediction
from vitrail.weights import adapt, from_tensors, load, native_tensors, save_as
from vitrail.weights.dialects import tables
from vitrail.weights.translate import from_native, read

VIT = ViTConfig(image_size=(32, 32), patch=8, classes=6, dim=24, depth=2, heads=3, gelu="tanh")
BEIT = BEiTConfig(image_size=(32, 32), patch=8, classes=6, dim=24, depth=2, heads=3)
CCT = CCTConfig(image_size=(16, 16), classes=6, dim=24, depth=2, heads=3)
START = replace(BEIT, classes=0, pooling="class", block_bias=False, shared_bias=True)
TABLE = "blocks.1.attn.relative_position_bias_table"
Save = Callable[[Tensors], Path]


def tensors(config: ModelConfig, seed: int = 0) -> Tensors:
    """Every tensor random, also those that start as zeros."""
    generator = np.random.default_rng(seed)
    names = native_tensors(build(config))
    return {name: Stored.of(generator.standard_normal(t.shape, np.float32)) for name, t in names.items()}


def google(config: ViTConfig) -> Tensors:
    return from_native(tables("google")[0], tensors(config), config)


@pytest.fixture
def saved(tmp_path: Path) -> Save:
    def write(stored: Tensors) -> Path:
        safetensors.write(tmp_path / "w.safetensors", stored)
        return tmp_path / "w.safetensors"

    return write


def values(loaded: object, name: str) -> np.ndarray:
    return native_tensors(loaded.classifier.module)[name].array()  # type: ignore[attr-defined]


# sizes


@pytest.mark.parametrize(
    ("config", "dialect", "method"),
    [
        (VIT, "timm", "bicubic_antialias"),
        (VIT, "google", "zoom"),
        (VIT, "huggingface", "bicubic"),
        (CCT, "shi_labs", "bilinear"),
    ],
)
def test_positions_are_fitted_by_the_way_of_their_world(
    saved: Save, config: ModelConfig, dialect: str, method: str
) -> None:
    native = tensors(config)
    name = "pos_embed" if isinstance(config, ViTConfig) else "classifier.positional_emb"
    theirs = from_native(tables(dialect)[0], native, config)
    loaded = load(saved(theirs), config, image_size=(48, 64))
    old, new = config.grid, replace(config, image_size=(48, 64)).grid
    assert f"{name} {old[0]}x{old[1]} -> {new[0]}x{new[1]} {method}" in loaded.report
    prefix = int(isinstance(config, ViTConfig))
    wanted = adapt.positions(native[name].array(), old=old, new=new, prefix=prefix, method=method)  # type: ignore[arg-type]
    assert np.array_equal(values(loaded, name), wanted)
    assert loaded.classifier.config.image_size == loaded.classifier.policy.size == (48, 64)
    for other, tensor in native.items():
        assert other == name or np.array_equal(values(loaded, other), tensor.array())


@pytest.mark.parametrize(("dialect", "method"), [("timm", "linear"), ("unilm", "cubic"), ("huggingface", "bilinear")])
def test_tables_of_relative_positions_are_fitted_by_the_way_of_their_world(
    saved: Save, dialect: str, method: str
) -> None:
    native = tensors(BEIT)
    theirs = from_native(tables(dialect, "beit")[0], native, BEIT)
    loaded = load(saved(theirs), BEIT, dialect=dialect, image_size=48)
    assert f"2 tables of relative positions 4x4 -> 6x6 {method}" in loaded.report
    wanted = adapt.relative_table(native[TABLE].array(), old=(4, 4), new=(6, 6), method=method)  # type: ignore[arg-type]
    assert np.array_equal(values(loaded, TABLE), wanted)


def test_another_way_of_fitting_is_a_named_choice(saved: Save) -> None:
    path = saved(google(VIT))
    assert "pos_embed 4x4 -> 6x6 bilinear" in load(path, image_size=48, positions="bilinear").report
    lines = load(saved(tensors(BEIT)), BEIT, image_size=48, positions="cubic").report
    assert "2 tables of relative positions 4x4 -> 6x6 cubic" in lines
    with pytest.raises(UsageError, match="bicube"):
        load(path, image_size=48, positions="bicube")


def test_nothing_is_fitted_unasked_and_an_odd_size_is_refused(saved: Save) -> None:
    path = saved(tensors(VIT))
    with pytest.raises(WeightsError) as caught:
        load(path, replace(VIT, image_size=(48, 48)))
    assert caught.value.code == "V204"
    assert "pos_embed" in str(caught.value)
    with pytest.raises(UsageError, match="as asked") as refused:
        load(path, VIT, image_size=50)
    assert "48 or 56" in str(refused.value)
    for size in (0, -8, (32,), "32", (32, 32, 3)):
        with pytest.raises(UsageError):
            load(path, VIT, image_size=size)  # type: ignore[arg-type]


def test_a_network_that_is_no_variant_is_fitted_from_its_own_square_grid(saved: Save) -> None:
    loaded = load(saved(google(VIT)), image_size=(64, 32), classes=2)
    assert "pos_embed 4x4 -> 8x4 zoom" in loaded.report
    assert loaded.classifier.config == replace(VIT, image_size=(64, 32), classes=2)


def test_the_types_of_tensors_survive_fitting() -> None:
    for kind in (torch.float64, torch.float16, torch.bfloat16):
        state = {name: tensor.to(kind) for name, tensor in build(VIT, seed=2).state_dict().items()}
        after = from_tensors(state, VIT, image_size=48)
        assert {tensor.dtype for tensor in after.module.state_dict().values()} == {kind}


# channels


@pytest.mark.parametrize(
    ("config", "name"), [(VIT, "patch_embed.proj.weight"), (CCT, "tokenizer.conv_layers.0.0.weight")]
)
@pytest.mark.parametrize("count", [1, 6])
def test_channels_are_fitted_so_that_grey_pictures_get_the_same_answer(
    saved: Save, config: ModelConfig, name: str, count: int
) -> None:
    native = tensors(config)
    loaded = load(saved(native), config, channels=count)
    assert any(line.startswith(f"{name} 3 -> {count} channels") for line in loaded.report)
    assert loaded.classifier.policy.channels == count
    before = from_tensors(native, config)
    grey = np.random.default_rng(1).standard_normal((2, 1, *config.image_size)).astype(np.float32)
    one, other = (c.logits(np.repeat(grey, c.config.channels, axis=1)) for c in (before, loaded.classifier))
    assert np.abs(one - other).max() <= 1e-4 * np.abs(one).max()


# heads and starts


def test_the_first_rows_of_a_head_are_kept_as_an_old_recipe_did(saved: Save) -> None:
    native = tensors(VIT)
    loaded = load(saved(native), VIT, classes=("x", "y"), head="first-k")
    assert "head cut to the first 2 of its 6 rows" in loaded.report
    assert np.array_equal(values(loaded, "head.weight"), native["head.weight"].array()[:2])
    assert loaded.classifier.classes == ("x", "y")
    with pytest.raises(WeightsError, match="6 rows"):
        load(saved(native), VIT, classes=7, head="first-k")


def test_a_tanh_layer_goes_with_the_head_that_it_belonged_to(tmp_path: Path) -> None:
    config = replace(VIT, pre_logits=24)
    npz.write(tmp_path / "w.npz", google(config))
    whole = load(tmp_path / "w.npz")
    assert whole.classifier.config == config
    start = load(tmp_path / "w.npz", classes=3)
    assert "pre_logits.fc.weight, pre_logits.fc.bias dropped: the layer belongs to the old head" in start.report
    assert "head replaced by zeros: the file has 6 classes, wanted are 3" in start.report
    assert start.classifier.config == replace(VIT, classes=3)


def test_a_tanh_layer_stays_where_the_head_stays(tmp_path: Path) -> None:
    config = replace(VIT, pre_logits=24)
    npz.write(tmp_path / "w.npz", google(config))
    assert load(tmp_path / "w.npz", classes=6).classifier.config == config
    assert load(tmp_path / "w.npz", classes=6, head="keep").classifier.config == config
    assert load(tmp_path / "w.npz", classes=6, head="first-k").classifier.config == config
    assert load(tmp_path / "w.npz", classes=0).classifier.config == replace(config, classes=0)
    whole = load(tmp_path / "w.npz", classes=tuple("abcdef")).classifier
    save_as(whole, tmp_path / "named.safetensors")
    turned = load(tmp_path / "named.safetensors", classes=tuple("fedcba")).classifier
    assert turned.config == config
    assert np.array_equal(turned.module.head.weight.detach(), whole.module.head.weight.detach().flip(0))
    other = load(tmp_path / "named.safetensors", classes=tuple("uvwxyz"))
    assert other.classifier.config == VIT
    assert not values(other, "head.weight").any()


def test_a_pre_trained_beit_is_a_start_by_named_rules(saved: Save) -> None:
    native = tensors(START)
    extra = {"mask_token": native["cls_token"], "lm_head.weight": Stored.of(np.ones((9, 24), np.float32))}
    path = saved(native | extra)
    features = load(path)  # without classes: as it is, without a head
    assert features.classifier.config == START
    assert any("mask_token dropped" in line for line in features.report)
    assert any("lm_head.weight dropped" in line for line in features.report)
    for model in (None, replace(BEIT, classes=3)):
        start = load(path, model, classes=3)
        assert start.classifier.config == replace(BEIT, classes=3)
        assert "rel_pos_bias.relative_position_bias_table copied to each of 2 blocks" in start.report
        assert any(line.startswith("norm dropped, fc_norm made") for line in start.report)
        assert "head made of zeros for 3 classes: the file has none" in start.report
        assert np.array_equal(values(start, TABLE), native["rel_pos_bias.relative_position_bias_table"].array())
        assert values(start, "fc_norm.weight").tolist() == [1.0] * 24


def test_without_a_head_asked_for_a_start_does_not_fit(saved: Save) -> None:
    with pytest.raises(WeightsError) as caught:
        load(saved(tensors(START)), BEIT)
    assert caught.value.code == "V204"


def test_a_network_without_a_head_gives_its_features(saved: Save) -> None:
    native = tensors(VIT)
    bare = {name: tensor for name, tensor in native.items() if not name.startswith("head.")}
    loaded = load(saved(bare), replace(VIT, classes=0))
    pictures = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    assert loaded.classifier.logits(pictures).shape == (2, 24)
    assert np.array_equal(loaded.classifier.logits(pictures), loaded.classifier.features(pictures))
    dropped = load(saved(native), VIT, classes=0)
    assert "head dropped: 0 classes are wanted" in dropped.report
    assert np.array_equal(dropped.classifier.logits(pictures), loaded.classifier.logits(pictures))


# what the layout shows and the config says


def test_heads_that_the_layout_shows_must_be_the_configs() -> None:
    with pytest.raises(WeightsError, match="3 heads in the file, 4 in"):
        from_tensors(google(VIT), replace(VIT, heads=4), dialect="google")


def test_an_index_that_was_changed_is_found(saved: Save) -> None:
    theirs = from_native(tables("unilm")[0], tensors(BEIT), BEIT)
    name = "blocks.0.attn.relative_position_index"
    assert theirs[name].dtype == "I64"
    load(saved(theirs), BEIT)
    wrong = theirs[name].array().copy()
    wrong[3, 4] += 1
    with pytest.raises(WeightsError, match="relative_position_index"):
        load(saved(theirs | {name: Stored.of(wrong)}), BEIT)


@pytest.mark.parametrize("dialect", ["unilm", "mindspore:beit"])
def test_a_file_with_an_index_is_fitted_too(saved: Save, dialect: str) -> None:
    theirs = from_native(tables(dialect, "beit")[0], tensors(BEIT), BEIT)
    loaded = load(saved(theirs), BEIT, dialect=dialect, image_size=(48, 32))
    assert "2 tables of relative positions 4x4 -> 6x4 cubic" in loaded.report


def test_what_a_file_states_goes_before_what_its_world_does(tmp_path: Path) -> None:
    from vitrail.models.catalog import variant
    from vitrail.models.classifier import Classifier

    row = variant("vit_tiny_patch16_224")
    config = replace(row.config, gelu="quick", eps=1e-4, classes=2)
    before = Classifier(build(config), config, row.policy, ("a", "b"))
    for name in ("w.safetensors", "folder"):
        save_as(before, tmp_path / name, "huggingface")
        loaded = load(tmp_path / name, row.name, classes=2)
        assert (loaded.classifier.config.gelu, loaded.classifier.config.eps) == ("quick", 1e-4)
        assert any(line == "stated in the file: gelu quick, eps 0.0001" for line in loaded.report), loaded.report


def test_a_named_variant_takes_the_numerics_of_the_world_and_a_config_does_not() -> None:
    row = from_tensors(google_of("vit_tiny_patch16_224"), "vit_tiny_patch16_224", dialect="google")
    assert (row.config.gelu, row.config.eps) == ("tanh", 1e-6)
    config = replace(row.config, gelu="erf")
    assert from_tensors(google_of("vit_tiny_patch16_224"), config, dialect="google").config.gelu == "erf"


def google_of(name: str) -> Tensors:
    from vitrail.models.catalog import variant

    config = variant(name).config
    assert isinstance(config, ViTConfig)
    return google(config)


# what a reviewer found


@pytest.mark.parametrize("config", [VIT, BEIT, CCT])
def test_a_grid_of_as_many_cells_but_other_sides_is_fitted_too(saved: Save, config: ModelConfig) -> None:
    wide, tall = ((16, 32), (32, 16)) if isinstance(config, CCTConfig) else ((16, 64), (64, 16))
    own = replace(config, image_size=wide)
    native = tensors(own)
    loaded = load(saved(native), own, image_size=tall)
    old, new = ("x".join(map(str, replace(config, image_size=size).grid)) for size in (wide, tall))
    assert any(f"{old} -> {new}" in line for line in loaded.report)
    assert from_tensors(native, own, image_size=config.image_size).config.image_size == config.image_size


def test_rows_of_a_cut_head_keep_their_names(tmp_path: Path) -> None:
    classifier = from_tensors(tensors(VIT), VIT)
    named = replace(classifier, classes=tuple("abcdef"))
    save_as(named, tmp_path / "w.safetensors")
    weight = named.module.head.weight.detach()
    some = load(tmp_path / "w.safetensors", classes=("c", "a"), head="first-k").classifier
    assert np.array_equal(some.module.head.weight.detach(), weight[[2, 0]])
    first = load(tmp_path / "w.safetensors", classes=3, head="first-k").classifier
    assert first.classes == ("a", "b", "c")
    start = load(tmp_path / "w.safetensors", classes=("x", "y"), head="first-k").classifier
    assert np.array_equal(start.module.head.weight.detach(), weight[:2])


def test_rows_that_stay_keep_the_layer_before_them(tmp_path: Path) -> None:
    config = replace(VIT, pre_logits=24)
    npz.write(tmp_path / "w.npz", google(config))
    cut = load(tmp_path / "w.npz", classes=2, head="first-k").classifier
    assert cut.config == replace(config, classes=2)
    pictures = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    whole = load(tmp_path / "w.npz").classifier
    assert np.allclose(cut.logits(pictures), whole.logits(pictures)[:, :2], atol=1e-6)


def test_two_layers_of_a_keras_checkpoint_are_never_taken_for_one() -> None:
    (table,) = (table for table in tables("keras") if table.rename)
    names = {f"layer_with_weights-{i}/{k}/.ATTRIBUTES/VARIABLE_VALUE" for i in (4, 5, 6, 7) for k in ("kernel", "bias")}
    names |= {"layer_with_weights-3/att/query_dense/kernel/.ATTRIBUTES/VARIABLE_VALUE"}
    names |= {"layer_with_weights-2/embedding/kernel/.ATTRIBUTES/VARIABLE_VALUE"}
    names |= {"layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE"}
    stored = {name: Stored("F32", (1,), bytes(4)) for name in names}
    found = read(table, stored, values=False)
    assert {name for name in names if "-2/" in name or "-7/" in name or "-6/" in name} <= set(found.unexplained)


@pytest.mark.parametrize("config", [VIT, CCT])
def test_networks_of_four_channels_are_saved_opened_and_asked(tmp_path: Path, config: ModelConfig) -> None:
    wide = replace(config, channels=4)
    classifier = from_tensors(tensors(wide), wide)
    save_as(classifier, tmp_path / "w.safetensors")
    opened = load(tmp_path / "w.safetensors").classifier
    assert (opened.config, opened.policy.channels) == (wide, 4)
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, 4), np.uint8)
    (answer,) = opened.predict([picture])
    assert isinstance(answer, Prediction) and len(answer.classes) == 5
    (refused,) = opened.predict([picture[:, :, :3]])
    assert isinstance(refused, Failed) and refused.error.code == "V305"


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: from_tensors({}, VIT), WeightsError),
        (lambda: from_tensors({3: np.ones(2)}, VIT), UsageError),  # type: ignore[dict-item]
        (lambda: from_tensors([np.ones(2)], VIT), UsageError),  # type: ignore[arg-type]
        (lambda: from_tensors({"head.bias": np.ones(2, np.complex64)}, VIT), WeightsError),
        (lambda: from_tensors({"head.bias": torch.ones(2, device="meta")}, VIT), WeightsError),
        (lambda: from_tensors({"head.bias": torch.ones(2, 2).to_sparse()}, VIT), WeightsError),
        (lambda: from_tensors({"head.bias": [[1], [1, 2]]}, VIT), WeightsError),  # type: ignore[dict-item]
        (lambda: from_tensors(tensors(VIT), 3), UsageError),  # type: ignore[arg-type]
        (lambda: from_tensors(tensors(VIT), VIT, dialect=3), WeightsError),  # type: ignore[arg-type]
        (lambda: from_tensors(tensors(VIT), VIT, dialect="google:"), WeightsError),
        (lambda: from_tensors(tensors(VIT), VIT, dialect="native:x"), WeightsError),
        (lambda: from_tensors(tensors(VIT), VIT, dialect=Path("none.yaml")), VitrailError),
    ],
)
def test_odd_arguments_are_refused_by_name(call: Callable[[], object], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        call()
