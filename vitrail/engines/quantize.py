"""The layers of a graph that can be computed in 8 bits, and one interface to the quantizers of two engines."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitrail.bundle.formats import Form
from vitrail.engines import graph, onnx
from vitrail.engines.facts import PRODUCTS
from vitrail.engines.graphs import as_written
from vitrail.engines.table import Written

Pictures = Sequence[NDArray[np.generic]]  # batches as the graph takes them


class Layer(NamedTuple):
    """A product with constant weights: the node of the graph, and the name of its weights in the network."""

    node: str
    weight: str


def layers(data: bytes, tensors: Mapping[str, NDArray[np.generic]]) -> tuple[Layer, ...]:
    """The layers of an ONNX graph of ours, in its order. tensors: the network's, by which their weights are named;
    an exporter may transpose them, and then calls them otherwise. Products of two values, as attention has them, are
    none: they cost more accuracy than time.
    """
    found = graph.read(data)
    named: dict[tuple[tuple[int, ...], bytes], list[str]] = {}
    for name, array in tensors.items():
        for form in (array, array.T) if array.ndim == 2 else (array,):
            named.setdefault((form.shape, form.tobytes()), []).append(name)

    def weight(constant: str) -> str:
        array = found.constants[constant].array()
        same = named.get((array.shape, array.tobytes()), [])
        return (same.pop(0) if len(same) > 1 else same[0]) if same else constant

    return tuple(
        Layer(node.name, weight(node.inputs[1]))
        for node in found.nodes
        if node.kind in PRODUCTS and node.inputs[1] in found.constants
    )


class Quantizer:
    """Writes an ONNX graph of ours in a format with any of its layers in 8 bits, calibrated on the same pictures."""

    def __init__(self, data: bytes, format: str, form: Form, pictures: Pictures) -> None:
        self._data = data
        self._format = format
        self._form = form
        self._pictures = pictures

    @cached_property
    def _ranges(self) -> object:
        return onnx.calibrated(self._data, self._pictures)

    def written(self, layers: Collection[Layer], left: Collection[Layer]) -> Written:
        """The graph with all of `layers` in 8 bits but those `left`. UsageError V003 when a package is absent."""
        chosen = [layer for layer in layers if layer not in left]
        if self._format == "openvino":
            from vitrail.engines import openvino

            nodes = {layer.node for layer in chosen}
            return openvino.write_int8(self._data, self._form, pictures=self._pictures, nodes=nodes)
        return as_written(self._in_int8(chosen), self._form)

    def ranked(self, layers: Sequence[Layer], count: int) -> list[Layer]:
        """The layers, first the one that alone in 8 bits moves the logits of `count` pictures most, by their mean.

        Asked of ONNX Runtime, which calibrates once for all of them, whatever the format.
        """
        places = np.linspace(0, len(self._pictures) - 1, min(count, len(self._pictures))).astype(int).tolist()
        asked = [self._pictures[place] for place in places]
        source = onnx.open(self._data)
        wanted = [source.logits(batch) for batch in asked]
        moved: dict[Layer, float] = {}
        for layer in layers:
            runner = onnx.open(self._in_int8([layer]))
            gaps = [np.abs(runner.logits(batch) - rows).mean() for batch, rows in zip(asked, wanted, strict=True)]
            moved[layer] = float(np.mean(gaps))
        return sorted(layers, key=lambda layer: -moved[layer])

    def _in_int8(self, layers: Collection[Layer]) -> bytes:
        return onnx.quantized(self._data, self._ranges, [layer.node for layer in layers])
