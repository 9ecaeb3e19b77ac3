"""What a graph itself says of the things that exporters get wrong: GELU, epsilons, class order, operators."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vitrail.engines.graph import Graph, Value, damaged

CLASSES_KEY = "vitrail.classes"
_GELU_CONSTANTS = {"tanh": 0.044715, "quick": 1.702}


def facts(graph: Graph) -> dict[str, object]:
    """What the graph itself says of the things that exporters get wrong.

    opset; gelu: the forms met (erf, tanh, quick); layernorm_eps: every epsilon; operators: kind -> count.
    """
    epsilons = {
        float(str(np.float32(_number(node.attributes.get("epsilon"), 1e-5))))
        for node in graph.nodes
        if node.kind == "LayerNormalization"
    }
    return {
        "opset": graph.opset,
        "gelu": sorted(_gelu_forms(graph)),
        "layernorm_eps": sorted(epsilons),
        "operators": dict(sorted(Counter(node.kind for node in graph.nodes).items())),
    }


def classes(graph: Graph) -> tuple[str, ...]:
    """The class names that were written into the graph, in the order of the logits; none for a foreign graph."""
    try:
        found = json.loads(graph.metadata.get(CLASSES_KEY, "[]"))
    except (ValueError, RecursionError):
        raise damaged(f"its {CLASSES_KEY} are no JSON") from None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise damaged(f"its {CLASSES_KEY} are no list of names")
    return tuple(found)


def _gelu_forms(graph: Graph) -> set[str]:
    """Gelu nodes by their attribute, and the patterns by the operator together with the constant it comes with."""
    forms = set()
    numbers = [float(np.asarray(c, np.float64).reshape(-1)[0]) for c in _scalars(graph)]
    for node in graph.nodes:
        if node.kind == "Gelu":
            forms.add("tanh" if node.attributes.get("approximate") == b"tanh" else "erf")
        elif node.kind == "Erf":
            forms.add("erf")
    for name, kind in (("tanh", "Tanh"), ("quick", "Sigmoid")):
        if any(node.kind == kind for node in graph.nodes) and any(
            math.isclose(number, _GELU_CONSTANTS[name], rel_tol=1e-3) for number in numbers
        ):
            forms.add(name)
    return forms


def _scalars(graph: Graph) -> Iterator[NDArray[np.generic]]:
    for tensor in graph.constants.values():
        if math.prod(tensor.shape) == 1 and tensor.kind in (1, 10, 11):
            yield tensor.array()
    for node in graph.nodes:
        value = node.attributes.get("value")
        if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind == "f":
            yield value


def _number(value: Value, default: float) -> float:
    return value if isinstance(value, float) else default
