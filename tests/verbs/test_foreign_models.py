"""Weight files and folders of other worlds as the MODEL of every verb that takes one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vitrail
from tests.verbs.test_start import images, saved, source
from vitrail.cli.main import run
from vitrail.models.classifier import Classifier
from vitrail.models.configs import FAMILIES
from vitrail.verbs.evaluate import evaluate
from vitrail.verbs.export import export
from vitrail.verbs.predict import predict
from vitrail.verbs.show import show
from vitrail.verbs.verify import verify

WAYS = [
    ("vit", "google", "w.npz"),
    ("hybrid", "google", "w.npz"),
    ("vit", "huggingface", "folder"),
    ("beit", "huggingface", "folder"),
    ("beit", "unilm", "w.pth"),
    ("beit", "mindspore", "w.ckpt"),
]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that succeeds prints."""
    assert run(arguments) == 0
    return capsys.readouterr().out


def foreign(family: str, dialect: str, place: Path) -> tuple[Classifier, Path]:
    """A classifier that computes as its world does, and the file or folder that holds it."""
    numerics: dict[str, object] = {"gelu": "tanh"} if dialect in ("google", "mindspore") else {}
    if family == "hybrid":
        numerics["stem_numerics"] = "google"
    if family == "beit" and dialect in ("huggingface", "mindspore"):
        numerics |= {"shared_bias": False, "absolute_positions": False}
    made = source(family, dropout=0.0, attention_dropout=0.0, drop_path=0.0, **numerics)
    return made, saved(made, place, dialect)


@pytest.mark.parametrize(("family", "dialect", "name"), WAYS)
def test_evaluate_and_predict(family: str, dialect: str, name: str, tmp_path: Path) -> None:
    made, path = foreign(family, dialect, tmp_path / name)
    opened = vitrail.open(path)
    np.testing.assert_array_equal(opened.logits(images(made)), made.logits(images(made)))
    alike = replace(made, policy=opened.policy, provenance={"weights": "trained"})
    ours, theirs = evaluate(path, "digits").evaluation, evaluate(alike, "digits").evaluation
    assert ours.total == theirs.total > 100
    assert ours.correct == theirs.correct
    pixels = [np.random.default_rng(i).integers(0, 256, (20, 30, 3), np.uint8) for i in range(3)]
    for mine, yours in zip(vitrail.open(path).predict(pixels), alike.predict(pixels), strict=True):
        assert mine.classes == yours.classes  # type: ignore[union-attr]


@pytest.mark.parametrize(("family", "dialect", "name"), [("vit", "google", "w.npz"), ("beit", "huggingface", "folder")])
def test_export_and_verify(family: str, dialect: str, name: str, tmp_path: Path) -> None:
    made, path = foreign(family, dialect, tmp_path / name)
    done = export(path, tmp_path / "bundle")
    for engine in ("onnx", "openvino", "torch"):
        assert verify(done.folder, engine=engine).verification.failures == ()
    back = vitrail.open(done.folder)
    np.testing.assert_allclose(back.logits(images(made)), made.logits(images(made)), atol=1e-5)


@pytest.mark.parametrize(("family", "dialect", "name"), WAYS)
def test_show_says_dialect_config_and_evidence(
    family: str, dialect: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, path = foreign(family, dialect, tmp_path / name)
    values = show(str(path)).values
    assert (values["kind"], values["dialect"]) == ("weights", dialect)
    assert values["config"]["dim"] == made.config.dim
    assert values["config"]["gelu"] == made.config.gelu
    assert len(values["report"]) >= 1
    lines = said(capsys, "show", str(path)).splitlines()
    assert f"dialect: {dialect}" in lines
    assert f"  {values['report'][0]}" in lines[lines.index("found:") :]
    assert not any(line.endswith(": None") or line.endswith(": ") for line in lines)


def test_show_of_a_published_name_pulls_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vitrail.remote.pull_weights", lambda *_, **__: pytest.fail("pulled"))
    values = show("vit_base_patch16_224.augreg_in21k_ft_in1k").values
    assert (values["kind"], values["variant"], values["dialect"]) == ("published", "vit_base_patch16_224", "google")
    assert values["config"]["gelu"] == "tanh"
    assert values["class_names"][0] == "tench"
    printed = said(capsys, "show", "vit_base_patch16_224.augreg_in21k_ft_in1k")
    assert "  top-1 84.534 %, by timm" in printed.splitlines()


def test_show_models_lists_every_family(capsys: pytest.CaptureFixture[str]) -> None:
    rows = show("models").values
    assert {row["family"] for row in rows} == set(FAMILIES)
    lines = said(capsys, "show", "models").splitlines()
    assert len(lines) == len(rows) + 2
    assert max(map(len, lines)) <= 100
    assert json.loads(said(capsys, "show", "models", "--json")) == rows


def test_predict_reads_files_with_a_foreign_model(tmp_path: Path) -> None:
    from PIL import Image

    _, path = foreign("vit", "google", tmp_path / "w.npz")
    Image.fromarray(np.full((20, 20, 3), 90, np.uint8)).save(tmp_path / "a.png")
    (found,) = predict(path, [tmp_path / "a.png"], top=3)
    assert len(found.classes) == 3  # type: ignore[union-attr]


def test_a_tensorflow_checkpoint_is_named_by_its_prefix(shared: Path) -> None:
    """Its tensors do not show everything of a network that is no variant: what is missing is asked for."""
    folder = shared / "reference" / "files" / "tf001_vit_tiny_quickgelu_tf1ckpt"
    prefix = next(folder.glob("*.index")).with_suffix("")
    for place in (folder, prefix):
        with pytest.raises(vitrail.errors.WeightsError) as caught:
            show(str(place))
        assert caught.value.code == "V205"
        assert "heads" in caught.value.hint


def test_a_network_without_head_names_no_classes(tmp_path: Path) -> None:
    path = saved(source("vit", classes=0), tmp_path / "w.npz", "google")
    calls = (
        lambda: evaluate(path, "digits"),
        lambda: list(predict(path, [tmp_path])),
        lambda: export(path, tmp_path / "bundle"),
    )
    for call in calls:
        with pytest.raises(vitrail.errors.UsageError) as caught:
            call()
        assert (caught.value.code, "has no head" in caught.value.what) == ("V007", True)
    assert show(str(path)).values["classes"] == 0
