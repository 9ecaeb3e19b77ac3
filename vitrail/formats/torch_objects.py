"""What the pickles of torch name, as plain values: storages, tensors over them, and what scripts save beside weights.

A tensor is (storage, offset, size, stride); its bytes are cut out of its storage here, by own checked arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vitrail.formats import pickled_numpy
from vitrail.formats.bounds import check_shape, damaged, hostile
from vitrail.formats.pickles import Builder, Rules
from vitrail.formats.stored import DTYPES, Stored, bools_are_bits

_STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip
_UNTYPED = "UntypedStorage"
_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
_SPARE = 32 << 20  # bytes that strided copies may take beyond the file's own; with the reader's, C7 allows 64 MiB


@dataclass(frozen=True)
class Storage:
    """The bytes that tensors are views of.  dtype: None for an untyped one, whose tensors say their own."""

    dtype: str | None
    data: memoryview


@dataclass(frozen=True)
class Declared:
    """What a pickle says of a storage; where it was (cpu, cuda:0, mps) does not matter to its bytes."""

    kind: str
    key: str
    count: int

    @property
    def dtype(self) -> str | None:
        """The type of its elements, None when untyped."""
        return _STORAGES.get(self.kind)

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.count * (DTYPES[self.dtype][0] if self.dtype else 1)


def declared(identity: object, where: object) -> Declared:
    """The storage that a persistent id names, of either form; WeightsError V201 for anything else."""
    match identity:
        case ("storage", str() as kind, str() as key, str(), int() as count, *view) if (
            kind in (*_STORAGES, _UNTYPED) and view in ([], [None]) and count >= 0
        ):
            return Declared(kind, key, count)
    raise damaged(where, "a reference to a storage is not understood")


def rules(
    storage: Callable[[object], Storage], tensor: Callable[[tuple[object, ...]], Stored], *, program: bool = False
) -> Rules:
    """What a file of torch.save may hold.  storage: gives one for a persistent id; tensor: for a tensor's arguments.

    program: what TorchScript may hold: objects of the classes that its code declares, as dicts of their attributes.
    """
    made = Builder(tensor)
    tensors = {("torch._utils", f"_rebuild_tensor{suffix}"): made for suffix in ("", "_v2", "_v3")}
    parameter = {("torch._utils", "_rebuild_parameter"): Builder(_parameter)}
    if program:
        own = {"__torch__": Builder(_declared, _its_attributes, bare=True)}
        return Rules({**_SCRIPTED, **tensors}, own, persistent=storage, leaves=(Stored,))
    return Rules({**_BUILDERS, **tensors, **parameter}, persistent=storage, leaves=(Stored,))


class Views:
    """Tensors cut out of the storages of one file."""

    def __init__(self, where: object, size: int) -> None:
        self._where = where
        self._size = size
        self._copied = 0

    def tensor(self, arguments: tuple[object, ...]) -> Stored:
        """The tensor of a call; ValueError where the arguments are not those of one that lies inside its storage."""
        match arguments:
            case (Storage() as storage, int() as offset, tuple() as size, tuple() as stride):
                word = None
            case (Storage() as storage, int() as offset, tuple() as size, tuple() as stride, bool(), {}, *rest) if (
                arguments[5] == {} and len(rest) <= 2
            ):
                word = rest[0] if rest else None
            case _:
                raise ValueError("a tensor is not understood, or carries hooks")
        dtype = storage.dtype or _DTYPES.get(word.removeprefix("torch.") if isinstance(word, str) else "")
        if dtype is None:
            raise ValueError("a tensor has no plain number type")
        shape = check_shape(size, self._size, self._where)
        steps = tuple(step for step in stride if type(step) is int and step >= 0)
        if len(steps) != len(shape) or len(stride) != len(shape) or offset < 0:
            raise ValueError("a tensor has an impossible stride or offset")
        return self._sliced(storage.data, dtype, offset, shape, steps)

    def _sliced(
        self, data: memoryview, dtype: str, offset: int, shape: tuple[int, ...], steps: tuple[int, ...]
    ) -> Stored:
        """The tensor's bytes: a slice of its storage, or a copy where the strides are not those of C order."""
        width, code = DTYPES[dtype]
        count = math.prod(shape)
        last = offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) if count else offset
        if (last + 1 if count else offset) * width > len(data):
            raise ValueError(f"a tensor of shape {shape} reaches beyond its storage of {len(data)} bytes")
        if _is_c_order(shape, steps) or not count:
            found = data[offset * width : (offset + count) * width]
        else:
            self._copied += count * width
            if self._copied > self._size * 1.05 + _SPARE:
                raise hostile(self._where, "its tensors expand to far more than the file")
            flat = np.frombuffer(data, code)[offset:]
            inner = tuple(step * width if n > 1 else 0 for n, step in zip(shape, steps, strict=True))
            strided = np.lib.stride_tricks.as_strided(flat, shape, inner, writeable=False)
            found = memoryview(strided.tobytes())
        if dtype == "BOOL" and not bools_are_bits(found):
            raise ValueError("a BOOL tensor holds bytes other than 0 and 1")
        return Stored(dtype, shape, found)


