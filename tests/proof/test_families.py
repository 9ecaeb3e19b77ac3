"""Promise C16 for every kind of network: it is exported, proven and opened, and wrong numerics are caught."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.bundle import tiny
from tests.engines.networks import KINDS, NETWORKS, classifier, graph
from vitrail.bundle.manifest import NAME
from vitrail.bundle.values import canonical, parse
from vitrail.disk import sha256_bytes
from vitrail.engines import graph as graphs
from vitrail.engines import onnx, open_bundle
from vitrail.engines.facts import said as says
from vitrail.errors import BundleError, OutsideBound
from vitrail.models.configs import ModelConfig
from vitrail.proof.export import Candidate, export
from vitrail.proof.prove import prove
from vitrail.proof.verify import verify


def candidate(name: str, data: bytes) -> Candidate:
    source = classifier(name)
    return Candidate(onnx.open(data, threads=1), source.policy, source.classes)


@pytest.mark.parametrize("name", KINDS)
def test_C16_every_kind_passes(name: str) -> None:
    checked = onnx.check(graph(name))
    proof = prove(classifier(name), candidate(name, graph(name)), said=says(checked))
    proof.raise_if_failed()
    assert 0 < proof.max_dlogit <= proof.gate < 1e-4
    assert (proof.generated, proof.decisions_changed) == (64, 0)


@pytest.mark.parametrize("name", ["vit registers", "hybrid", "beit class", "cct same"])
def test_a_bundle_of_every_family_is_verified_on_every_engine(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = graph(name)
    monkeypatch.setattr(onnx, "write", lambda module, classes, image, form: written)
    done = export(classifier(name), tmp_path / "bundle")
    assert done.manifest.config == NETWORKS[name]
    for engine in ("onnx", "openvino", "torch"):
        found = verify(open_bundle(tmp_path / "bundle", engine=engine, threads=None if engine == "torch" else 1))
        found.raise_if_failed()
        assert found.generated == 64


def _gelu(form: str) -> Callable[[nn.Module], None]:
    def change(part: nn.Module) -> None:
        if hasattr(part, "gelu"):
            part.gelu = form  # type: ignore[assignment]

    return change


def _eps(kind: type[nn.LayerNorm] | type[nn.GroupNorm], eps: float) -> Callable[[nn.Module], None]:
    def change(part: nn.Module) -> None:
        if isinstance(part, kind):
            part.eps = eps

    return change


SABOTAGE: tuple[tuple[str, str, Callable[[nn.Module], None], bool], ...] = (
    # network, what its export gets wrong, how; whether it is done in every test run
    ("vit registers", "gelu",          _gelu("erf"),               True),
    ("vit mean",      "layernorm_eps", _eps(nn.LayerNorm, 1e-5),   True),
    ("beit",          "gelu",          _gelu("tanh"),              True),
    ("beit class",    "layernorm_eps", _eps(nn.LayerNorm, 1e-5),   True),
    ("hybrid",        "groupnorm_eps", _eps(nn.GroupNorm, 1e-5),   False),
    ("hybrid",        "gelu",          _gelu("tanh"),              False),
    ("vit mean",      "gelu",          _gelu("erf"),               False),
    ("vit",           "gelu",          _gelu("quick"),             False),
    ("vit",           "layernorm_eps", _eps(nn.LayerNorm, 1e-12),  False),
    ("beit class",    "gelu",          _gelu("quick"),             False),
    ("beit",          "layernorm_eps", _eps(nn.LayerNorm, 1e-5),   False),
    ("cct same",      "gelu",          _gelu("erf"),               False),
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "fact", "change"),
    [pytest.param(*row, id=f"{row[0]}-{row[1]}", marks=() if quick else pytest.mark.prove) for *row, quick in SABOTAGE],
)
def test_C16_sabotage_of_numerics_is_caught(name: str, fact: str, change: Callable[[nn.Module], None]) -> None:
    source = classifier(name)
    module = copy.deepcopy(source.module)
    for part in module.modules():
        change(part)
    data = onnx.write(module, classes=tiny.CLASSES, image=(source.config.channels, *source.config.image_size))
    proof = prove(source, candidate(name, data), said=says(graphs.read(data)))
    with pytest.raises(OutsideBound) as caught:
        proof.raise_if_failed()
    assert (caught.value.code, caught.value.exit_code) == ("V801", 5)
    assert {line.split(":")[0] for line in proof.failures} >= {fact}
    if fact == "gelu":  # an epsilon between norms of spread 1 may drown in rounding; its description does not
        assert proof.max_dlogit > proof.gate


@pytest.mark.prove
def test_C16_sabotage_of_the_stem_is_caught_by_the_numbers() -> None:
    """Google's and timm's ways to guard a division stand in no attribute of the graph."""
    source = classifier("hybrid")
    module = copy.deepcopy(source.module)
    for part in module.modules():
        if hasattr(part, "numerics"):
            part.numerics = "timm"  # type: ignore[assignment]
    data = onnx.write(module, classes=tiny.CLASSES, image=(3, *source.config.image_size))
    proof = prove(source, candidate("hybrid", data), said=says(graphs.read(data)))
    assert proof.failures[0].startswith("logits: ")


@pytest.mark.parametrize(
    ("name", "change", "fact"),
    [
        ("vit registers", {"gelu": "tanh"}, "gelu"),
        ("vit mean", {"eps": 1e-5}, "layernorm_eps"),
        ("beit", {"gelu": "quick"}, "gelu"),
        ("beit", {"eps": 1e-12}, "layernorm_eps"),
        ("hybrid", {"stem_numerics": "timm"}, "groupnorm_eps"),
        ("cct same", {"gelu": "erf"}, "gelu"),
    ],
)
def test_C16_the_config_is_held_against_source_and_graph(name: str, change: dict[str, Any], fact: str) -> None:
    """A classifier whose network is not what its config says cannot be exported."""
    source = classifier(name)
    said: ModelConfig = replace(source.config, **change)
    proof = prove(replace(source, config=said), candidate(name, graph(name)), said=says(graphs.read(graph(name))))
    assert [line.split(":")[0] for line in proof.failures] == [fact]
    assert proof.failures[0].startswith(f"{fact}: config [")


@pytest.mark.parametrize(("name", "change"), [("beit", {"gelu": "tanh"}), ("hybrid", {"stem_numerics": "timm"})])
def test_C16_the_graph_is_held_against_the_config_in_the_manifest(
    name: str, change: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = graph(name)
    monkeypatch.setattr(onnx, "write", lambda module, classes, image, form: made)
    export(classifier(name), tmp_path / "bundle")
    values = parse((tmp_path / "bundle" / NAME).read_bytes(), "manifest")
    values["config"].update(change)
    del values["digest"]
    values["digest"] = sha256_bytes(canonical(values))
    (tmp_path / "bundle" / NAME).write_bytes(canonical(values))
    with pytest.raises(BundleError) as caught:
        open_bundle(tmp_path / "bundle", engine="onnx")
    assert caught.value.code == "V502"
    assert "config" in caught.value.evidence[0]


def test_the_numbers_are_large_enough_to_be_wrong() -> None:
    rng = np.random.default_rng(0)
    for name, config in NETWORKS.items():
        images = rng.standard_normal((4, config.channels, *config.image_size)).astype(np.float32)
        logits = classifier(name).logits(images)
        assert logits.std(axis=0).min() > 0.01, name


def test_half_precision_weights_are_proven_and_kept_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source in float16 would widen the gate a thousandfold, and its bundle could not be opened on torch."""
    half = copy.deepcopy(classifier("vit mean").module).half()
    widened = copy.deepcopy(half).float()
    data = onnx.write(widened, classes=tiny.CLASSES, image=(1, *NETWORKS["vit mean"].image_size))
    monkeypatch.setattr(onnx, "write", lambda module, classes, image, form: data)
    done = export(replace(classifier("vit mean"), module=half), tmp_path / "bundle")
    assert done.proof.gate < 1e-4
    assert next(half.parameters()).dtype == torch.float16
    verify(open_bundle(tmp_path / "bundle", engine="torch")).raise_if_failed()
