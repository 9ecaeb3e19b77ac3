"""The text that MindSpore compiles: every kind of network, run on a stand-in; and each form that is refused."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.engines import mindspore_stub
from tests.engines.networks import NETWORKS, classifier, graph
from vitrail.engines import bounds, onnx
from vitrail.engines import graph as graphs
from vitrail.engines.mindir.cell import cell
from vitrail.engines.mindir.operators import RULES
from vitrail.errors import BundleError

# Every operator that any kind has; the others follow in the long run, since a graph takes seconds to make.
QUICK = ("vit registers", "hybrid", "beit", "cct same")
ALL = [name if name in QUICK else pytest.param(name, marks=pytest.mark.prove) for name in NETWORKS]


@pytest.mark.parametrize("name", ALL)
def test_every_kind_answers_as_its_source(name: str) -> None:
    config, source = NETWORKS[name], classifier(name)
    made = cell(onnx.check(graph(name)))
    rng = np.random.default_rng(1)
    for batch in (1, 2, 7):
        images = rng.standard_normal((batch, config.channels, *config.image_size)).astype(np.float32)
        np.testing.assert_allclose(mindspore_stub.run(made, images), source.logits(images), atol=2e-5)


@pytest.mark.parametrize("name", ["hybrid", "beit", "cct same"])
def test_a_fixed_batch_stands_in_the_text(name: str) -> None:
    config = NETWORKS[name]
    made = cell(onnx.check(graph(name)), batch=3)
    assert "images.shape" not in made.text
    images = np.random.default_rng(2).standard_normal((3, config.channels, *config.image_size)).astype(np.float32)
    np.testing.assert_allclose(mindspore_stub.run(made, images), classifier(name).logits(images), atol=2e-5)
    with pytest.raises(RuntimeError):
        mindspore_stub.run(made, images[:2])


def test_the_same_graph_gives_the_same_text_and_every_constant_once() -> None:
    found = onnx.check(graph("beit"))
    made, again = cell(found), cell(found)
    assert made.text == again.text
    weights = {name for name, tensor in found.constants.items() if tensor.kind == 1 and tensor.shape}  # float32
    assert made.constants.keys() == weights and "blocks.0.attn.qkv.weight" not in made.text
    for place, name in enumerate(made.constants):
        assert f"self.p{place} = Parameter(Tensor(constants[{place}])" in made.text
        np.testing.assert_array_equal(made.constants[name], found.constants[name].array())


def test_nothing_of_the_graph_is_in_the_text() -> None:
    """Names of a graph are anybody's words; the text is run."""
    evil = "x)\n        import os; os.abort()  #"
    found = onnx.check(graph("beit"))
    names = {name: f"{evil}{place}" for place, name in enumerate(found.constants)}
    renamed = dataclasses.replace(
        found,
        constants={names[name]: tensor._replace(name=names[name]) for name, tensor in found.constants.items()},
        nodes=[
            dataclasses.replace(node, inputs=tuple(names.get(name, name) for name in node.inputs))
            for node in found.nodes
        ],
    )
    assert cell(renamed).text == cell(found).text


