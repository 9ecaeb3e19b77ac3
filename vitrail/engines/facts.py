"""What a graph itself says of the things that exporters get wrong: GELU, epsilons, class order, operators."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vitrail.engines.graph import Graph, Value, damaged
from vitrail.engines.table import Said
from vitrail.models.configs import CCT_EPS, GROUP_EPS, CCTConfig, ModelConfig, ViTConfig

CLASSES_KEY = "vitrail.classes"
PRODUCTS = ("Conv", "Gemm", "MatMul")  # of ONNX, what is computed in 8 bits where a graph is quantised
GELU_CONSTANTS = {"tanh": 0.044715, "quick": 1.702}

DECIDED = ("gelu", "layernorm_eps", "groupnorm_eps")  # the facts that a config decides

# kind of a normalisation in a graph: its fact. A group norm is written as an instance norm between two reshapes.
_EPSILONS = {"LayerNormalization": "layernorm_eps", "InstanceNormalization": "groupnorm_eps"}


def facts(graph: Graph) -> dict[str, object]:
    """What the graph itself says of the things that exporters get wrong.

    opset; gelu: the forms met (erf, tanh, quick); layernorm_eps, groupnorm_eps: every epsilon, the latter only where
    there is a group norm; operators: kind -> count; int8: how many layers compute in 8 bits, where there are any.
    """
    epsilons: dict[str, set[float]] = {"layernorm_eps": set()}
    for node in graph.nodes:
        if node.kind in _EPSILONS:
            found = in_float32(_number(node.attributes.get("epsilon"), 1e-5))
            epsilons.setdefault(_EPSILONS[node.kind], set()).add(found)
    return {
        "opset": graph.opset,
        "gelu": sorted(_gelu_forms(graph)),
        **{name: sorted(values) for name, values in epsilons.items()},
        "operators": dict(sorted(Counter(node.kind for node in graph.nodes).items())),
        **({"int8": short} if (short := _in_int8(graph)) else {}),
    }


def _in_int8(graph: Graph) -> int:
    """Products whose weights are stored in 8 bits."""
    weights = {
        node.outputs[0] for node in graph.nodes if node.kind == "DequantizeLinear" and node.inputs[0] in graph.constants
    }
    return sum(node.kind in PRODUCTS and node.inputs[1] in weights for node in graph.nodes)


def wanted(config: ModelConfig) -> dict[str, object]:
    """What a graph of that config must say of itself: the keys of `facts` that a config decides.

    >>> wanted(ViTConfig(image_size=(32, 32), gelu="tanh"))
    {'gelu': ['tanh'], 'layernorm_eps': [1e-06]}
    """
    eps = CCT_EPS if isinstance(config, CCTConfig) else config.eps
    found: dict[str, object] = {"gelu": [config.gelu], "layernorm_eps": [in_float32(eps)]}
    if isinstance(config, ViTConfig) and config.stem == "resnet":
        found["groupnorm_eps"] = [GROUP_EPS[config.stem_numerics]]
    return found


def said(graph: Graph) -> Said:
    """What an ONNX graph says of itself."""
    return Said(facts(graph), classes(graph))


def norm_eps(said: Mapping[str, object]) -> list[float]:
    """The epsilons of all norms together, for a graph that does not tell one kind from another.

    >>> norm_eps({"gelu": ["erf"], "layernorm_eps": [1e-06], "groupnorm_eps": [1e-05]})
    [1e-06, 1e-05]
    """
    lists = [value for name, value in said.items() if name.endswith("norm_eps") and isinstance(value, list)]
    return sorted({float(eps) for found in lists for eps in found})


def in_float32(number: float) -> float:
    """The number as a graph can hold it, in the shortest digits that mean it."""
    return float(str(np.float32(number)))


def classes(graph: Graph) -> tuple[str, ...]:
    """The class names that were written into the graph, in the order of the logits; none for a foreign graph."""
    return class_names(graph.metadata.get(CLASSES_KEY, "[]"))


def class_names(text: str) -> tuple[str, ...]:
    """The names in a JSON list, as graphs carry them; BundleError V505 for another text."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise damaged(f"its {CLASSES_KEY} are no JSON") from None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise damaged(f"its {CLASSES_KEY} are no list of names")
    return tuple(found)


def _gelu_forms(graph: Graph) -> set[str]:
    """Gelu nodes by their attribute, and the patterns in which it is written out."""
    forms = {
        "tanh" if node.attributes.get("approximate") == b"tanh" else "erf"
        for node in graph.nodes
        if node.kind == "Gelu"
    }
    numbers = [float(np.asarray(c, np.float64).reshape(-1)[0]) for c in _scalars(graph)]
    return forms | written_out({node.kind for node in graph.nodes}, numbers)


def written_out(kinds: Collection[str], numbers: Sequence[float]) -> set[str]:
    """Forms of GELU by the operator that they need together with the constant it comes with.

    >>> written_out({"Tanh", "Mul"}, [0.5, 0.044715])
    {'tanh'}
    """
    forms = {"erf"} if "Erf" in kinds else set()
    for name, kind in (("tanh", "Tanh"), ("quick", "Sigmoid")):
        close = (math.isclose(number, GELU_CONSTANTS[name], rel_tol=1e-3) for number in numbers)
        if kind in kinds and any(close):
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
