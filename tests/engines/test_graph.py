from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.bundle import tiny
from vitrail.engines import bounds, facts, graph
from vitrail.engines import onnx as engine
from vitrail.errors import BundleError


def made(
    nodes: list[Any], constants: dict[str, np.ndarray] | None = None, shape: tuple[Any, ...] = ("batch", 3, 8, 8)
) -> bytes:
    """A graph from `images` to `logits` (batch, 5)."""
    body = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("batch", 5))],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    data: bytes = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    return data


def small(*more: Any, **constants: np.ndarray) -> bytes:
    """A graph that is allowed, after `more` nodes."""
    nodes = [
        *more,
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    return made(nodes, {"w": np.zeros((192, 5), np.float32), **constants})


def changed(change: Callable[[Any], object], data: bytes | None = None) -> bytes:
    model = onnx.load_from_string(small() if data is None else data)
    change(model)
    out: bytes = model.SerializeToString()
    return out


def code_of(data: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        engine.check(data)
    assert caught.value.code == "V505"
    return caught.value.what


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_our_reader_and_the_onnx_package_agree(kind: str) -> None:
    theirs = onnx.load_from_string(tiny.graph(kind))
    ours = graph.read(tiny.graph(kind))
    assert {item.name: ours.constants[item.name].array().tolist() for item in theirs.graph.initializer} == {
        item.name: numpy_helper.to_array(item).tolist() for item in theirs.graph.initializer
    }
    for node, expected in zip(ours.nodes, theirs.graph.node, strict=True):
        assert (node.kind, node.inputs, node.outputs) == (
            expected.op_type,
            tuple(expected.input),
            tuple(expected.output),
        )
        for attribute in expected.attribute:
            assert node.attributes[attribute.name] == helper.get_attribute_value(attribute)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_our_sizes_and_onnx_shape_inference_agree(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.load_from_string(tiny.graph(kind))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = bounds.BATCH
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    expected = {
        info.name: tuple(side.dim_value for side in info.type.tensor_type.shape.dim)
        for info in inferred.graph.value_info
        if all(side.HasField("dim_value") for side in info.type.tensor_type.shape.dim)
    }
    found: dict[str, tuple[int, ...]] = {}
    honest = bounds._outputs

    def seen(node: graph.Node, place: int, known: dict[str, bounds.Known]) -> list[bounds.Known]:
        values = honest(node, place, known)
        found.update({name: value.shape for name, value in zip(node.outputs, values, strict=True)})
        return values

    monkeypatch.setattr(bounds, "_outputs", seen)
    bounds.check_sizes(graph.read(tiny.graph(kind)))
    assert len(expected) > 40
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_facts_are_read_from_the_graph(kind: str) -> None:
    found = graph.read(tiny.graph(kind))
    assert facts.classes(found) == tiny.CLASSES
    described = facts.facts(found)
    assert (described["opset"], described["gelu"], described["layernorm_eps"]) == (18, ["erf"], [1e-5])


@pytest.mark.parametrize(
    ("operator", "attributes", "constant", "form"),
    [
        ("Gelu", {}, 1.0, "erf"),
        ("Gelu", {"approximate": "tanh"}, 1.0, "tanh"),
        ("Erf", {}, 1.41421, "erf"),
        ("Tanh", {}, 0.044715, "tanh"),
        ("Sigmoid", {}, 1.702, "quick"),
    ],
)
def test_every_gelu_form_is_known_again(operator: str, attributes: dict[str, Any], constant: float, form: str) -> None:
    data = small(helper.make_node(operator, ["images"], ["y"], **attributes), c=np.array(constant, np.float32))
    assert facts.facts(graph.read(data))["gelu"] == [form]


def test_counting_operators_takes_no_square_of_their_number() -> None:
    class Kind(str):
        compared = 0

        def __eq__(self, other: object) -> bool:
            Kind.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    nodes = [graph.Node(Kind(f"kind{i % 300}"), (), (), {}) for i in range(600)]
    assert sum(facts.facts(graph.Graph(opset=18, nodes=nodes))["operators"].values()) == 600  # type: ignore[attr-defined]
    assert Kind.compared < 30 * len(nodes)


def test_a_harmless_graph_is_allowed() -> None:
    assert len(engine.check(small()).nodes) == 2


def huge(kind: str, inputs: list[str], **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, ["huge"], **attributes)


LOOP = helper.make_graph([], "body", [], [])
LARGE = np.array([1 << 20, 1 << 20, 1, 1], np.int64)
BOMBS: dict[str, Callable[[], bytes]] = {
    "loop": lambda: small(helper.make_node("Loop", ["", ""], ["x"], body=LOOP)),
    "if": lambda: small(helper.make_node("If", ["images"], ["x"], then_branch=LOOP, else_branch=LOOP)),
    "operator not on the list": lambda: small(huge("ConstantOfShape", ["n"]), n=LARGE),
    "tile": lambda: small(huge("Tile", ["images", "n"]), n=LARGE),
    "foreign domain": lambda: small(helper.make_node("Run", ["images"], ["x"], domain="com.microsoft")),
    "expand": lambda: small(huge("Expand", ["images", "n"]), n=LARGE),
    "outer product": lambda: small(
        helper.make_node("Reshape", ["v", "col"], ["a"]),
        huge("Mul", ["a", "v"]),
        v=np.zeros(1 << 17, np.float32),
        col=np.array([1 << 17, 1], np.int64),
    ),
    "outer matmul": lambda: small(
        huge("MatMul", ["a", "b"]), a=np.zeros((1 << 17, 1), np.float32), b=np.zeros((1, 1 << 17), np.float32)
    ),
    "doubling": lambda: small(
        *(helper.make_node("Concat", [f"x{i}" if i else "images"] * 2, [f"x{i + 1}"], axis=0) for i in range(60))
    ),
    "gathering": lambda: small(
        *(
            node
            for i in range(8)
            for node in (
                helper.make_node("Unsqueeze", [f"x{i}", "zero"], [f"u{i}"]),
                helper.make_node("Gather", [f"u{i}", "many"], [f"x{i + 1}"], axis=0),
            )
        ),
        x0=np.zeros(64, np.int64),
        zero=np.zeros(1, np.int64),
        many=np.zeros(64, np.int64),
    ),
    "padding": lambda: small(huge("Conv", ["images", "k"], pads=[1 << 20] * 4), k=np.zeros((1, 3, 1, 1), np.float32)),
    "shapes that do not fit": lambda: small(huge("MatMul", ["w", "w"])),
    "fixed batch": lambda: made([helper.make_node("Flatten", ["images"], ["logits"])], shape=(1, 5, 1, 1)),
    "output of another shape": lambda: made([helper.make_node("Flatten", ["images"], ["logits"])]),
    "unknown shape": lambda: small(huge("Reshape", ["images", "w"])),
    "function": lambda: changed(lambda m: m.functions.append(helper.make_function("d", "f", [], [], [], []))),
    "two opsets": lambda: changed(lambda m: m.opset_import.append(helper.make_opsetid("x.y", 1))),
    "external data": lambda: changed(_external),
    "constant named as the input": lambda: small(images=np.zeros(1, np.float32)),
    "constant twice": lambda: changed(lambda m: m.graph.initializer.append(m.graph.initializer[0])),
    "two inputs": lambda: changed(lambda m: m.graph.input.append(helper.make_tensor_value_info("b", 1, [1]))),
    "two outputs of one name": lambda: small(
        helper.make_node("Relu", ["images"], ["a"]), helper.make_node("Relu", ["images"], ["a"])
    ),
    "used before made": lambda: small(helper.make_node("Relu", ["later"], ["x"])),
    "constant too short": lambda: changed(lambda m: m.graph.initializer[0].dims.__setitem__(0, 193)),
    "constant with a negative side": lambda: changed(lambda m: m.graph.initializer[0].dims.__setitem__(0, -192)),
    "constant of text": lambda: changed(lambda m: setattr(m.graph.initializer[0], "data_type", 8)),
    "sparse": lambda: changed(lambda m: m.graph.sparse_initializer.add()),
    "no graph": lambda: changed(lambda m: m.ClearField("graph")),
    "no opset": lambda: changed(lambda m: m.ClearField("opset_import")),
    "empty": lambda: b"",
    "text": lambda: b"<html>not found</html>",
    "axis": lambda: small(helper.make_node("Softmax", ["images"], ["x"]), huge("Concat", ["images"], axis=9)),
}


def _external(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


@pytest.mark.parametrize("name", BOMBS)
def test_C17_a_hostile_graph_never_reaches_an_engine(name: str) -> None:
    code_of(BOMBS[name]())


def test_C17_only_short_values_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    honest = bounds._outputs

    def seen(node: graph.Node, place: int, known: dict[str, bounds.Known]) -> list[bounds.Known]:
        found = honest(node, place, known)
        sizes.extend(item.value.size for item in found if item.value is not None)
        return found

    monkeypatch.setattr(bounds, "_outputs", seen)
    code_of(BOMBS["gathering"]())
    assert max(sizes) <= bounds.FOLLOWED


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_C17_damaged_bytes_are_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(tiny.graph())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([len(whole), len(whole) // 2, 100]))
    try:
        engine.check(bytes(whole[:cut]))
    except BundleError as error:
        assert error.code == "V505"
