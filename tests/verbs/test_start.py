"""Runs that start from weights of other worlds: fitted, headed and computed as the recipe and the weights say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.verbs.small import small
from vitrail import opening, weights
from vitrail.engines import bundle_classifier
from vitrail.errors import RecipeError, RunError, SystemFault, UsageError, WeightsError
from vitrail.models import build
from vitrail.models.classifier import Classifier
from vitrail.models.configs import BEiTConfig, ModelConfig, ViTConfig
from vitrail.pictures.policy import HALF
from vitrail.recipe import Recipe
from vitrail.recipe.read import parse_recipe
from vitrail.verbs.start import start
from vitrail.verbs.train import train

DIGITS = tuple(str(i) for i in range(10))
STEPS = ("schedule.steps=2", "schedule.warmup_epochs=0")


def source(family: str, **changes: Any) -> Classifier:
    """A classifier of a network like the small recipe's, with every tensor off zero."""
    config: ModelConfig = replace(small(family=family).config, **{"classes": 10, **changes})
    module = build(config, seed=5)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    policy = replace(small(family=family).policy, size=config.image_size, mean=HALF.mean, std=HALF.std)
    names = tuple(f"class_{i}" for i in range(config.classes))
    return Classifier(module, config, policy, names, {"weights": "trained"})


def saved(made: Classifier, path: Path, dialect: str = "native") -> Path:
    weights.save_as(made, path, dialect)
    return path


def recipe(family: str, path: Path | str, *overrides: str) -> Recipe:
    return small(f"weights.path={path}", "model.classes=10", *STEPS, *overrides, family=family)


def images(made: Classifier) -> np.ndarray:
    shape = (2, made.config.channels, *made.config.image_size)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("family", "dialect", "suffix"),
    [
        ("vit", "google", ".npz"),
        ("vit", "mindspore", ".ckpt"),
        ("hybrid", "google", ".npz"),
        ("beit", "unilm", ".pth"),
        ("cct", "mindspore", ".ckpt"),
    ],
)
def test_a_start_from_a_foreign_file_computes_as_its_world_does(
    family: str, dialect: str, suffix: str, tmp_path: Path
) -> None:
    """The recipe leaves GELU, epsilons and padding open: the run trains what the weights were trained as."""
    numerics = {
        "google": {"gelu": "tanh"} | ({"stem_numerics": "google"} if family == "hybrid" else {}),
        "mindspore": {"gelu": "tanh"} | ({"pool_padding": "same"} if family == "cct" else {}),
        "unilm": {},
    }[dialect]
    made = source(family, **numerics)
    path = saved(made, tmp_path / f"w{suffix}", dialect)
    wanted = recipe(family, path)
    found = start(wanted, DIGITS)
    assert found is not None
    assert found.classifier.config == made.config
    assert bool(numerics) == any(line.startswith("computed as the weights were: ") for line in found.report)
    np.testing.assert_array_equal(found.classifier.logits(images(made)), made.logits(images(made)))
    given = start(recipe(family, path, "model.gelu=quick"), DIGITS)
    assert given is not None and given.classifier.config == replace(made.config, gelu="quick")


def test_what_the_weights_decided_is_written_down_and_a_resume_needs_no_weights(tmp_path: Path) -> None:
    path = saved(source("vit", gelu="tanh"), tmp_path / "w.npz", "google")
    wanted = recipe("vit", path)
    told: list[Mapping[str, object]] = []
    done = train(wanted, out=tmp_path / "run", listener=told.append)
    text = (tmp_path / "run" / "recipe.yaml").read_text()
    line = next(line for line in text.splitlines() if line.strip().startswith("gelu:"))
    assert line.split() == ["gelu:", "tanh", "#", "weights"]
    config = bundle_classifier(done.bundle).config
    assert isinstance(config, ViTConfig) and config.gelu == "tanh"
    assert any("computed as the weights were: gelu tanh" in str(event.get("text")) for event in told)
    path.unlink()
    assert train(wanted, out=tmp_path / "run", resume=True).steps == 0
    with pytest.raises(RunError) as caught:
        train(recipe("vit", path, "model.gelu=erf"), out=tmp_path / "run", resume=True)
    assert caught.value.evidence == ("model.gelu  tanh -> erf",)


