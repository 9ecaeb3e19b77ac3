"""Promise C16: three tiny models pass, and every sabotage is caught by the numbers, not only by the descriptions."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.bundle import tiny
from vitrail.engines import graph as graphs
from vitrail.engines import onnx
from vitrail.engines.facts import said
from vitrail.errors import NumbersBroke, OutsideBound
from vitrail.evaluation.answers import CheckPicture
from vitrail.evaluation.intervals import wilson
from vitrail.models import cct
from vitrail.models.classifier import Classifier
from vitrail.pictures.policy import Policy
from vitrail.proof.export import Candidate
from vitrail.proof.prove import Proof, Top1, in_float64, prove


@functools.cache
def honest(kind: str = "cct") -> Candidate:
    return Candidate(onnx.open(tiny.graph(kind), threads=1), tiny.classifier(kind).policy, tiny.CLASSES)


def failures(candidate: Any, kind: str = "cct", graph: bytes | None = None) -> list[str]:
    """The parts that failed; and that the gate says so."""
    read = None if graph is None else said(graphs.read(graph))
    proof = prove(tiny.classifier(kind), candidate, pictures=tiny.pictures(), said=read)
    with pytest.raises(OutsideBound) as caught:
        proof.raise_if_failed()
    assert caught.value.exit_code == 5
    assert caught.value.code == "V801"
    return [line.split(":")[0] for line in proof.failures]


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_C16_an_honest_export_passes(kind: str) -> None:
    source = tiny.classifier(kind)
    proof = prove(source, honest(kind), pictures=tiny.pictures(), said=said(graphs.read(tiny.graph(kind))))
    proof.raise_if_failed()
    assert 0 < proof.source_error < 1e-5
    assert proof.gate == 4 * proof.source_error + 1e-6
    assert 0 < proof.max_dlogit <= proof.gate
    assert (proof.generated, proof.given, proof.decisions_changed) == (64, 5, 0)
    assert proof.line().startswith("proof: max |dlogit| ")
    assert "over 64 + 16 + 5 pictures at batch 1, 2, 7; 0 decisions changed; top-1 " in proof.line()


def test_the_reference_is_the_source_in_float64() -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, *tiny.SIZE)).astype(np.float32)
    exact = in_float64(tiny.classifier()).logits(images)
    assert exact.dtype == np.float64
    np.testing.assert_allclose(exact, tiny.classifier().logits(images), atol=1e-5)
    assert next(tiny.classifier().module.parameters()).dtype == torch.float32


def with_weights(change: Callable[[dict[str, torch.Tensor]], None], kind: str = "cct") -> Classifier:
    source = tiny.classifier(kind)
    module = copy.deepcopy(source.module)
    with torch.no_grad():
        change(module.state_dict())
    return replace(source, module=module)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_C16_sabotage_any_tensor_scaled_by_one_percent(kind: str) -> None:
    weights = tiny.classifier(kind).module.state_dict()
    # what adds the same to every token's score vanishes in the softmax
    harmless = {"classifier.attention_pool.bias"}
    caught = [
        "logits" in failures(with_weights(lambda state, name=name: state[name].mul_(1.01), kind), kind)  # type: ignore[misc]
        for name in list(weights)[:: 3 if kind == "cct" else 6]
        if name not in harmless
    ]
    assert len(caught) >= 4
    assert all(caught)


def test_C16_sabotage_a_tensor_in_the_graph_scaled_by_one_percent() -> None:
    import onnx as package

    model = package.load_from_string(tiny.graph())
    tensor = next(item for item in model.graph.initializer if item.name.endswith("conv_layers.0.0.weight"))
    tensor.CopyFrom(
        package.numpy_helper.from_array(package.numpy_helper.to_array(tensor) * np.float32(1.01), tensor.name)
    )
    candidate = replace(honest(), runner=onnx.open(model.SerializeToString(), threads=1))
    assert "logits" in failures(candidate)


def test_C16_sabotage_two_attention_heads_swapped() -> None:
    def swap(state: dict[str, torch.Tensor]) -> None:
        qkv = state["classifier.blocks.0.self_attn.qkv.weight"]
        qkv.copy_(qkv.unflatten(0, (3, 2, -1)).flip(1).flatten(0, 2))

    assert "logits" in failures(with_weights(swap))


def test_C16_sabotage_two_rows_of_the_head_swapped() -> None:
    def swap(state: dict[str, torch.Tensor]) -> None:
        for name in ("classifier.fc.weight", "classifier.fc.bias"):
            state[name].copy_(state[name][[1, 0, 2, 3, 4]])

    assert failures(with_weights(swap)) == ["logits", "decisions"]


@dataclass(frozen=True, kw_only=True)
class Reversed(Policy):
    """Blue, green, red, described as red, green, blue."""

    def pixels(self, picture: Any) -> Any:
        return super().pixels(picture)[..., ::-1]


def test_C16_sabotage_blue_green_red() -> None:
    policy = honest().policy
    assert "logits" in failures(replace(honest(), policy=Reversed(**{k: getattr(policy, k) for k in policy.to_json()})))


@pytest.mark.parametrize(
    "change",
    [
        {"mean": (0.485, 0.456, 0.406)},
        {"std": (0.25, 0.25, 0.25)},
        {"interpolation": "bilinear"},
        {"mode": "squash"},
        {"crop": 1.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_C16_sabotage_of_the_policy(change: dict[str, Any]) -> None:
    assert set(failures(replace(honest(), policy=replace(honest().policy, **change)))) >= {"policy", "logits"}


def test_C16_sabotage_classes_permuted() -> None:
    assert failures(replace(honest(), classes=tiny.CLASSES[::-1])) == ["classes", "decisions"]


def test_C16_sabotage_one_class_less() -> None:
    class Fewer:
        def logits(self, batch: Any, /) -> Any:
            return honest().logits(batch)[:, :4]

    assert "logits" in failures(replace(honest(), runner=Fewer(), classes=tiny.CLASSES[:4]))


def written(module: nn.Module) -> bytes:
    return onnx.write(module, classes=tiny.CLASSES, image=(3, *tiny.SIZE))


def test_C16_sabotage_gelu_tanh_for_erf(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(cct, "gelu", lambda x, form: F.gelu(x, approximate="tanh"))
        data = written(tiny.classifier().module)
    candidate = replace(honest(), runner=onnx.open(data, threads=1))
    assert set(failures(candidate, graph=data)) >= {"gelu", "logits"}


def test_C16_sabotage_layer_norm_epsilon() -> None:
    module = copy.deepcopy(tiny.classifier().module)
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            part.eps = 1e-6
    data = written(module)
    candidate = replace(honest(), runner=onnx.open(data, threads=1))
    assert set(failures(candidate, graph=data)) >= {"layernorm_eps", "logits"}


def test_C16_sabotage_classes_in_the_graph() -> None:
    import onnx as package

    model = package.load_from_string(tiny.graph())
    model.metadata_props[0].value = json.dumps(tiny.CLASSES[::-1])
    data = model.SerializeToString()
    assert failures(honest(), graph=data) == ["classes in the graph"]


def test_C16_nan_never_passes() -> None:
    class Broken:
        def logits(self, batch: Any, /) -> Any:
            return honest().logits(batch) * np.float32(np.nan if len(batch) == 2 else 1)

    assert "logits" in failures(replace(honest(), runner=Broken()))


def test_C16_a_fault_at_one_batch_size_alone_is_caught() -> None:
    class Uneven:
        def logits(self, batch: Any, /) -> Any:
            return honest().logits(batch) + np.float32(1e-3 if len(batch) == 7 else 0)

    assert failures(replace(honest(), runner=Uneven())) == ["logits"]


def test_a_source_that_gives_nan_is_refused() -> None:
    with pytest.raises(NumbersBroke):
        prove(with_weights(lambda state: state["classifier.fc.bias"].fill_(float("nan"))), honest())


def test_top1_counts_labelled_pictures_only() -> None:
    pictures = [*tiny.pictures(), CheckPicture.of(tiny.pictures()[0].read()[::-1])]
    proof: Proof = prove(tiny.classifier(), honest(), pictures=pictures)
    assert proof.top1 is not None
    assert proof.top1.labelled == 5
    assert proof.top1.source == proof.top1.candidate
    assert proof.top1.to_json()["intervals"]["source"] == [round(x, 6) for x in wilson(proof.top1.source, 5)]  # type: ignore[index]
    assert str(Top1(352, 351, 355)) == "top-1 99.2 % / 98.9 % (95 %: 97.1 to 99.6 %)"
    assert prove(tiny.classifier(), honest()).top1 is None
