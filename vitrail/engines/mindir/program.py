"""What a MINDIR file holds, read without MindSpore: its ends, and that it does only what our exports do.

MindSpore runs what it opens, so everything is refused that no export of ours has: other operators than those of
`KINDS` (some load libraries, some run text as Python), functions, graphs in attributes, other files.  Field numbers are
those of MindSpore's mind_ir.proto.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from vitrail.engines.graph import damaged
from vitrail.formats.protobuf import BYTES, FIXED32, FIXED64, VARINT, fields, signed

MAX_NODES = 65_536

# What MindSpore 2.10 makes of the operators in `operators.py`: itself, and what a graph is held together with.
KINDS = frozenset(
    (
        "Add", "BatchMatMul", "BiasAdd", "BroadcastTo", "Concat", "Conv2D", "Div", "Erf", "Gather", "LayerNorm",
        "MatMul", "MaxPool", "Mul", "PadV3", "Pow", "ReLU", "ReduceMean", "Reshape", "Shape", "Softmax", "Sqrt",
        "Square", "StridedSlice", "Sub", "Tanh", "Transpose",
        "Depend", "Load", "MakeTuple", "TupleGetItem", "UpdateState",
    )
)  # fmt: skip

_TEXTS = dict.fromkeys((1, 2, 3, 4, 5, 6), BYTES)
_MODEL = {**_TEXTS, 7: BYTES, 10: VARINT, 11: BYTES, 12: BYTES, 13: VARINT}
_GRAPH = dict.fromkeys((1, 2, 3, 4, 5, 6, 7, 8, 9), BYTES)
_NODE = dict.fromkeys((1, 2, 3, 4, 5, 6, 7, 8, 9), BYTES)
_PRIMITIVE = {1: BYTES, 2: BYTES, 3: BYTES, 4: BYTES, 5: VARINT}
_ATTRIBUTE = {
    1: BYTES, 2: FIXED32, 3: VARINT, 4: FIXED64, 5: BYTES, 6: BYTES, 10: VARINT, 11: BYTES, 12: BYTES, 14: BYTES,
    16: VARINT, 17: BYTES, 18: BYTES,
}  # fmt: skip
_TENSOR = {1: VARINT, 2: VARINT, 7: BYTES, 8: BYTES, 9: BYTES, 13: BYTES, 14: VARINT, 15: VARINT, 16: VARINT}
_VALUE = dict.fromkeys((1, 2, 3, 4, 5), BYTES)
_FLOAT32 = 1


class End(NamedTuple):
    """An input or output: name, and shape with None where it is free."""

    name: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Program:
    """The ends of a MINDIR file, and how often each operator stands in it."""

    input: End
    output: End
    operators: dict[str, int]

    @property
    def batch(self) -> int | None:
        """How many pictures it answers at once; None for any number."""
        return self.input.shape[0]

    def facts(self) -> dict[str, object]:
        """What the file says of itself, for a manifest."""
        return {"input": self.input.name, "operators": self.operators}


def read(data: bytes) -> Program:
    """What is in the bytes of a MINDIR file; BundleError V505 for everything that no export of ours holds."""
    try:
        return _read(memoryview(data))
    except (ValueError, IndexError, RecursionError) as error:
        raise damaged(str(error)) from error


def _read(data: memoryview) -> Program:
    graphs: list[memoryview] = []
    kinds: dict[str, str] = {}
    for number, value in fields(data, _MODEL):
        if number == 7:
            graphs.append(_bytes(value))
        elif number == 12:
            name, kind = _primitive(_bytes(value))
            if kind not in KINDS:
                raise ValueError(f"the operator `{kind[:40]}` is not on the list of allowed ones")
            kinds[f"REF::{name}"] = kind
    if len(graphs) != 1:
        raise ValueError(f"{len(graphs)} graphs, one is needed")
    count: Counter[str] = Counter()
    ends: dict[int, list[End]] = {5: [], 6: []}
    for number, value in fields(graphs[0], _GRAPH):
        if number == 1:
            kind = _node(_bytes(value))
            if kind != "Constant" and kind not in kinds:
                raise ValueError(f"the operator `{kind[:40]}` is not on the list of allowed ones")
            count[kinds.get(kind, kind)] += 1
        elif number == 3:
            _tensor(_bytes(value))
        elif number in ends:
            ends[number].append(_end(_bytes(value)))
        elif number == 8:
            _attribute(_bytes(value))
        if sum(ends and map(len, ends.values())) > 2 or count.total() > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} nodes, or more ends than two")
    if [len(ends[5]), len(ends[6])] != [1, 1]:
        raise ValueError("one input and one output are needed")
    program = Program(ends[5][0], ends[6][0], dict(sorted(count.items())))
    _check_ends(program)
    return program


def _check_ends(program: Program) -> None:
    images, logits = program.input.shape, program.output.shape
    if len(images) != 4 or len(logits) != 2 or images[0] != logits[0] or None in (*images[1:], *logits[1:]):
        raise ValueError(f"its ends have the shapes {images} and {logits}")


def canonical(data: bytes) -> bytes:
    """The program without what changes by chance: MindSpore notes the time and an address in it, and lists the
    operators in the order of a hash table. The names of inner values, which it joins in no fixed order, stay.
    """
    try:
        parts: dict[int, list[bytes]] = {7: [], 12: []}
        for number, value in fields(memoryview(data), _MODEL):
            body = _graph_without_phase(_bytes(value)) if number == 7 else value
            parts.setdefault(number, []).append(_field(number, body))
        parts[12].sort()
        return b"".join(part for number in sorted(parts) for part in parts[number])
    except (ValueError, IndexError) as error:
        raise damaged(str(error)) from error


def _graph_without_phase(data: memoryview) -> bytes:
    kept = []
    for number, value in fields(data, _GRAPH):
        if number == 8 and any(item == (1, b"compile_phase") for item in fields(bytes(_bytes(value)), _ATTRIBUTE)):
            continue
        kept.append(_field(number, value))
    return b"".join(kept)


def _field(number: int, value: int | bytes | memoryview) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | VARINT) + _varint(value)
    return _varint(number << 3 | BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def _primitive(data: memoryview) -> tuple[str, str]:
    found = {1: "", 2: ""}
    for number, value in fields(data, _PRIMITIVE):
        if number in found:
            found[number] = _text(value)
        elif number == 3:
            _attribute(_bytes(value))
    return found[1], found[2]


def _node(data: memoryview) -> str:
    kind = ""
    for number, value in fields(data, _NODE):
        if number == 4:
            kind = _text(value)
        elif number in (5, 8, 9):
            _attribute(_bytes(value))
    return kind


def _attribute(data: memoryview) -> None:
    """Numbers, texts, tensors, and lists of such: what holds a graph or a function is no field of `_ATTRIBUTE`."""
    for number, value in fields(data, _ATTRIBUTE):
        if number == 17:
            _attribute(_bytes(value))
        elif number in (6, 12):
            _tensor(_bytes(value))


def _tensor(data: memoryview) -> tuple[int, list[int]]:
    """Type and sides; bytes in another file are no field of `_TENSOR`."""
    kind, sides = 0, []
    for number, value in fields(data, _TENSOR):
        if number == 1:
            sides.append(signed(_number(value)))
        elif number == 2:
            kind = _number(value)
    return kind, sides


def _end(data: memoryview) -> End:
    name, tensors = "", []
    for number, value in fields(data, _VALUE):
        if number == 1:
            name = _text(value)
        elif number == 2:
            tensors.append(_tensor(_bytes(value)))
    if len(tensors) != 1 or tensors[0][0] != _FLOAT32 or min(tensors[0][1], default=0) < -1:
        raise ValueError(f"its end `{name[:40]}` is not one float32 tensor")
    return End(name, tuple(None if side == -1 else side for side in tensors[0][1]))


def _bytes(value: int | memoryview) -> memoryview:
    assert not isinstance(value, int), "the wire type was checked"
    return value


def _number(value: int | memoryview) -> int:
    assert isinstance(value, int), "the wire type was checked"
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_bytes(value)).decode()
