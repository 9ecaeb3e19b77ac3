"""What an ONNX file holds, read without the onnx package, within bounds.

Everything is refused that an exported network never has and that could reach other files, run code or loop: external
data, subgraphs, functions, foreign operator domains.  Field numbers are those of onnx/onnx.proto3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import BundleError

MAX_NODES = 65_536
MAX_TENSORS = 65_536
WINDOW, NEAR = 4096, 1 << 16  # bytes of a large file that are read at a time; larger parts stay where they are

# TensorProto.DataType -> NumPy type, of the types that our graphs hold
TYPES = {1: "<f4", 2: "|u1", 3: "|i1", 6: "<i4", 7: "<i8", 9: "|b1", 10: "<f2", 11: "<f8"}

FLOAT, UINT8, INT64 = 1, 2, 7

Value = int | float | bytes | list[int] | list[float] | NDArray[np.generic] | None


class Far:
    """Bytes of a held file, read when they are looked at: a graph's weights never are, only what stands around them."""

    def __init__(self, read: Callable[[int, int], bytes], start: int, end: int) -> None:
        self._read = read  # (offset, length) -> bytes
        self._start, self._end = start, end
        self._window, self._window_at = b"", start

    def __len__(self) -> int:
        return self._end - self._start

    def __bytes__(self) -> bytes:
        return self._read(self._start, len(self))

    def byte(self, at: int) -> int:
        """One of them."""
        place = self._start + at
        if not 0 <= place - self._window_at < len(self._window):
            self._window_at, self._window = place, self._read(place, min(WINDOW, self._end - place))
        return self._window[place - self._window_at]

    def part(self, start: int, end: int) -> View:
        """Some of them: a small part is read, of a large one not a byte."""
        if end - start > NEAR:
            return Far(self._read, self._start + start, self._start + end)
        return memoryview(self._read(self._start + start, end - start))


View = memoryview | Far


class Tensor(NamedTuple):
    """A constant of the graph: type number, shape, and its bytes in the file."""

    name: str
    kind: int
    shape: tuple[int, ...]
    data: View

    def array(self) -> NDArray[np.generic]:
        """The constant as a read-only array."""
        return np.frombuffer(_near(self.data), TYPES[self.kind]).reshape(self.shape)