@pytest.mark.parametrize(("family", "size"), [("vit", "24"), ("beit", "[24, 16]"), ("cct", "24")])
@pytest.mark.parametrize("kind", ["file", "run"])
def test_positions_are_fitted_where_the_recipe_gives_a_size(family: str, size: str, kind: str, tmp_path: Path) -> None:
    if kind == "file":
        path = saved(source(family), tmp_path / "w.safetensors")
    else:
        path = train(small(*STEPS, family=family), out=tmp_path / "first").folder
    found = start(recipe(family, path, f"model.image_size={size}"), DIGITS)
    assert found is not None
    assert found.classifier.config.image_size == ((24, 16) if family == "beit" else (24, 24))
    assert found.classifier.policy.size == found.classifier.config.image_size
    assert any(" -> " in line and ("positi" in line or "pos_emb" in line) for line in found.report)
    assert np.isfinite(found.classifier.logits(images(found.classifier))).all()


def test_a_size_that_only_the_variant_has_fits_nothing(tmp_path: Path) -> None:
    path = saved(source("vit", image_size=(24, 24)), tmp_path / "w.safetensors")
    open_size = recipe("vit", path)
    origins = {**open_size.origins, "model.image_size": "variant"}
    with pytest.raises(WeightsError) as caught:
        start(replace(open_size, origins=origins), DIGITS)
    assert caught.value.code == "V204"


def test_a_run_of_another_size_goes_on(tmp_path: Path) -> None:
    first = train(small(*STEPS, family="beit"), out=tmp_path / "first")
    wanted = recipe("beit", first.folder, "model.image_size=24", "policy.size=24")
    done = train(wanted, out=tmp_path / "second")
    assert done.steps == 2
    assert bundle_classifier(done.bundle).config.image_size == (24, 24)


@pytest.mark.parametrize(("head", "word"), [("first-k", "first 10 of its 12 rows"), ("zero", "replaced by zeros")])
def test_heads(head: str, word: str, tmp_path: Path) -> None:
    made = source("beit", classes=12)
    found = start(recipe("beit", saved(made, tmp_path / "w.pth", "unilm"), f"weights.head={head}"), DIGITS)
    assert found is not None
    assert any(word in line for line in found.report)
    rows = dict(found.classifier.module.named_parameters())["head.weight"]
    own = dict(made.module.named_parameters())["head.weight"]
    assert torch.equal(rows, own[:10] if head == "first-k" else torch.zeros_like(rows))
    with pytest.raises(WeightsError):
        start(recipe("beit", tmp_path / "w.pth", "weights.head=keep"), DIGITS)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_training_is_in_float32_whatever_the_file_holds(kind: torch.dtype, tmp_path: Path) -> None:
    made = source("vit")
    path = saved(replace(made, module=made.module.to(kind)), tmp_path / "w.safetensors")
    found = start(recipe("vit", path), DIGITS)
    assert found is not None
    assert {parameter.dtype for parameter in found.classifier.module.parameters()} == {torch.float32}
    assert found.report[-1] == f"{str(kind).removeprefix('torch.')} weights taken as float32 to train"
    done = train(recipe("vit", path), out=tmp_path / "run")
    assert done.steps == 2


def test_a_published_name_is_pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(source("vit"), tmp_path / "w.safetensors")
    name = "vit_tiny_patch16_224.augreg_in21k"
    monkeypatch.setattr("vitrail.verbs.start.local", lambda asked: path if asked == name else pytest.fail(str(asked)))
    assert opening.kind_of(name) == "published"
    assert train(recipe("vit", name), out=tmp_path / "run").steps == 2


