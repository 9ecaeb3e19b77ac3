from __future__ import annotations

import copy
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.bundle import tiny
from vitrail.bundle.formats import Form
from vitrail.engines import graphs, onnx, openvino, table
from vitrail.engines import torch as torch_engine
from vitrail.errors import BundleError, UsageError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("engine", [onnx, openvino], ids=["onnx", "openvino"])
def test_every_kind_answers_every_batch(kind: str, engine: object) -> None:
    runner = engine.open(tiny.graph(kind), threads=1)  # type: ignore[attr-defined]
    rng = np.random.default_rng(1)
    for batch in (1, 2, 7):
        images = rng.standard_normal((batch, 3, *tiny.SIZE)).astype(np.float32)
        expected = tiny.classifier(kind).logits(images)
        found = runner.logits(images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=2e-5)
        np.testing.assert_allclose(runner.logits(images[:, :, ::1, :][:1]), expected[:1], atol=2e-5)


def test_writing_leaves_the_network_as_it_was() -> None:
    module = copy.deepcopy(tiny.classifier().module).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert graphs.write_onnx(replace(tiny.classifier(), module=module), Form()) == tiny.graph()
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


SCRIPT = """
import hashlib, sys
from tests.bundle import tiny
sys.stdout.write(hashlib.sha256(tiny.graph()).hexdigest())
"""


def test_C15_two_processes_write_the_same_bytes_and_say_nothing(tmp_path: Path) -> None:
    runs = []
    for seed, zone, locale, place in (("0", "UTC", "C", tmp_path), ("1", "Asia/Tokyo", "C.UTF-8", ROOT)):
        env = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", SCRIPT]
        runs.append(
            subprocess.Popen(command, cwd=place, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    said = [run.communicate(timeout=300) for run in runs]
    assert said[0][0] == said[1][0]
    assert len(said[0][0]) == 64
    assert [error for _, error in said] == ["", ""]


def test_the_graph_names_no_place_and_no_tool() -> None:
    for word in (b"/vitrail", b".py", b"torch.nn", b"stack_trace", str(ROOT).encode()):
        assert word not in tiny.graph()


def test_V508_a_network_that_cannot_be_written() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)[:, : 1 if x.sum() > 0 else 2]

    with pytest.raises(BundleError) as caught:
        onnx.write(Odd(), classes=("a",), image=(3, 4, 4))
    assert caught.value.code == "V508"


@pytest.mark.parametrize("engine", [onnx, openvino], ids=["onnx", "openvino"])
def test_V505_an_engine_that_refuses_is_a_refusal_of_ours(engine: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "check", lambda data: None)
    with pytest.raises(BundleError) as caught:
        engine.open(b"garbage", threads=1)  # type: ignore[attr-defined]
    assert caught.value.code == "V505"


@pytest.mark.parametrize(
    ("package", "extra", "call"),
    [
        ("onnxruntime", "onnx", lambda: onnx.open(tiny.graph())),
        ("openvino", "openvino", lambda: openvino.open(tiny.graph())),
        ("onnxscript", "onnx", lambda: onnx.write(tiny.classifier().module, classes=tiny.CLASSES, image=(3, 16, 20))),
    ],
)
def test_V003_a_missing_package_names_the_command(
    package: str, extra: str, call: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.graph()
    honest = table.importlib.util.find_spec
    monkeypatch.setattr(table.importlib.util, "find_spec", lambda name: None if name == package else honest(name))
    with pytest.raises(UsageError) as caught:
        call()  # type: ignore[operator]
    assert caught.value.code == "V003"
    assert f'pip install "vitrail[{extra}]"' in caught.value.hint


def test_what_a_network_computes_is_seen_in_its_forward_pass() -> None:
    network = nn.Sequential(nn.LayerNorm(4, eps=1e-6), nn.GELU(approximate="tanh"), nn.LayerNorm(4, eps=1e-5))
    assert torch_engine.facts(network, image=(3, 4, 4)) == {"gelu": ["tanh"], "layernorm_eps": [1e-6, 1e-5]}
    assert torch_engine.facts(nn.GELU(), image=(3, 4, 4))["gelu"] == ["erf"]


def test_ctrl_c_in_the_exporter_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*given: object, **named: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:
            raise torch.onnx.OnnxExporterError("Failed to export") from interrupt

    monkeypatch.setattr(torch.onnx, "export", stopped)
    with pytest.raises(KeyboardInterrupt):
        graphs.write_onnx(tiny.classifier(), Form())