def _is_c_order(shape: tuple[int, ...], steps: tuple[int, ...]) -> bool:
    expected = 1
    for n, step in zip(reversed(shape), reversed(steps), strict=True):
        if n != 1 and step != expected:
            return False
        expected *= n
    return True


def _parameter(arguments: tuple[object, ...]) -> Stored:
    match arguments:
        case (Stored() as tensor, bool(), {}) if arguments[2] == {}:
            return tensor
    raise ValueError("a parameter is not understood, or carries hooks")


def _dict(arguments: tuple[object, ...]) -> dict[object, object]:
    match arguments:
        case ():
            return {}
        case (dict() as items,):
            return dict(items)
        case (list() as pairs,):
            found: dict[object, object] = {}
            for pair in pairs:
                match pair:
                    case [str() | int() as key, item] if key not in found:
                        found[key] = item
                    case _:
                        raise ValueError("the pairs of a dict are not understood")
            return found
    raise ValueError("a dict is not understood")


def _list(arguments: tuple[object, ...]) -> list[object]:
    match arguments:
        case ():
            return []
        case (list() | tuple() as items,):
            return list(items)
    raise ValueError("a set is not understood")


def _attributes(value: object, state: object) -> object:
    assert isinstance(value, dict)
    if value or not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise ValueError("the attributes of a namespace are not understood")
    value.update(state)
    return value


def _declared(arguments: tuple[object, ...]) -> object:
    """An object of a class that a program declares, before its attributes; or a member of an enumeration."""
    match arguments:
        case ():
            return {}
        case (str() | int() as value,):
            return value
    raise ValueError("an object of the program is not understood")


def _its_attributes(value: object, state: object) -> object:
    if not isinstance(value, dict):
        raise ValueError("a member of an enumeration is given attributes")
    return _attributes(value, state)


def _without_attributes(value: object, state: object) -> object:
    """An OrderedDict from Module.state_dict() carries `_metadata`, the versions of its layers: no weights."""
    if not isinstance(state, dict):
        raise ValueError("the attributes of a dict are not understood")
    return value


def _joined(arguments: tuple[object, ...]) -> str:
    parts = [part for part in arguments if isinstance(part, str)]
    if len(parts) != len(arguments):
        raise ValueError("a path is not understood")
    head, *rest = parts or ["."]
    return head.rstrip("/") + "/" + "/".join(rest) if rest else head


def _size(arguments: tuple[object, ...]) -> tuple[object, ...]:
    match arguments:
        case (tuple() as sizes,) if all(type(size) is int for size in sizes):
            return sizes
    raise ValueError("a torch.Size is not understood")


def _device(arguments: tuple[object, ...]) -> str:
    match arguments:
        case (str() as kind,):
            return kind
        case (str() as kind, int() as index):
            return f"{kind}:{index}"
    raise ValueError("a torch.device is not understood")


def _tagged(arguments: tuple[object, ...]) -> object:
    match arguments:
        case (list() | dict() as value, str()):
            return value
    raise ValueError("a value with its type is not understood")


_PATHS = ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")

_BUILDERS: dict[tuple[str, str], Builder | str] = {
    **pickled_numpy.builders(Stored.of),
    **{("torch", name): name for name in _STORAGES},
    ("torch.storage", _UNTYPED): _UNTYPED,
    ("torch", _UNTYPED): _UNTYPED,
    **{("torch", name): f"torch.{name}" for name in _DTYPES},
    ("torch", "Size"): Builder(_size),
    ("torch", "device"): Builder(_device),
    ("collections", "OrderedDict"): Builder(_dict, _without_attributes),
    ("collections", "defaultdict"): Builder(lambda _: {}),
    ("collections", "Counter"): Builder(_dict),
    ("argparse", "Namespace"): Builder(lambda _: {}, _attributes),
    **{(module, name): Builder(_joined) for module in ("pathlib", "pathlib._local") for name in _PATHS},
    **{(module, kind): Builder(_list) for module in ("builtins", "__builtin__") for kind in ("set", "frozenset")},
    **{(module, kind): kind for module in ("builtins", "__builtin__") for kind in ("int", "float", "list", "dict")},
}
_ORDERED = ("collections", "OrderedDict")
_TYPED = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
_SCRIPTED: dict[tuple[str, str], Builder | str] = {
    **{key: _BUILDERS[key] for key in (*(("torch", name) for name in _STORAGES), ("torch", "device"), _ORDERED)},
    **{("torch.jit._pickle", name): Builder(_list) for name in _TYPED},
    ("torch.jit._pickle", "restore_type_tag"): Builder(_tagged),
}
