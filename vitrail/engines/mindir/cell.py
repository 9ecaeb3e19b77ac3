"""An ONNX graph of ours as the source text of one `nn.Cell`: what MindSpore compiles and writes as MINDIR.

`operators.py` has the expressions.  Shapes are known beforehand, for two batches, and a side
that differs is the batch: so no arithmetic with shapes is left in the text, and every reshape stands there in numbers.
Nothing of the graph's own strings is in the text: its values are v0, v1, ..., its constants self.p0, self.p1, ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from vitrail.engines.bounds import BATCH, Known, follow
from vitrail.engines.graph import Graph, Node
from vitrail.engines.mindir.operators import RULES, Shape, Site
from vitrail.errors import BundleError

HEAD = """\
from mindspore import Parameter, Tensor, nn, ops

add, sub, mul, div = ops.Add(), ops.Sub(), ops.Mul(), ops.Div()
matmul, batch_matmul, bias_add = ops.MatMul(), ops.BatchMatMul(), ops.BiasAdd()


def tanh(x):
    # Of the half, by the double angle: on a processor, MindSpore's own is 1e-4 off near 5, and its sigmoid 8e-7.
    t = ops.tanh(mul(x, 0.5))
    return div(mul(t, 2.0), add(mul(t, t), 1.0))


def sigmoid(x):
    return add(mul(tanh(mul(x, 0.5)), 0.5), 0.5)


class Network(nn.Cell):
    def __init__(self, constants, names):
        super().__init__()
"""
CONSTANT = "        self.p{0} = Parameter(Tensor(constants[{0}]), name=names[{0}], requires_grad=False)\n"


class Cell(NamedTuple):
    """The text of a module that has the class `Network(constants, names)`, and its constants by their names."""

    text: str
    constants: dict[str, NDArray[np.generic]]


def cell(graph: Graph, *, batch: int | None = None) -> Cell:
    """A graph that `onnx.check` has let pass, as a cell for a fixed batch, or for any with None.

    BundleError V508 for an operator, or a form of it, that is not written for MindSpore.
    """
    writer = _Writer(follow(graph), follow(graph, BATCH + 1), batch)
    writer.words[graph.inputs[0].name] = "images"
    for name, tensor in graph.constants.items():
        writer.constant(name, tensor.array())
    for place, node in enumerate(graph.nodes):
        try:
            writer.write(node)
        except (KeyError, ValueError) as error:
            raise BundleError(
                "V508",
                f"the network cannot be written for MindSpore: node {place} ({node.kind[:40]}): {error}",
                hint="export it as onnx, and report the variant",
            ) from error
    return writer.cell(graph.outputs[0].name)


# Places in a table (the relative biases of BEiT) are put together from integers, more than `bounds` follows.
_FOLDED: dict[str, Callable[[Node, list[NDArray[np.int64]]], NDArray[np.int64]]] = {
    "Add": lambda node, given: given[0] + given[1],
    "Concat": lambda node, given: np.concatenate(given, cast("int", node.attributes["axis"])),
    "Sub": lambda node, given: given[0] - given[1],
}


@dataclass
class _Writer:
    """The text so far.  low, high: what is known of every value for BATCH pictures, and for one more."""

    low: dict[str, Known]
    high: dict[str, Known]
    batch: int | None
    words: dict[str, str] = field(default_factory=dict)
    constants: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    integers: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def constant(self, name: str, array: NDArray[np.generic]) -> None:
        """A single number stands in the text itself; integers are shapes and places, which are known beforehand."""
        if array.dtype == np.int64:
            self.integers[name] = array.astype(np.int64)
        if array.dtype != np.float32:
            return
        if array.ndim == 0:
            self.words[name] = repr(float(array))  # as the float64 that float32 means, it comes back the same
        else:
            self.words[name] = f"self.p{len(self.constants)}"
            self.constants[name] = array

    def write(self, node: Node) -> None:
        """The node as lines; none where its outputs are integers that are known beforehand."""
        if all(self.low[name].value is not None for name in node.outputs):
            return
        if node.kind in _FOLDED and all(name in self.integers for name in node.inputs):
            self.integers[node.outputs[0]] = _FOLDED[node.kind](node, [self.integers[name] for name in node.inputs])
            return
        if node.kind not in RULES:
            raise ValueError("an operator without a counterpart")
        inputs = list(node.inputs)
        while inputs and not inputs[-1]:  # what may be left out stands last
            inputs.pop()
        site = Site(
            node,
            [self._word(name, table=node.kind == "Gather") for name in inputs],
            [self._shape(name) for name in inputs],
            [self._value(name) for name in inputs],
            [self._shape(name) for name in node.outputs],
        )
        for name, expression in zip(node.outputs, RULES[node.kind](site), strict=True):
            self.words[name] = f"v{len(self.lines)}"
            self.lines.append(f"        {self.words[name]} = {expression}\n")

    def _shape(self, name: str) -> Shape:
        sides: list[int | None] = []
        for low, high in zip(self.low[name].shape, self.high[name].shape, strict=True):
            factor = high - low
            if factor and low != factor * BATCH:
                raise ValueError("a side that does not grow with the batch")
            sides.append(low if not factor else None if self.batch is None else factor * self.batch)
        return tuple(sides)

    def _word(self, name: str, *, table: bool) -> str:
        """What stands for a value: nothing for integers that stand in numbers, a constant for those of a table."""
        value = self.low[name].value
        if name not in self.words and (value is None or (table and value.ndim)):
            self.words[name] = f"self.p{len(self.constants)}"
            self.constants[name] = (self.integers[name] if value is None else value).astype(np.int32)
        return self.words.get(name, "")

    def _value(self, name: str) -> NDArray[np.int64] | None:
        low, high = self.low[name].value, self.high[name].value
        return low if low is not None and high is not None and np.array_equal(low, high) else None

    def cell(self, output: str) -> Cell:
        """The whole module."""
        made = "".join(CONSTANT.format(place) for place in range(len(self.constants)))
        body = "".join(self.lines)
        text = f"{HEAD}{made}\n    def construct(self, images):\n{body}        return {self.words[output]}\n"
        return Cell(text, self.constants)
