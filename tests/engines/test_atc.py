"""What ATC is told of our graphs: none has an operator that its lists do not name."""

from __future__ import annotations

import dataclasses
import shlex

import pytest

from tests.bundle import tiny
from tests.engines.networks import graph
from tests.engines.test_mindir_cell import ALL
from vitrail.bundle.formats import Form
from vitrail.engines import atc, bounds, onnx
from vitrail.engines import graph as graphs
from vitrail.engines import graphs as written
from vitrail.errors import BundleError


@pytest.mark.parametrize("name", ALL)
def test_every_kind_of_network_is_listed(name: str) -> None:
    found = onnx.check(graph(name))
    assert found.opset in atc.OPSETS and {node.kind for node in found.nodes}
    assert atc.unlisted(found) == []


def test_the_table_is_of_operators_that_our_graphs_may_have_and_holds_all_of_the_plain_ones() -> None:
    assert atc.LISTED.keys() <= bounds.RULES.keys()
    assert bounds.RULES.keys() - atc.LISTED.keys() == {"Gelu", "QuantizeLinear", "DequantizeLinear", "TopK"}


def test_the_command_in_full() -> None:
    line = atc.command(onnx.check(graph("beit")), "engines/onnx-fp32/model.onnx", batch=4)
    assert shlex.split(line.replace("<soc_version>", "Ascend310P3")) == [
        "atc",
        "--framework=5",
        "--model=engines/onnx-fp32/model.onnx",
        "--output=model",
        "--input_format=NCHW",
        "--input_shape=images:4,3,16,24",
        "--soc_version=Ascend310P3",
    ]
    assert "images:1,3,16,24" in atc.command(onnx.check(graph("beit")), "model.onnx")


def test_the_manifest_carries_the_command_of_float32_graphs_of_images() -> None:
    source = tiny.classifier("vit_lite")
    found = written.write(source, "onnx", Form(batch=2)).facts["atc"]
    assert found == atc.command(onnx.check(tiny.graph("vit_lite")), "model.onnx", batch=2)
    assert "atc" not in written.write(source, "onnx", Form(takes="pixels")).facts


def test_other_operators_and_opsets_are_named() -> None:
    found = onnx.check(graph("beit"))
    strange = dataclasses.replace(found, opset=20, nodes=[*found.nodes, graphs.Node("Gelu", (), (), {})])
    assert atc.unlisted(strange) == ["Gelu", "opset 20"]
    with pytest.raises(BundleError) as caught:
        atc.command(strange, "model.onnx")
    assert caught.value.code == "V508" and "Gelu, opset 20" in caught.value.what
