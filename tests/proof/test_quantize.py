"""int8 inside its budget: a trained network keeps it or is refused; layers go back to float until it holds."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vitrail
from tests.cpp.asking import model, of
from tests.verbs.small import small
from vitrail.bundle.formats import Form
from vitrail.cli import run as command
from vitrail.engines import graph, graphs, onnx, open_bundle, openvino
from vitrail.engines import quantize as engine_file
from vitrail.engines.quantize import Quantizer, layers
from vitrail.errors import BundleError, UsageError
from vitrail.evaluation import speed as speed_file
from vitrail.evaluation.answers import CheckPicture
from vitrail.models.classifier import Classifier
from vitrail.models.folded import folded
from vitrail.opening import classifier
from vitrail.proof import quantize as quantize_file
from vitrail.proof.export import export
from vitrail.proof.quantize import Budget, fewest
from vitrail.proof.verify import verify
from vitrail.verbs import export as verb_file
from vitrail.verbs.train import train

INT8 = Form("int8")
POINTS = 5.0  # of 360 digits one is 0.28 points: a smaller budget could not be shown to hold
FORMATS = ("onnx", "openvino")


@pytest.fixture(scope="module", autouse=True)
def once() -> Iterator[None]:
    """Graphs in float32 are written once, few pictures calibrate, and speed is measured in one round."""
    kept: dict[object, bytes] = {}
    write = graphs.write_onnx

    def written(source: Classifier, form: Form) -> bytes:
        key = source.classes, form
        return kept[key] if key in kept else kept.setdefault(key, write(source, form))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "write_onnx", written)
        patch.setattr(verb_file, "CALIBRATING", 24)
        patch.setattr(speed_file, "in_turns", functools.partial(speed_file.in_turns, rounds=1))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("quantize") / "run"
    train(small("schedule.epochs=4"), out=place)
    for format in FORMATS:
        vitrail.export(place, format=format, form=INT8, max_drop=POINTS)
    return place


def report(bundle: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((bundle / "proof" / name / "report.json").read_bytes())
    return found


@pytest.mark.parametrize("format", FORMATS)
def test_C16_int8_is_inside_its_budget_and_says_what_it_costs(run: Path, format: str) -> None:
    bundle = run / "bundle"
    found = report(bundle, f"{format}-int8")
    drop = found["int8"]["drop"]
    held_out = vitrail.evaluate(run).evaluation
    assert (drop["source"], drop["pictures"]) == (held_out.correct, held_out.total)
    assert drop["candidate"] == vitrail.evaluate(bundle, "digits", engine=f"{format}-int8").evaluation.correct
    assert drop["source"] - drop["candidate"] == drop["lost"] - drop["won"]
    assert drop["high"] <= POINTS
    assert found["int8"]["in_int8"] + len(found["int8"]["left"]) == found["int8"]["products"] == 8
    assert found["gate"] == 2 * found["max_dlogit"] + 1e-6
    assert not verify(open_bundle(bundle, engine=f"{format}-int8")).failures


def test_an_onnx_graph_in_int8_runs_on_its_own_engine_alone(run: Path, tmp_path: Path) -> None:
    assert open_bundle(run / "bundle", engine="onnx-int8").graph == "onnx-int8"
    assert open_bundle(run / "bundle", engine="openvino").graph == "openvino-int8"
    vitrail.export(run, tmp_path / "onnx", form=INT8, max_drop=POINTS)
    with pytest.raises(BundleError) as caught:
        open_bundle(tmp_path / "onnx", engine="openvino")
    assert caught.value.code == "V504"
    again = (tmp_path / "onnx" / "engines/onnx-int8/model.onnx").read_bytes()
    assert again == (run / "bundle" / "engines/onnx-int8/model.onnx").read_bytes()


@pytest.mark.parametrize("format", FORMATS)
def test_E07_cpp_gives_the_same_logits(run: Path, library: Any, format: str) -> None:
    python = open_bundle(run / "bundle", engine=f"{format}-int8", threads=1)
    image = (python.policy.channels, *python.policy.size)
    images = np.random.default_rng(5).standard_normal((5, *image)).astype(np.float32)
    with model(library, run / "bundle", f"{format}-int8") as opened:
        found = of(library.vitrail_logits, 50, opened, images.ctypes.data, 5)
    assert np.array_equal(found.reshape(5, 10), python.logits(images))


def test_a_graph_in_int8_does_not_change_what_the_bundle_answers_unasked(run: Path) -> None:
    assert open_bundle(run / "bundle").graph is None  # the weights are there, and more exact
    assert open_bundle(run / "bundle", engine="auto-int8").graph in ("onnx-int8", "openvino-int8")


def harmful(monkeypatch: pytest.MonkeyPatch, *, bad: str) -> None:
    """A quantizer that ruins some layers: whatever it computes in 8 bits of those, their weights are noise."""
    real = Quantizer._in_int8

    def ruined(self: Quantizer, chosen: Any) -> bytes:
        import onnx as package

        proto = package.load_from_string(self._data)
        nodes = {layer.node for layer in chosen if layer.weight.startswith(bad)}
        weights = {node.input[1] for node in proto.graph.node if node.name in nodes}
        for tensor in proto.graph.initializer:
            if tensor.name in weights:
                array = package.numpy_helper.to_array(tensor)
                noise = np.random.default_rng(0).standard_normal(array.shape).astype(np.float32)
                tensor.CopyFrom(package.numpy_helper.from_array(noise, tensor.name))
        worse = Quantizer(proto.SerializeToString(), self._format, self._form, self._pictures)
        worse.__dict__["_ranges"] = self._ranges
        return real(worse, chosen)

    monkeypatch.setattr(engine_file.Quantizer, "_in_int8", ruined)


def test_layers_that_cost_too_much_are_put_back_to_float(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harmful(monkeypatch, bad="classifier.fc")
    done = vitrail.export(run, tmp_path / "b", form=INT8, max_drop=POINTS)
    assert done.proof.quantized is not None
    assert done.proof.quantized.left == ("classifier.fc.weight",)
    assert (done.proof.quantized.tries, done.proof.quantized.in_int8) == (2, 7)
    assert "put back to float: classifier.fc.weight" in done.lines()[2]
    made = graph.read((tmp_path / "b" / "engines/onnx-int8/model.onnx").read_bytes())
    assert "classifier.fc.weight" in made.constants  # as it was


def test_C16_what_no_layer_in_float_saves_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verb_file, "CALIBRATING", 8)
    harmful(monkeypatch, bad="")
    words = ["export", str(run), "--precision", "int8", "--max-drop", "2", "--out", str(tmp_path / "b")]
    assert command(words) == 5
    told = capsys.readouterr().err
    assert "V801" in told and "was shown to lose at most 2 points" in told
    assert "1 of 8 layers in int8: top-1" in told
    assert not (tmp_path / "b").exists()


def test_random_weights_claim_no_accuracy(tmp_path: Path) -> None:
    from tests.bundle import tiny

    done = export(tiny.classifier(), tmp_path / "b", form=INT8, pictures=tiny.pictures())
    assert done.proof.quantized is not None
    assert done.proof.quantized.drop is None and done.proof.quantized.left == ()
    assert "no accuracy is claimed" in done.proof.quantized.lines()[1]
    assert not verify(open_bundle(tmp_path / "b"), pictures=tiny.pictures()).failures
    fixed = Form("int8", "pixels", 3)
    assert export(tiny.classifier(), tmp_path / "b", form=fixed).engine == "onnx-int8-pixels-batch3"


def test_verify_holds_int8_to_twice_what_was_measured(run: Path) -> None:
    bundle = open_bundle(run / "bundle", engine="onnx-int8")
    stored = report(run / "bundle", "onnx-int8")

    class Off:
        def __init__(self, by: float) -> None:
            self.by = by

        def logits(self, batch: Any, /) -> Any:
            rows = bundle.runner.logits(batch)
            return rows + np.float32(self.by) * (np.arange(rows.shape[1]) == 0)

    assert not verify(replace(bundle, runner=Off(0.5 * stored["max_dlogit"]))).failures
    assert "exceeds the gate" in verify(replace(bundle, runner=Off(4 * stored["max_dlogit"]))).failures[0]


def test_verify_counts_changed_decisions_of_int8(run: Path) -> None:
    bundle = open_bundle(run / "bundle", engine="onnx-int8")
    source, _ = verb_file.chosen_source(bundle.provenance, verb_file.run_data(run), "auto")
    pictures = verb_file.check_pictures(source, verb_file.CHECKED)
    assert not verify(bundle, pictures=pictures).failures

    class Turned:
        def logits(self, batch: Any, /) -> Any:
            rows = bundle.runner.logits(batch)
            return np.sort(rows) if len(rows) != 7 else rows

    assert "decisions changed" in verify(replace(bundle, runner=Turned()), pictures=pictures).failures[-1]


def test_the_errors_say_what_is_missing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = classifier(run)
    with pytest.raises(UsageError, match="needs labelled pictures") as caught:
        export(trained, tmp_path / "b", form=INT8)
    assert caught.value.code == "V001"
    few = Budget(judged=[CheckPicture.of(np.zeros((8, 8, 1), np.uint8), 0)] * 40, max_drop=0.5)
    with pytest.raises(UsageError, match=r"no loss below .* can be shown with 40") as caught:
        export(trained, tmp_path / "b", form=INT8, budget=few)
    assert caught.value.code == "V007"
    with pytest.raises(UsageError, match="no loss below"):
        vitrail.export(run, tmp_path / "b", form=INT8, max_drop=0.0)
    with pytest.raises(UsageError, match="fp32 has no budget"):
        vitrail.export(run, tmp_path / "b", max_drop=1.0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "nncf" else object())
    with pytest.raises(UsageError, match="needs nncf") as caught:
        vitrail.export(run, tmp_path / "b", format="openvino", form=INT8, max_drop=POINTS)
    assert 'pip install "vitrail[int8]"' in str(caught.value.hint)
    assert not (tmp_path / "b").exists()


@given(st.integers(1, 300), st.integers(0, 320))
def test_the_search_finds_the_fewest_layers(count: int, threshold: int) -> None:
    asked: list[int] = []

    def holds(number: int) -> bool:
        asked.append(number)
        return number >= threshold

    assert fewest(count, holds) == (threshold if threshold < count else None)
    assert len(asked) == len(set(asked)) <= 2 * count.bit_length() + 1


def test_the_doubt_of_all_tries_is_bounded() -> None:
    doubts = [(1 - quantize_file._confidence(number)) / 2 for number in range(1, 10_000)]
    assert sum(doubts) <= quantize_file.DOUBT


def test_only_the_chosen_layers_are_in_int8_for_openvino(run: Path) -> None:
    """Left to itself NNCF also takes products of two values: its pattern of attention does not find CCT's."""
    data = graphs.write_onnx(classifier(run), Form())
    chosen = layers(data, {})[-1]
    pictures = [np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)] * 2
    written = openvino.write_int8(data, INT8, pictures=pictures, nodes={chosen.node})
    operators = written.facts["operators"]
    assert isinstance(operators, dict)
    assert (written.facts["int8"], operators["FakeQuantize"]) == (1, 1)
    with pytest.raises(BundleError, match="cannot quantise") as caught:
        openvino.write_int8(data, INT8, pictures=[pictures[0][:, :1]], nodes={chosen.node})
    assert caught.value.code == "V508"


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_bytes_in_every_process(run: Path, tmp_path: Path, format: str) -> None:
    """Sets of names are ordered by a seed of the process: what is written must not be."""
    (tmp_path / "f.onnx").write_bytes(graphs.write_onnx(classifier(run), Form()))
    script = (
        "import hashlib, sys, numpy as np; from pathlib import Path\n"
        "from vitrail.bundle.formats import Form; from vitrail.engines.quantize import Quantizer, layers\n"
        "data = Path(sys.argv[1]).read_bytes(); found = layers(data, {})\n"
        "pictures = list(np.random.default_rng(0).standard_normal((2, 1, 3, 16, 16)).astype(np.float32))\n"
        "written = Quantizer(data, sys.argv[2], Form('int8'), pictures).written(found, found[:1])\n"
        "print(hashlib.sha256(b''.join(written.files.values())).hexdigest())"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "f.onnx"), format]
    seeds = ("1", "2")
    runs = [
        subprocess.Popen(words, env={**os.environ, "PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, text=True)
        for seed in seeds
    ]
    said = [process.communicate(timeout=300)[0] for process in runs]
    assert len(said[0]) == 65 and said[0] == said[1]


def test_layers_are_named_by_the_network(run: Path) -> None:
    source = classifier(run)
    data = graphs.write_onnx(source, Form())
    tensors = {name: tensor.numpy() for name, tensor in folded(source.module).state_dict().items()}
    found = layers(data, tensors)
    assert [layer.weight for layer in found] == [
        "tokenizer.conv_layers.0.0.weight",
        "tokenizer.conv_layers.1.0.weight",
        "classifier.blocks.0.self_attn.qkv.weight",
        "classifier.blocks.0.self_attn.proj.weight",
        "classifier.blocks.0.linear1.weight",
        "classifier.blocks.0.linear2.weight",
        "classifier.attention_pool.weight",
        "classifier.fc.weight",
    ]
    assert onnx.PRODUCTS == ("Conv", "Gemm", "MatMul")
