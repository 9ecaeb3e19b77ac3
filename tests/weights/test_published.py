"""Published rows: every one makes a network of the listed size, and those that everybody knows are right."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from vitrail.errors import WeightsError
from vitrail.formats import safetensors
from vitrail.models.catalog import VARIANTS, variant
from vitrail.models.configs import BEiTConfig, ViTConfig
from vitrail.models.count import parameters, shapes
from vitrail.pictures.policy import HALF, IMAGENET
from vitrail.remote import How, place
from vitrail.remote.hub import hub_place
from vitrail.remote.web import refused
from vitrail.weights import published as module
from vitrail.weights.published import Published, by_file_name, class_names_of, names, of_hub, published, with_file_name
from vitrail.weights.published.rows import NOT_PUBLISHED

ROWS = [published(name) for name in names()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_makes_a_network_and_can_be_fetched(row: Published) -> None:
    for whose in ("trained", "timm"):
        config = row.config(whose)  # type: ignore[arg-type]
        assert config.problems() == [] and config.classes == row.count
        assert config.image_size == row.policy.size
    assert row.policy.problems() == []
    assert len(class_names_of(row)) == row.count
    assert row.dialect in ("google", "timm", "huggingface", "shi_labs", "unilm")
    assert row.licence in ("Apache-2.0", "MIT") and row.source
    if row.url.startswith("hf:"):
        assert hub_place(row.url.removeprefix("hf:"))
    else:
        assert refused(row.url, How()) == "" and place(row.url).name == row.file_name
        assert row.pull_only == row.file_name.endswith(".zip")
    assert all(0 < one.top1 <= 100 and (one.top5 is None or one.top1 < one.top5 <= 100) for one in row.measured)


def test_listed_sizes_are_those_of_our_networks() -> None:
    """MiB as Google's notebook and README list them, and bytes from a user's log: four bytes a parameter."""
    wrong = {}
    for row in ROWS:
        listed = row.mib if row.size is None else row.size / 2**20
        if listed is not None:
            ours = 4 * parameters(row.config()) / 2**20
            rounding = 0.0055 * 1024 if listed > 1100 else 0.5 if listed == round(listed) else 0.0
            if abs(listed - ours) > rounding + 0.0005 * ours + 0.05:
                wrong[row.name] = (listed, round(ours, 2))
    assert wrong == {"vit_small_patch16_224.sam_in1k": (252.57, 84.12)}  # three times: the optimizer's state too


def test_rows_are_all_there_and_no_file_twice() -> None:
    assert list(names()) == sorted(set(names())) and len(ROWS) == 170
    assert max(Counter(row.url for row in ROWS).values()) == 1
    assert Counter(row.dialect for row in ROWS) == {
        "google": 19 + 10 + 6 + 5 + 6 + 22 + 8, "timm": 2 + 12 + 6, "huggingface": 20, "shi_labs": 32, "unilm": 22,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "file", "top1", "top5"),
    [
        ("vit_base_patch8_224.augreg_in21k_ft_in1k",
         "B_8-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.01-res_224.npz",
         85.838, 97.776),
        ("vit_base_patch16_224.augreg_in21k_ft_in1k",
         "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.01-res_224.npz",
         84.534, 97.300),
        ("vit_base_patch16_384.augreg_in21k_ft_in1k",
         "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.01-res_384.npz",
         86.010, 97.998),
        ("vit_base_patch32_224.augreg_in21k_ft_in1k",
         "B_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03-res_224.npz",
         80.732, 95.574),
        ("vit_base_patch32_384.augreg_in21k_ft_in1k",
         "B_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03-res_384.npz",
         83.358, 96.828),
    ],
)  # fmt: skip
def test_the_five_files_of_timms_base_models(name: str, file: str, top1: float, top5: float) -> None:
    row = published(name)
    assert row.url == f"https://storage.googleapis.com/vit_models/augreg/{file}"
    assert (row.top1, row.top5, row.measured[0].by, row.protocol) == (top1, top5, "timm", "timm")
    assert (row.dialect, row.classes, row.head_valid, row.mirror) == ("google", "imagenet1k", True, f"hf:timm/{name}")
    assert (row.gelu_trained, row.gelu_timm, row.eps) == ("tanh", "erf", 1e-6)
    side = int(name.split(".")[0][-3:])
    assert (row.policy.crop, row.policy.mode, row.policy.interpolation) == (
        0.9 if side == 224 else 1.0,
        "crop",
        "bicubic",
    )
    assert (row.policy.mean, row.policy.std) == HALF
    assert by_file_name(file) is row


def test_numerics_as_trained_and_as_timm_runs_them() -> None:
    plain = published("vit_base_patch16_224.augreg_in21k_ft_in1k")
    assert plain.numerics() == {"gelu": "tanh", "eps": 1e-6} and plain.numerics("timm") == {"gelu": "erf", "eps": 1e-6}
    for name in ("vit_small_r26_s32_224.augreg_in21k", "vit_tiny_r_s16_p8_224.augreg_in21k_ft_in1k"):
        assert published(name).numerics() == {"gelu": "tanh", "eps": 1e-6, "stem_numerics": "google"}
        assert published(name).numerics("timm") == {"gelu": "erf", "eps": 1e-6, "stem_numerics": "timm"}
    assert published("cct_14_7x2_224.in1k").numerics() == {"gelu": "erf"}
    assert published("beit_base_patch16_224.in22k_ft_in22k").numerics() == {"gelu": "erf", "eps": 1e-6}
    assert published("vit_base_patch16_224.hub_in21k_ft_in1k").numerics()["eps"] == 1e-12


def test_originals_of_imagenet21k_have_a_head_of_zeros_and_pre_logits() -> None:
    found = [row for row in ROWS if row.dialect in ("google", "timm") and row.classes == "imagenet21k"]
    zeros = [row for row in found if not row.head_valid]
    assert len(zeros) == 9 + 4 + 5
    for row in found:
        config = row.config()
        assert isinstance(config, ViTConfig)
        assert config.pre_logits == (0 if row.head_valid else config.dim)
        assert row.head_valid == ("augreg" in row.name)
    assert parameters(published("vit_base_patch16_224.google_in21k").config()) == 103_186_515
    assert parameters(published("vit_huge_patch14_224.google_in21k").config()) == 660_385_363


def test_pictures_of_beit_and_beit_2() -> None:
    assert published("beit_base_patch16_224.in22k_ft_in22k").policy.mean == HALF.mean
    assert published("beitv2_base_patch16_224.in1k_ft_in1k").policy.mean == IMAGENET.mean
    crops = {name: published(name).policy.crop for name in names() if name.startswith("beit") and "hub" not in name}
    assert crops["beitv2_large_patch16_224.in1k_ft_in22k_in1k"] == 0.95
    assert crops["beit_large_patch16_512.in22k_ft_in22k_in1k"] == 1.0
    assert crops["beit_base_patch16_224.in22k_ft_in1k"] == 0.875  # unilm's own: timm has no such tag
    shapes_of = shapes(published("beit_base_patch16_224.in22k").config())
    assert shapes_of["rel_pos_bias.relative_position_bias_table"] == (732, 12) and "norm.weight" in shapes_of
    config = published("beit_base_patch16_224.in1k_800e").config()
    assert isinstance(config, BEiTConfig) and config.absolute_positions and not config.layer_scale


def test_the_sine_files_are_opened_with_the_sine_table() -> None:
    for row in ROWS:
        if row.dialect == "shi_labs":
            assert ("sine" in row.variant) == ("sine" in row.url or row.file_name == "cct_7_7x2_224_flowers102.pth")


def test_first_digits_of_hashes_come_from_the_names() -> None:
    found = [row for row in ROWS if row.sha256_prefix]
    assert len(found) == 12
    assert all(re.fullmatch(r"[0-9a-f]{8}", row.sha256_prefix) and row.sha256_prefix in row.url for row in found)


def test_files_of_one_name_are_told_apart_by_what_is_in_them() -> None:
    assert [row.name for row in with_file_name("ViT-B_16.npz")] == [
        "vit_base_patch16_224.google_in21k", "vit_base_patch16_384.google_in21k_ft_in1k",
        "vit_base_patch16_224.sam_in1k",
    ]  # fmt: skip
    assert by_file_name("ViT-B_16.npz") is None
    assert by_file_name("ViT-B_16.npz", classes=21843) is published("vit_base_patch16_224.google_in21k")
    assert by_file_name("ViT-B_16.npz", classes=1000, image_size=224) is published("vit_base_patch16_224.sam_in1k")
    assert by_file_name("vit_base_patch8_224.npz") is None and by_file_name("") is None
    zipped = published("cct_2_3x2_32.cifar10_200e")
    assert by_file_name("cct2-3x2_cifar10.pth.zip") is by_file_name("cct2-3x2_cifar10.pth") is zipped


def test_any_augreg_file_is_known_by_its_grammar() -> None:
    row = by_file_name(
        "B_16-i21k-300ep-lr_0.001-aug_strong2-wd_0.03-do_0.1-sd_0.1--cifar100-steps_10k-lr_0.003-res_384.npz"
    )
    assert row is not None and row.url.endswith("res_384.npz")
    assert (row.variant, row.classes, row.policy.size) == ("vit_base_patch16_384", "cifar100", (384, 384))
    assert row.name not in names() and row.measured == () and row.mirror == ""
    assert row.config().classes == 100
    sized = by_file_name(
        "B_8-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.01-res_384.npz"
    )
    assert sized is not None and sized.config().image_size == (384, 384)
    for other in (
        "B_16.npz",
        "B_16-i21k-300ep.npz",
        "X_9-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0.npz",
        "B_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0--kitti-steps_2k-lr_0.01-res_224.npz",
    ):
        assert by_file_name(other) is None


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("vit_base_patch8_224.augreg_in21k_ft_in1", "known: vit_base_patch8_224.augreg_in21k_ft_in1k"),
        ("vit_base_patch8_244.augreg_in21k_ft_in1k", "did you mean `vit_base_patch8_224.augreg_in21k_ft_in1k`?"),
        ("cct_7_3x1_32_sine", "cct_7_3x1_32_sine.cifar10_1500e, cct_7_3x1_32_sine.cifar10_5000e"),
        ("nothing like it", "vitrail weights list"),
        ("", "vitrail weights list"),
        *NOT_PUBLISHED.items(),
    ],
)
def test_unknown_names_are_refused_with_a_way_out(name: str, hint: str) -> None:
    with pytest.raises(WeightsError) as caught:
        published(name)
    assert caught.value.code == "V203" and hint in caught.value.hint
    for named in re.findall(r"take `([^`]+)`", caught.value.hint):
        assert published(named)


def test_two_rows_of_one_name_are_our_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "all_rows", lambda: iter([ROWS[0], ROWS[0]]))
    module._rows.cache_clear()
    with pytest.raises(AssertionError, match="two rows of one name"):
        names()
    monkeypatch.undo()
    module._rows.cache_clear()
    assert len(names()) == len(ROWS)


def test_no_torch() -> None:
    code = "import sys; from vitrail.weights.published import names; names(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_every_variant_with_weights_is_in_the_catalogue() -> None:
    assert {row.variant for row in ROWS} <= set(VARIANTS)


def saved_as(path: Path, name: str, dialect: str, classes: int = 10) -> Path:
    """A random network of the variant, as somebody's file."""
    from vitrail.models import build
    from vitrail.models.classifier import Classifier
    from vitrail.weights import save_as

    row = variant(name)
    config = replace(row.config, classes=classes)
    save_as(Classifier(build(config), config, row.policy, tuple(map(str, range(classes)))), path, dialect)
    return path


