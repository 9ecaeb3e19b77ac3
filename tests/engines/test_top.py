"""Graphs that name the best classes themselves: what they give, and that no other is taken for one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import vitrail
from vitrail.bundle.formats import TOP_IN, Form
from vitrail.bundle.manifest import Engine
from vitrail.bundle.read import check, read_manifest
from vitrail.engines import Bundle, graphs, onnx, openvino
from vitrail.engines.graphs import answers_of
from vitrail.errors import BundleError, UsageError
from vitrail.models.classifier import Classifier
from vitrail.pictures.predict import probabilities
from vitrail.proof.top import _differences, wrong
from vitrail.verbs.export import export
from vitrail.verbs.verify import verify

FORMATS = ("onnx", "openvino", "torchscript")
PIXELS = np.random.default_rng(2).integers(0, 256, (5, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def source() -> Classifier:
    return vitrail.create("vit_2_4_32", seed=3)


@pytest.fixture(scope="module")
def place(source: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a plain graph and, of each format, one that names the three best classes."""
    folder = tmp_path_factory.mktemp("top") / "bundle"
    export(source, folder)
    for format in FORMATS:
        export(source, folder, format=format, form=Form(top=3))
    return folder


@pytest.mark.parametrize("format", FORMATS)
def test_the_best_classes_are_those_of_the_logits(format: str, place: Path, source: Classifier) -> None:
    bundle = vitrail.open(place, engine=f"{format}-fp32-top3")
    assert isinstance(bundle, Bundle) and bundle.manifest.engines[f"{format}-fp32-top3"].top == 3
    images = source.policy.normalise(PIXELS)
    logits, said, classes = answers_of(bundle.runner, images)
    exact = source.logits(images)
    np.testing.assert_allclose(logits, exact, atol=1e-5)
    np.testing.assert_array_equal(classes, np.argsort(-exact, axis=1)[:, :3])
    np.testing.assert_allclose(said, -np.sort(-probabilities(exact), axis=1)[:, :3], atol=1e-6)
    assert verify(place, engine=f"{format}-fp32-top3").verification.failures == ()


@pytest.mark.parametrize(
    ("format", "form"),
    [
        ("torchscript", Form(takes="pixels", top=2)),
        ("torchscript", Form(batch=2, top=10)),
        *((format, Form(precision, top=4)) for format, able in TOP_IN.items() for precision in able[1:]),
    ],
)
def test_every_form_names_them(format: str, form: Form, source: Classifier, tmp_path: Path) -> None:
    export(source, tmp_path / "bundle", format=format, form=form)
    (name,) = read_manifest(tmp_path / "bundle").engines
    bundle = vitrail.open(tmp_path / "bundle", engine=name)
    assert isinstance(bundle, Bundle)
    given = PIXELS if form.takes == "pixels" else source.policy.normalise(PIXELS)
    logits, said, classes = answers_of(bundle.runner, given)
    assert said.shape == classes.shape == (5, form.top)
    np.testing.assert_array_equal(classes[:, 0], logits.argmax(axis=1))


def test_the_plain_graph_is_preferred(place: Path) -> None:
    bundle = vitrail.open(place, engine="onnx")
    assert isinstance(bundle, Bundle) and bundle.graph == "onnx-fp32"


def test_V505_a_program_of_another_form_is_refused(source: Classifier) -> None:
    """What a manifest says of the outputs of a program is held against the program."""
    entry = Engine("engines/x/model.ts", "torchscript", "fp32", None, "images", "logits", {}, {})
    for made, said in ((Form(top=2), None), (Form(), 2), (Form(top=2), 3)):
        written = graphs.write(source, "torchscript", made)
        told = replace(entry, facts=written.facts, top=said)
        stored = graphs.Stored(
            told, source.config, source.classes, {"engines/x/model.ts": written.files["model.ts"]}.__getitem__
        )
        with pytest.raises(BundleError, match="V505"):
            graphs.open(stored, "torchscript")


class _Planted:
    """A runner with a fault in what it names."""

    def __init__(self, runner: object, fault: str) -> None:
        self._runner, self._fault = runner, fault

    def logits(self, batch: NDArray[np.generic], /) -> NDArray[np.float32]:
        return self._runner.logits(batch)  # type: ignore[attr-defined, no-any-return]

    def answers(self, batch: NDArray[np.generic], /) -> tuple[NDArray[np.generic], ...]:
        logits, said, classes = self._runner.answers(batch)  # type: ignore[attr-defined]
        match self._fault:
            case "another class":
                classes = (classes + 1) % logits.shape[1]
            case "a class twice":
                classes = np.repeat(classes[:, :1], 3, axis=1)
            case "a class too many":
                classes = classes + logits.shape[1]
            case "logits for probabilities":
                said = -np.sort(-logits, axis=1)[:, :3]
            case "worst first":
                said, classes = said[:, ::-1], classes[:, ::-1]
            case "logits alone":
                return (logits,)
        return logits, said, classes


@pytest.mark.parametrize(
    "fault",
    ["another class", "a class twice", "a class too many", "logits for probabilities", "worst first", "logits alone"],
)
def test_a_planted_fault_is_named(fault: str, place: Path) -> None:
    bundle = vitrail.open(place, engine="onnx-fp32-top3")
    assert isinstance(bundle, Bundle)
    assert wrong(bundle.runner, bundle.policy, takes="images", top=3) == ()
    (line,) = wrong(_Planted(bundle.runner, fault), bundle.policy, takes="images", top=3)[:1]
    assert line.startswith("best classes:")


def test_V505_a_graph_of_another_form_is_refused(place: Path) -> None:
    with check(place) as opened:
        plain, named = (opened.read(f"engines/{name}/model.onnx") for name in ("onnx-fp32", "onnx-fp32-top3"))
        xml, weights = (opened.read(f"engines/openvino-fp32-top3/model.{end}") for end in ("xml", "bin"))
    assert onnx.check(named, Form(top=3)).outputs[2].shape == (None, 3)
    for form in (Form(), Form(top=2)):
        with pytest.raises(BundleError, match="V505"):
            onnx.check(named, form)
        with pytest.raises(BundleError, match="V505"):
            openvino.open_ir((xml, weights), form)
    with pytest.raises(BundleError, match="V505"):
        onnx.check(plain, Form(top=3))


def test_a_fault_is_seen_where_all_classes_are_almost_alike() -> None:
    logits = np.random.default_rng(0).normal(0, 0.001, (4, 1000))
    order = np.argsort(-logits, axis=1)[:, :5]
    likely = np.take_along_axis(probabilities(logits.astype(np.float32)), order, axis=1)
    assert _differences(logits, likely.astype(np.float32), order) == []
    order[:, 1:] = np.argsort(-logits, axis=1)[:, 500:504]
    assert _differences(logits, likely.astype(np.float32), order)


def test_V007_what_gives_logits_alone_is_said(source: Classifier, tmp_path: Path) -> None:
    for format, form in (
        ("aoti", Form(top=1)),
        ("mindir", Form(top=1)),
        ("onnx", Form("int8", top=1)),
        ("openvino", Form("fp16", top=1)),
    ):
        with pytest.raises(UsageError) as caught:
            export(source, tmp_path / "bundle", format=format, form=form)
        assert caught.value.code == "V007" and "--top" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        export(source, tmp_path / "bundle", form=Form(top=11))
    assert caught.value.code == "V007" and "11" in caught.value.what
    assert not (tmp_path / "bundle").exists()
