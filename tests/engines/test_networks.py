"""Graphs of every kind of network: allowed, of the sizes that the onnx package finds, answering as their source."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx as package
import pytest
import torch
from onnx import TensorProto, helper

from tests.engines.networks import KINDS, NETWORKS, classifier, graph
from vitrail.bundle.formats import Form
from vitrail.engines import bounds, onnx, openvino, torch_export, torchscript
from vitrail.engines import graph as graphs
from vitrail.engines import torch as torch_engine
from vitrail.engines.facts import DECIDED, facts, wanted
from vitrail.errors import BundleError
from vitrail.models.configs import CCT_EPS


@pytest.mark.parametrize("engine", [onnx, openvino], ids=["onnx", "openvino"])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_answers_every_batch(name: str, engine: Any) -> None:
    config, source = NETWORKS[name], classifier(name)
    runner = engine.open(graph(name), threads=1)
    rng = np.random.default_rng(1)
    for batch in (1, 2, 7):
        images = rng.standard_normal((batch, config.channels, *config.image_size)).astype(np.float32)
        np.testing.assert_allclose(runner.logits(images), source.logits(images), atol=2e-5)


@pytest.mark.parametrize("engine", [torchscript, torch_export], ids=["torchscript", "torch-export"])
@pytest.mark.parametrize("name", KINDS)
def test_programs_of_every_kind_hold_no_operation_that_is_refused(name: str, engine: Any) -> None:
    config, source = NETWORKS[name], classifier(name)
    written = engine.write(source, Form(), about={"classes": list(source.classes)})
    runner, _, classes = engine.open(written.files[engine.FILE])
    images = np.random.default_rng(1).standard_normal((3, config.channels, *config.image_size)).astype(np.float32)
    np.testing.assert_allclose(runner.logits(images), source.logits(images), atol=2e-5)
    assert classes == list(source.classes)


@pytest.mark.parametrize("name", KINDS)
def test_config_network_and_graph_say_the_same(name: str) -> None:
    config = NETWORKS[name]
    said = wanted(config)
    assert torch_engine.facts(classifier(name).module, image=(config.channels, *config.image_size)) == said
    found = facts(graphs.read(graph(name)))
    assert {key: found[key] for key in DECIDED if key in found} == said


def test_the_epsilons_of_the_facts_are_those_of_the_networks() -> None:
    assert torch.nn.LayerNorm(1).eps == CCT_EPS


@pytest.mark.parametrize("name", KINDS)
def test_our_sizes_and_onnx_shape_inference_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = package.load_from_string(graph(name))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = bounds.BATCH
    inferred = package.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    expected = {
        info.name: tuple(side.dim_value for side in info.type.tensor_type.shape.dim)
        for info in inferred.graph.value_info
        if all(side.HasField("dim_value") for side in info.type.tensor_type.shape.dim)
    }
    found: dict[str, tuple[int, ...]] = {}
    honest = bounds._outputs

    def seen(node: graphs.Node, place: int, known: dict[str, bounds.Known]) -> list[bounds.Known]:
        values = honest(node, place, known)
        found.update({name: value.shape for name, value in zip(node.outputs, values, strict=True)})
        return values

    monkeypatch.setattr(bounds, "_outputs", seen)
    bounds.check_sizes(graphs.read(graph(name)))
    assert len(expected) > 40
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("side", [5, 6, 7, 8])
@pytest.mark.parametrize("settings", [([0] * 4, 3, 2), ([1] * 4, 3, 2), ([1] * 4, 2, 2), ([1] * 4, 3, 3)], ids=str)
def test_pools_that_round_up_have_the_size_that_the_engine_gives_them(
    settings: tuple[list[int], int, int], side: int
) -> None:
    """The last window begins in the picture, as in torch: an engine that counts one more would say so here."""
    import onnxruntime

    pads, kernel, stride = settings
    pool = helper.make_node(
        "MaxPool", ["images"], ["y"], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, ceil_mode=1
    )
    node = graphs.Node("MaxPool", ("images",), ("y",), {a.name: helper.get_attribute_value(a) for a in pool.attribute})
    (found,) = bounds.RULES["MaxPool"](node, [bounds.Known((1, 2, side, side))])
    images = torch.zeros(1, 2, side, side)
    made = torch.nn.functional.max_pool2d(images, kernel, stride, pads[0], ceil_mode=True)
    assert found.shape == tuple(made.shape)
    info = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("images", [1, 2, side, side]), ("y", None))
    ]
    model = helper.make_model(
        helper.make_graph([pool], "g", info[:1], info[1:]), opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"images": images.numpy()})[0].shape == found.shape


def test_V508_a_network_too_large_for_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "LARGEST", 50_000)
    source = classifier("vit mean")
    with pytest.raises(BundleError) as caught:
        onnx.write(source.module, classes=source.classes, image=(1, *source.config.image_size))
    assert caught.value.code == "V508"
    assert "0.1 MB" in caught.value.what
