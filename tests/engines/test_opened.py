from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.bundle import tiny
from tests.bundle.test_manifest import edited
from vitrail.bundle import read
from vitrail.bundle.manifest import NAME, WEIGHTS, Manifest
from vitrail.bundle.write import write_bundle
from vitrail.engines import bundle_classifier, choice, graph, onnx, open_bundle, opened
from vitrail.errors import BundleError, UsageError, WeightsError

ROOT = Path(__file__).resolve().parents[2]


def images() -> np.ndarray:
    return np.random.default_rng(2).standard_normal((3, 3, *tiny.SIZE)).astype(np.float32)


@pytest.mark.parametrize("engine", ["auto", "onnx", "openvino", "torch"])
def test_a_bundle_answers_on_every_engine(tmp_path: Path, engine: str) -> None:
    bundle = open_bundle(tiny.bundle(tmp_path), engine=engine, threads=None if engine == "torch" else 1)
    source = tiny.classifier()
    np.testing.assert_allclose(bundle.logits(images()), source.logits(images()), atol=2e-5)
    assert (bundle.policy, bundle.classes, bundle.provenance) == (source.policy, source.classes, source.provenance)
    assert bundle.engine in (("onnx", "openvino") if engine == "auto" else (engine,))
    assert bundle.graph == (None if engine == "torch" else "onnx-fp32")
    pictures = [picture.read() for picture in tiny.pictures()]
    assert [p.classes for p in bundle.predict(pictures, top=2)] == [p.classes for p in source.predict(pictures, top=2)]


def test_the_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    back = bundle_classifier(tiny.bundle(tmp_path))
    np.testing.assert_array_equal(back.logits(images()), tiny.classifier().logits(images()))


def bare(folder: Path, **files: bytes) -> Path:
    manifest = Manifest.from_json(tiny.bundle_files()[NAME])
    write_bundle(folder, dataclasses.replace(manifest, files={}, engines={}), files)
    return folder


def test_auto_takes_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = tiny.bundle(tmp_path / "both")
    weights = bare(tmp_path / "weights", **{WEIGHTS: tiny.bundle_files()[WEIGHTS]})
    assert open_bundle(weights).engine == "torch"
    monkeypatch.setattr(opened, "remembered", lambda ways, question: None)
    for soonest in ("onnx", "openvino"):
        monkeypatch.setattr(opened, "fastest", lambda ways, question, spinning, soonest=soonest: soonest)
        assert open_bundle(both).engine == soonest
    monkeypatch.setattr(choice, "installed", lambda name: name != "onnx")
    assert open_bundle(both).engine == "openvino"
    monkeypatch.setattr(choice, "installed", lambda name: name == "torch")
    assert open_bundle(both).engine == "torch"


@pytest.mark.parametrize(
    ("batch", "threads", "count"), [(1, None, 1), (2, None, 1), (3, None, 3), (64, None, 3), (4, 4, 4)]
)
def test_auto_asks_for_as_many_pictures_as_will_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, threads: int | None, count: int
) -> None:
    rows: list[int] = []

    def fastest(ways: dict[str, Callable[[], None]], question: str, spinning: bool) -> str:
        monkeypatch.setattr(type(found), "logits", lambda runner, images: rows.append(len(images)))
        ways["openvino"]()
        return "openvino"

    found = open_bundle(tiny.bundle(tmp_path), engine="openvino").runner
    monkeypatch.setattr(opened, "cores", lambda: 3)
    monkeypatch.setattr(opened, "remembered", lambda ways, question: None)
    monkeypatch.setattr(opened, "fastest", fastest)
    open_bundle(tmp_path, batch=batch, threads=threads)
    assert rows == [count]


def test_V504_nothing_that_can_run(tmp_path: Path) -> None:
    empty = bare(tmp_path / "empty")
    weights = bare(tmp_path / "weights", **{WEIGHTS: tiny.bundle_files()[WEIGHTS]})
    for folder, engine in ((empty, "auto"), (empty, "torch"), (weights, "onnx"), (weights, "openvino")):
        with pytest.raises(BundleError) as caught:
            open_bundle(folder, engine=engine)
        assert caught.value.code == "V504"
    with pytest.raises(BundleError) as caught:
        bundle_classifier(empty)
    assert caught.value.code == "V504"


def test_V007_an_unknown_engine_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        open_bundle(tiny.bundle(tmp_path), engine="openvin")
    assert (caught.value.code, "`openvino`" in caught.value.hint) == ("V007", True)