def test_a_start_that_cannot_be(tmp_path: Path) -> None:
    done = train(small(*STEPS, family="vit"), out=tmp_path / "first")
    with pytest.raises(RecipeError) as dialect:
        start(recipe("vit", done.folder, "weights.dialect=google"), DIGITS)
    assert dialect.value.code == "V104"
    with pytest.raises(UsageError) as random:
        start(recipe("vit", "vit_tiny_patch16_224"), DIGITS)
    assert random.value.code == "V005"
    with pytest.raises(WeightsError) as other:
        start(recipe("beit", done.folder), DIGITS)
    assert other.value.code == "V204"
    with pytest.raises(UsageError) as size:
        start(recipe("vit", done.folder, "model.image_size=18", "model.patch=6"), DIGITS)
    assert size.value.code == "V007"


def test_settings_of_every_family_are_strict() -> None:
    for family, wrong, near in (
        ("vit", "drop_pth", "drop_path"),
        ("vit", "class_tokn", "class_token"),
        ("beit", "layer_scale_int", "layer_scale_init"),
        ("beit", "pool_padding", ""),
        ("hybrid", "stem_numeric", "stem_numerics"),
    ):
        with pytest.raises(RecipeError) as caught:
            small(f"model.{wrong}=0", family=family)
        assert f"model.{wrong} no such key" in caught.value.evidence[0]
        assert near in caught.value.evidence[0]
    with pytest.raises(RecipeError) as caught:
        small("model.gelu=relu", "model.eps=7", "model.stages=[2]", family="vit")
    assert len(caught.value.evidence) == 3 or "gelu" in caught.value.evidence[0]
    config = small("model.gelu=tanh", "model.layer_scale=false", "model.drop_path=0.3", family="beit").config
    assert isinstance(config, BEiTConfig)
    assert (config.gelu, config.layer_scale, config.drop_path) == ("tanh", False, 0.3)


def test_a_resolved_recipe_of_every_family_is_read_back_whole() -> None:
    from vitrail.recipe.write import to_plain, to_yaml

    for family in ("cct", "vit", "hybrid", "beit"):
        one = small(family=family)
        again = parse_recipe(to_yaml(one, version="0"), "again.yaml")
        assert to_plain(again) == to_plain(one)


def test_a_beit_of_pre_training_becomes_a_start(tmp_path: Path) -> None:
    """A shared table, a norm before pooling and no head: what masked image modelling leaves behind."""
    made = source("beit", shared_bias=True, block_bias=False, absolute_positions=False, pooling="class", classes=0)
    path = saved(made, tmp_path / "w.pth", "unilm")
    found = start(recipe("beit", path, "model.shared_bias=false", "model.absolute_positions=false"), DIGITS)
    assert found is not None
    config = found.classifier.config
    assert isinstance(config, BEiTConfig) and config.block_bias and config.pooling == "mean"
    assert any("copied to each of 2 blocks" in line for line in found.report)
    assert any("head made of zeros for 10 classes" in line for line in found.report)


def test_a_key_bias_is_kept_where_the_file_has_one(tmp_path: Path) -> None:
    made = source("beit", key_bias=True)
    wanted = recipe("beit", saved(made, tmp_path / "w.safetensors"))
    done = train(wanted, out=tmp_path / "run")
    config = bundle_classifier(done.bundle).config
    assert isinstance(config, BEiTConfig) and config.key_bias
    assert train(wanted, out=tmp_path / "run", resume=True).steps == 0
    again = start(recipe("beit", done.folder), DIGITS)
    assert again is not None and again.classifier.config == config


def test_the_way_out_of_a_full_disk_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitrail.verbs.before.free_space", lambda folder: 0)
    with pytest.raises(SystemFault) as caught:
        train(small(), out=tmp_path / "run")
    assert caught.value.code == "V701" and "add --resume" in str(caught.value.hint)
    monkeypatch.undo()
    assert train(small(), out=tmp_path / "run", resume=True).page.is_file()