def small(nodes: list[Any], constants: dict[str, NDArray[Any]], shape: tuple[int | str, ...]) -> bytes:
    """A graph of a few nodes from `images` to `logits`, whose shape ONNX Runtime works out."""
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    ends = [
        helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", *shape]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, None),
    ]
    body = helper.make_graph(nodes, "small", ends[:1], ends[1:], tensors)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def both(data: bytes, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What ONNX Runtime and the cell say."""
    (expected,) = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"images": images})
    found = graphs.read(data)
    ends = found.outputs[0]._replace(shape=(None, *expected.shape[1:]))
    return expected, mindspore_stub.run(cell(dataclasses.replace(found, outputs=[ends])), images)


@pytest.mark.parametrize("side", [5, 6, 7, 8])
@pytest.mark.parametrize(
    ("pads", "kernel", "stride"), [([0] * 4, 3, 2), ([1] * 4, 3, 2), ([0, 1, 0, 1], 3, 2), ([1] * 4, 2, 2)]
)
@pytest.mark.parametrize("ceil", [0, 1])
def test_windows_have_the_size_and_the_maxima_of_the_engine(
    pads: list[int], kernel: int, stride: int, side: int, ceil: int
) -> None:
    settings = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads, "ceil_mode": ceil}
    data = small([helper.make_node("MaxPool", ["images"], ["logits"], **settings)], {}, (2, side, side))
    images = -1 - np.random.default_rng(side).random((3, 2, side, side), np.float32)  # below zero, as padding must be
    expected, found = both(data, images)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("kind", "extra", "settings"),
    [
        ("Split", [], {"axis": 2, "num_outputs": 1}),
        ("Slice", [[1, -3], [2, 9223372036854775807], [1, 3]], {}),
        ("Unsqueeze", [[1]], {}),
        ("Flatten", [], {}),
        ("ReduceMean", [[1, 3]], {"keepdims": 0}),
        ("Transpose", [], {"perm": [0, 3, 1, 2]}),
        ("Softmax", [], {"axis": 1}),
    ],
    ids=str,
)
def test_operators_beside_the_engine(kind: str, extra: list[list[int]], settings: dict[str, Any]) -> None:
    names = [f"c{place}" for place in range(len(extra))]
    constants = {name: np.array(values, np.int64) for name, values in zip(names, extra, strict=True)}
    data = small([helper.make_node(kind, ["images", *names], ["logits"], **settings)], constants, (3, 4, 5))
    images = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    expected, found = both(data, images)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("side", [3, 9], ids=["short", "long"])
def test_a_table_of_places_that_is_put_together_from_integers(side: int) -> None:
    """As BEiT's relative biases are, of which a long one is not followed by `bounds`."""
    rng = np.random.default_rng(side)
    places = rng.integers(0, 7, (side, side))
    constants = {
        "left": places[:, :1],
        "right": places[:, 1:] + 2,
        "two": np.array(2),
        "table": rng.standard_normal((7, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Sub", ["right", "two"], ["less"]),
        helper.make_node("Concat", ["left", "less"], ["places"], axis=1),
        helper.make_node("Gather", ["table", "places"], ["bias"], axis=0),
        helper.make_node("Add", ["images", "bias"], ["logits"]),
    ]
    images = rng.standard_normal((2, side, side, 4)).astype(np.float32)
    expected, found = both(small(nodes, constants, (side, side, 4)), images)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found, images + constants["table"][places])


def test_a_cut_through_the_batch_is_refused() -> None:
    constants = {"start": np.array([0]), "end": np.array([1])}
    data = small([helper.make_node("Slice", ["images", "start", "end"], ["logits"])], constants, (3, 4))
    found = graphs.read(data)
    with pytest.raises(BundleError) as caught:
        cell(dataclasses.replace(found, outputs=[found.outputs[0]._replace(shape=(1, 3, 4))]))
    assert caught.value.code == "V508" and "a cut through the batch" in caught.value.what


def changed(name: str, kind: str, **attributes: Any) -> graphs.Graph:
    """A network's graph, whose first node of that kind says something else."""
    found = onnx.check(graph(name))
    place = next(i for i, node in enumerate(found.nodes) if node.kind == kind)
    node = found.nodes[place]
    found.nodes[place] = dataclasses.replace(node, attributes={**node.attributes, **attributes})
    return found


@pytest.mark.parametrize(
    ("kind", "attributes", "why"),
    [
        ("Gemm", {"alpha": 2.0}, "a scaled or transposed product"),
        ("LayerNormalization", {"axis": 1}, "not over the last side"),
        ("MaxPool", {"dilations": [2, 2], "kernel_shape": [2, 2]}, "a window with gaps"),
    ],
)
def test_other_forms_are_refused_by_name(kind: str, attributes: dict[str, Any], why: str) -> None:
    with pytest.raises(BundleError) as caught:
        cell(changed("cct same", kind, **attributes))
    assert caught.value.code == "V508" and why in caught.value.what and kind in caught.value.what


def test_an_operator_without_a_counterpart_is_refused_by_name() -> None:
    found = onnx.check(graph("beit"))
    found.nodes[:] = [dataclasses.replace(node, kind="Gelu") if node.kind == "Erf" else node for node in found.nodes]
    with pytest.raises(BundleError, match=re.escape("(Gelu): an operator without a counterpart")):
        cell(found)


def test_the_table_holds_what_our_graphs_may_have_and_can_be_written() -> None:
    assert RULES.keys() <= bounds.RULES.keys()
    # shapes are known beforehand, and our exporter writes none of the others at its opset
    others = {"Cast", "Constant", "DequantizeLinear", "Gelu", "Identity", "QuantizeLinear", "Shape", "TopK"}
    assert bounds.RULES.keys() - RULES.keys() == others