def test_V007_threads_are_not_ignored_by_torch(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        open_bundle(tiny.bundle(tmp_path), engine="torch", threads=2)
    assert (caught.value.code, "torch.set_num_threads(2)" in caught.value.hint) == ("V007", True)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_a_graph_is_parsed_and_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    calls = []
    for name in ("read", "check_sizes"):
        home = onnx.graph if name == "read" else onnx
        honest = getattr(home, name)
        monkeypatch.setattr(home, name, lambda given, name=name, honest=honest: calls.append(name) or honest(given))
    open_bundle(tiny.bundle(tmp_path), engine=engine, threads=1)
    assert calls == ["read", "check_sizes"]


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v["classes"].reverse(),
        lambda v: v["engines"]["onnx-fp32"]["facts"].__setitem__("gelu", ["tanh"]),
        lambda v: v["engines"]["onnx-fp32"]["facts"].__setitem__("layernorm_eps", [1e-6]),
    ],
    ids=["classes", "gelu", "eps"],
)
def test_C16_the_graph_is_held_against_the_manifest(tmp_path: Path, change: object) -> None:
    folder = tiny.bundle(tmp_path)
    (folder / NAME).write_bytes(edited(change))
    with pytest.raises(BundleError) as caught:
        open_bundle(folder)
    assert caught.value.code == "V502"


def test_weights_of_another_hash_are_refused(tmp_path: Path) -> None:
    folder = tiny.bundle(tmp_path)
    (folder / NAME).write_bytes(edited(lambda v: v.__setitem__("weights_sha256", "0" * 64)))
    with pytest.raises(BundleError) as caught:
        open_bundle(folder, engine="torch")
    assert caught.value.code == "V502"


WITHOUT_TORCH = """
import json, sys
from pathlib import Path
sys.modules["torch"] = None
import numpy as np
from vitrail.engines import open_bundle
from vitrail.proof.verify import verify
folder, engine = Path(sys.argv[1]), sys.argv[2]
bundle = open_bundle(folder, engine=engine, threads=1)
answer = next(bundle.predict([np.zeros((9, 9, 3), np.uint8)], top=1))
print(json.dumps([answer.classes[0], list(verify(bundle).failures), "onnx" in sys.modules]))
"""


@pytest.mark.parametrize("engine", ["auto", "openvino"])
def test_a_bundle_is_used_and_verified_without_torch(tmp_path: Path, engine: str) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tiny.bundle(tmp_path)), engine]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    expected = next(tiny.classifier().predict([np.zeros((9, 9, 3), np.uint8)], top=1))
    assert json.loads(done.stdout) == [expected.classes[0], [], False]  # type: ignore[union-attr]


@pytest.mark.parametrize("setting", [("dim", 65536), ("depth", 1024), ("conv_width", 65536)])
def test_C9_a_forged_config_allocates_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: tuple[str, int]
) -> None:
    monkeypatch.setattr("vitrail.weights.tensors.build", lambda config: pytest.fail("a network was built"))
    folder = tiny.bundle(tmp_path)
    (folder / NAME).write_bytes(edited(lambda v: v["config"].__setitem__(*setting)))
    with pytest.raises(WeightsError) as caught:
        bundle_classifier(folder)
    assert caught.value.code == "V204"


def test_a_large_graph_is_hashed_and_opened_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.bundle(tmp_path)
    small = {engine: open_bundle(folder, engine=engine, threads=1).logits(images()) for engine in ("onnx", "openvino")}
    monkeypatch.setattr(read, "IN_MEMORY", 1)
    monkeypatch.setattr(graph, "NEAR", 64)
    monkeypatch.setattr(read.OpenFile, "read", lambda file: pytest.fail(f"{file.name} was read into memory"))
    for engine, logits in small.items():
        np.testing.assert_array_equal(open_bundle(folder, engine=engine, threads=1).logits(images()), logits)
    np.testing.assert_allclose(
        open_bundle(folder, engine="onnx", threads=1, once=True).logits(images()), small["onnx"], atol=2e-5
    )


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_C11_a_large_graph_that_changes_while_it_is_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    folder = tiny.bundle(tmp_path)
    monkeypatch.setattr(read, "IN_MEMORY", 1)
    honest = onnx.check

    def and_then_written_to(*given: object) -> object:
        with (folder / "engines/onnx-fp32/model.onnx").open("r+b") as file:
            file.write(tiny.graph()[:1])
        return honest(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(onnx, "check", and_then_written_to)
    with pytest.raises(BundleError) as caught:
        open_bundle(folder, engine=engine, threads=1)
    assert caught.value.code == "V502"


def test_bytes_far_away_read_as_those_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "NEAR", 16)
    monkeypatch.setattr(graph, "WINDOW", 7)
    data = tiny.graph()
    far = graph.read(graph.Far(lambda at, count: data[at : at + count], 0, len(data)))
    near = graph.read(data)
    assert (far.nodes, far.inputs, far.outputs, far.metadata) == (near.nodes, near.inputs, near.outputs, near.metadata)
    for name, tensor in near.constants.items():
        np.testing.assert_array_equal(far.constants[name].array(), tensor.array())


def test_a_batch_cut_for_the_cores_has_the_answers_of_one_that_is_not(tmp_path: Path) -> None:
    whole, cut = (open_bundle(tiny.bundle(tmp_path), engine="openvino", threads=threads) for threads in (1, 3))
    batch = np.random.default_rng(0).standard_normal((7, 3, *tiny.SIZE)).astype(np.float32)
    for count in (1, 2, 3, 7):
        np.testing.assert_allclose(cut.logits(batch[:count]), whole.logits(batch[:count]), atol=1e-5)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(cut.logits, [batch] * 8):
            np.testing.assert_array_equal(found, cut.logits(batch))