class Ends(NamedTuple):
    """An input or output: name, type number, and shape with None where it is free."""

    name: str
    kind: int
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Node:
    """One operation."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Value]
    name: str = ""


@dataclass
class Graph:
    """The content of one ONNX file."""

    opset: int = 0
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Tensor] = field(default_factory=dict)
    inputs: list[Ends] = field(default_factory=list)
    outputs: list[Ends] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)


def damaged(what: str) -> BundleError:
    """V505: a graph that no engine of ours is given."""
    return BundleError("V505", f"the graph is refused: {what}", hint="export the model again")


def read(data: bytes | Far) -> Graph:
    """The graph in an ONNX file; BundleError V505 for everything that our exporter does not write."""
    graph = Graph()
    bodies = []
    for number, value in _fields(data if isinstance(data, Far) else memoryview(data)):
        if number == 7:
            bodies.append(_message(value))
        elif number == 8:
            _opset(graph, _message(value))
        elif number == 14:
            _entry(graph, _message(value))
        elif number in (20, 25):
            raise damaged("it holds functions or training steps")
    if len(bodies) != 1 or graph.opset < 1:
        raise damaged("it holds no graph, or no version of the standard operators")
    _body(graph, bodies[0])
    _check_names(graph)
    return graph


def _opset(graph: Graph, view: View) -> None:
    domain, version = "", 0
    for number, value in _fields(view):
        if number == 1:
            domain = _text(value)
        elif number == 2:
            version = _integer(value)
    if domain not in ("", "ai.onnx") or graph.opset or not 1 <= version <= 1000:
        raise damaged(f"operators of the domain `{domain[:40]}`, version {version}")
    graph.opset = version


def _entry(graph: Graph, view: View) -> None:
    texts = {number: _text(value) for number, value in _fields(view)}
    key = texts.get(1, "")
    if key in graph.metadata:
        raise damaged(f"the metadata key `{key[:40]}` stands twice")
    graph.metadata[key] = texts.get(2, "")


def _body(graph: Graph, view: View) -> None:
    for number, value in _fields(view):
        if number == 1:
            graph.nodes.append(_node(_message(value)))
        elif number == 5:
            tensor = _tensor(_message(value))
            if tensor.name in graph.constants or not tensor.name:
                raise damaged(f"the constant `{tensor.name[:40]}` stands twice")
            graph.constants[tensor.name] = tensor
        elif number == 11:
            graph.inputs.append(_ends(_message(value)))
        elif number == 12:
            graph.outputs.append(_ends(_message(value)))
        elif number in (14, 15):
            raise damaged("it holds quantization or sparse tensors")
        if len(graph.nodes) > MAX_NODES or len(graph.constants) > MAX_TENSORS:
            raise damaged(f"more than {MAX_NODES} nodes or {MAX_TENSORS} constants")


def _check_names(graph: Graph) -> None:
    """Every value is made once, before its use; there is one input, and one output or three."""
    if len(graph.inputs) != 1 or len(graph.outputs) not in (1, 3):
        raise damaged(f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs: one is needed, and one or three")
    known = {graph.inputs[0].name, *graph.constants}
    if graph.inputs[0].name in graph.constants:
        raise damaged("its input is also a constant")
    for node in graph.nodes:
        missing = [name for name in node.inputs if name and name not in known]
        doubled = [name for name in node.outputs if name in known]
        if missing or doubled:
            raise damaged(f"`{(missing or doubled)[0][:40]}` is used before it is made, or made twice")
        known.update(name for name in node.outputs if name)
    if not {end.name for end in graph.outputs} <= known:
        raise damaged("its output is never made")


def _node(view: View) -> Node:
    inputs, outputs, name, kind, domain = [], [], "", "", ""
    attributes: dict[str, Value] = {}
    for number, value in _fields(view):
        if number == 1:
            inputs.append(_text(value))
        elif number == 2:
            outputs.append(_text(value))
        elif number == 3:
            name = _text(value)
        elif number == 4:
            kind = _text(value)
        elif number == 5:
            key, content = _attribute(_message(value))
            if key in attributes:
                raise damaged(f"the attribute `{key[:40]}` stands twice")
            attributes[key] = content
        elif number == 7:
            domain = _text(value)
    if domain not in ("", "ai.onnx"):
        raise damaged(f"the operator `{kind[:40]}` of the domain `{domain[:40]}` is not on the list of allowed ones")
    if not outputs:
        raise damaged(f"the operator `{kind[:40]}` has no output")
    return Node(kind, tuple(inputs), tuple(outputs), attributes, name)


def _attribute(view: View) -> tuple[str, Value]:
    name = ""
    content: Value = None
    floats: list[float] = []
    integers: list[int] = []
    for number, value in _fields(view):
        if content is not None and number in (2, 3, 4, 5):
            raise damaged(f"the attribute `{name[:40]}` has two values")
        if number == 1:
            name = _text(value)
        elif number == 2:
            content = _single(value)
        elif number == 3:
            content = _integer(value)
        elif number == 4:
            content = bytes(_message(value))
        elif number == 5:
            content = _tensor(_message(value)).array()
        elif number == 7:
            floats += np.frombuffer(_near(_packed(value)), "<f4").tolist()
        elif number == 8:
            integers += _integers(value)
        elif number not in (13, 20):  # doc string, type: all else are graphs, references, sparse tensors, lists of them
            raise damaged(f"the attribute `{name[:40]}` holds a subgraph, a reference or a list of tensors")
    return name, (floats or integers) if content is None else content


def _tensor(view: View) -> Tensor:
    name, kind, shape = "", 0, list[int]()
    parts: list[bytes | View] = []
    for number, value in _fields(view):
        if number == 1:
            shape += _integers(value)
        elif number == 2:
            kind = _integer(value)
        elif number == 8:
            name = _text(value)
        elif number == 9:
            parts.append(_message(value))
        elif number == 4:
            parts.append(_packed(value))
        elif number == 7:
            parts.append(np.array(_integers(value), np.int64).tobytes())
        elif number == 13 or (number == 14 and value != 0):
            raise damaged(f"the constant `{name[:40]}` lies in another file")
        elif number in (3, 5, 6, 10, 11):
            raise damaged(f"the constant `{name[:40]}` is split, or stored in a way that our exporter does not use")
    data = parts[0] if len(parts) == 1 else b"".join(map(_near, parts))
    data = memoryview(data) if isinstance(data, bytes) else data
    if kind not in TYPES or len(shape) > 8 or any(side < 0 for side in shape):
        raise damaged(f"the constant `{name[:40]}` has the type {kind} and the shape {shape[:9]}")
    if math.prod(shape) * np.dtype(TYPES[kind]).itemsize != len(data):
        raise damaged(f"the constant `{name[:40]}` of shape {shape} has {len(data)} bytes")
    return Tensor(name, kind, tuple(shape), data)


def _ends(view: View) -> Ends:
    name, kind, shape = "", 0, list[int | None]()
    for number, value in _fields(view):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for what, tensor in _fields(_message(value)):
                if what != 1:
                    raise damaged(f"`{name[:40]}` is no tensor")
                for part, content in _fields(_message(tensor)):
                    if part == 1:
                        kind = _integer(content)
                    elif part == 2:
                        shape += [_side(_message(side)) for _, side in _fields(_message(content))]
    return Ends(name, kind, tuple(shape))


def _side(view: View) -> int | None:
    return next((_integer(value) for number, value in _fields(view) if number == 1), None)


def _near(view: bytes | View) -> bytes | memoryview:
    return bytes(view) if isinstance(view, Far) else view


def _fields(view: View) -> Iterator[tuple[int, int | View]]:
    """The fields of one message: (number, value), value an integer for varints and a view for all else."""
    at, end = 0, len(view)
    while at < end:
        key, at = _varint(view, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(view, at)
            yield number, value
            continue
        if wire == 2:
            length, at = _varint(view, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise damaged(f"no wire type is called {wire}")
        if number == 0 or length > end - at:
            raise damaged("a field leads beyond its end")
        yield number, view.part(at, at + length) if isinstance(view, Far) else view[at : at + length]
        at += length


def _varint(view: View, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            break
        byte = view.byte(at) if isinstance(view, Far) else view[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, at
    raise damaged("a number leads beyond its end")


def _message(value: int | View) -> View:
    if isinstance(value, int):
        raise damaged("a number stands where a message is needed")
    return value


def _text(value: int | View) -> str:
    try:
        return bytes(_message(value)).decode()
    except UnicodeDecodeError:
        raise damaged("a name is no UTF-8") from None


def _integer(value: int | View) -> int:
    if not isinstance(value, int):
        raise damaged("a message stands where a number is needed")
    return value - (1 << 64) if value >> 63 else value


def _integers(value: int | View) -> list[int]:
    if isinstance(value, int):
        return [_integer(value)]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(_integer(number))
    return found


def _packed(value: int | View) -> View:
    view = _message(value)
    if len(view) % 4:
        raise damaged("a list of numbers is cut")
    return view


def _single(value: int | View) -> float:
    view = _message(value)
    if len(view) != 4:
        raise damaged("a number is cut")
    return float(np.frombuffer(_near(view), "<f4")[0])