def test_a_published_files_name_brings_its_policy_and_class_names_only_in_its_own_dialect(tmp_path: Path) -> None:
    from vitrail.weights import load

    row = published("vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    found = load(saved_as(tmp_path / row.file_name, row.variant, "google", classes=1000))
    assert found.classifier.classes[:2] == ("tench", "goldfish")
    assert (found.classifier.policy, found.policy_stated) == (row.policy, True)
    (tmp_path / "other").mkdir()
    other = saved_as(tmp_path / "other" / "w.pth", row.variant, "timm", classes=1000)
    other = other.rename(other.with_name(row.file_name))
    assert load(other).classifier.classes[0] == "class_0"


def test_names_that_were_guessed_from_a_files_name_decide_over_no_row(tmp_path: Path) -> None:
    from vitrail.weights import load

    path = saved_as(tmp_path / "vit_tiny_patch16_224.npz", "vit_tiny_patch16_224", "google", classes=1000)
    assert load(path).classifier.classes[0] == "tench"
    mine = load(path, classes=[f"mine {i}" for i in range(1000)]).classifier
    assert mine.module.head.weight.detach().any()
    ten = saved_as(tmp_path / "cct_7_3x1_32.pth", "cct_7_3x1_32", "shi_labs")
    assert load(ten).classifier.classes[0] == "class_0"


def test_a_folder_of_timms_hub_says_its_policy_and_its_variant(tmp_path: Path) -> None:
    from vitrail.weights import load

    folder = tmp_path / "timm" / "vit_tiny_patch16_224.mine"
    folder.mkdir(parents=True)
    saved_as(folder / "model.safetensors", "vit_tiny_patch16_224", "timm")
    metadata_free = safetensors.read(folder / "model.safetensors")[0]
    safetensors.write(folder / "model.safetensors", metadata_free)
    values = {
        "architecture": "vit_tiny_patch16_224", "num_classes": 10, "label_names": [f"l{i}" for i in range(10)],
        "pretrained_cfg": {"input_size": [3, 224, 224], "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5],
                           "crop_pct": 0.95, "interpolation": "bilinear", "crop_mode": "center"},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(values))
    found = load(folder)
    policy = found.classifier.policy
    assert (policy.crop, policy.interpolation, policy.mean) == (0.95, "bilinear", (0.1, 0.2, 0.3))
    assert found.classifier.classes[9] == "l9"
    assert "policy from timm's config.json" in found.report
    values["pretrained_cfg"] |= {"crop_mode": "border"}
    (folder / "config.json").write_text(json.dumps(values))
    assert load(folder).classifier.policy == replace(policy, mode="pad")
    values["pretrained_cfg"] |= {"crop_mode": "random"}  # which no policy of ours can say
    (folder / "config.json").write_text(json.dumps(values))
    assert load(folder).classifier.policy.crop == 0.9


def test_a_hub_folder_without_a_processor_says_that_its_policy_is_assumed(tmp_path: Path) -> None:
    from vitrail.weights import load

    folder = saved_as(tmp_path / "folder", "vit_tiny_patch16_224", "huggingface")
    assert load(folder).policy_stated
    (folder / "preprocessor_config.json").unlink()
    found = load(folder)
    assert not found.policy_stated
    assert any(line.startswith("policy assumed") for line in found.report)


def test_the_rows_of_a_hub_model() -> None:
    assert [row.name for row in of_hub("microsoft/beit-base-patch16-224")] == [
        "beit_base_patch16_224.hub_in22k_ft_in22k_in1k"
    ]
    assert of_hub("nobody/nothing") == ()
