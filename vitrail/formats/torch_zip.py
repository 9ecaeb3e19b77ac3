"""Files of `torch.save` (zip form, since torch 1.6), read without torch and without running them.

    NAME/data.pkl      the object as a pickle; tensors are (storage key, offset, size, stride)
    NAME/data/0 ...    the storages, stored as they are
    NAME/version, NAME/byteorder, ...

The pickle goes through the own opcode reader; what real files hold besides tensors (argparse.Namespace, paths, NumPy
scalars) becomes plain values, everything else that is named ends the reading.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrail.errors import WeightsError
from vitrail.formats import pickled_numpy
from vitrail.formats.bounds import HEADER_BYTES, check_names, check_shape, damaged, hostile, shown
from vitrail.formats.held import Held, hold
from vitrail.formats.pickles import Builder, Rules
from vitrail.formats.pickles import read as read_pickle
from vitrail.formats.stored import DTYPES, Stored, Tensors, bools_are_bits
from vitrail.formats.zip_directory import Member, members, stored_bytes

NEWEST_VERSION = 10  # of torch's zip layout; files of torch 1.6 to 2.13 say 3

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

# Where training scripts put the weights, the plain ones first.
_KEYS = (
    "model", "state_dict", "model_state_dict", "module", "net", "network", "params", "weights", "student", "teacher",
    "model_ema", "state_dict_ema", "ema", "ema_state_dict", "model_ema_state_dict", "params_ema",
)  # fmt: skip


def read(path: Path, *, sha256: str | None = None) -> object:
    """The object that was saved: plain values, with a `Stored` for each tensor or NumPy array.

    torch.dtype, torch.device and paths become text, torch.Size a tuple, argparse.Namespace and every kind of dict a
    dict, a set a list.  WeightsError V201 for damaged bytes, V202 for what names other classes or exceeds a limit.
    """
    with hold(path, sha256=sha256) as file:
        return parse(file)


def parse(file: Held) -> object:
    """As `read`, from a file that is already held."""
    return _Archive(file).tree()


@dataclass(frozen=True)
class _Storage:
    dtype: str | None  # None: untyped, the tensor says
    data: memoryview


class _Archive:
    """The members of one file, and the storages read so far."""

    def __init__(self, file: Held) -> None:
        self._file = file
        self._storages: dict[str, tuple[tuple[object, ...], _Storage]] = {}
        self._copied = 0
        self._pickle, self._data = self._sorted_out(members(file))

    def _sorted_out(self, found: dict[str, Member]) -> tuple[Member, dict[str, Member]]:
        pickles = [name for name in found if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1 or "/" not in pickles[0]:
            raise hostile(self._file.path, f"{len(pickles)} members named `NAME/data.pkl` where one belongs")
        prefix = pickles[0].removesuffix("data.pkl")
        data: dict[str, Member] = {}
        for name, member in found.items():
            inner = name.removeprefix(prefix)
            if not name.startswith(prefix) or (inner not in _SMALL and not re.fullmatch(r"data/[0-9]{1,10}", inner)):
                raise self._unexpected(name, inner)
            if inner in _SMALL:
                self._check_small(inner, bytes(stored_bytes(self._file, member, limit=_SMALL[inner])))
            else:
                data[inner.removeprefix("data/")] = member
        return found[pickles[0]], data

    def _unexpected(self, name: str, inner: str) -> WeightsError:
        if inner == "constants.pkl" or inner.startswith("code/"):
            return hostile(
                self._file.path,
                "is a TorchScript archive, which is a program and not weights",
                hint="save the model's state_dict() with torch.save, or its tensors as safetensors",
            )
        return hostile(self._file.path, f"the member `{shown(name)}` does not belong into a file of torch.save")

    def _check_small(self, inner: str, content: bytes) -> None:
        if inner == "byteorder" and content != b"little":
            raise damaged(
                self._file.path,
                f"its byte order is `{shown(content.decode('latin-1'))}`",
                hint="save it again on a little-endian machine",
            )
        if inner == "version":
            text = content.strip()
            if not re.fullmatch(rb"[0-9]{1,9}", text) or not 1 <= int(text) <= NEWEST_VERSION:
                raise damaged(
                    self._file.path,
                    f"its layout version is `{shown(content.decode('latin-1'))}`, known are 1 to {NEWEST_VERSION}",
                    hint="save it again as safetensors with the program that wrote it",
                )

    def tree(self) -> object:
        rules = Rules({**_BUILDERS, **self._tensor_builders()}, persistent=self._storage, leaves=(Stored,))
        data = stored_bytes(self._file, self._pickle, limit=HEADER_BYTES)
        tree = read_pickle(data, self._file.path, rules)
        unused = sorted(set(self._data) - set(self._storages))
        if unused:
            raise damaged(self._file.path, f"{len(unused)} storages are used by no tensor, first `data/{unused[0]}`")
        return tree

    def _storage(self, identity: object) -> _Storage:
        match identity:
            case ("storage", str() as kind, str() as key, str(), int() as count) if kind in (*_STORAGES, _UNTYPED):
                known = self._storages.get(key)
                if known is None:
                    known = ((kind, count), self._read_storage(kind, key, count))
                    self._storages[key] = known
                if known[0] != (kind, count):
                    raise hostile(self._file.path, f"the storage `{shown(key)}` is used as two types or sizes")
                return known[1]
        raise damaged(self._file.path, "a reference to a storage is not understood")

    def _read_storage(self, kind: str, key: str, count: int) -> _Storage:
        if key not in self._data:
            raise damaged(self._file.path, f"the storage `{shown(key)}` is missing")
        dtype = _STORAGES.get(kind)
        expected = count * (DTYPES[dtype][0] if dtype else 1)
        if self._data[key].size != expected:
            raise damaged(
                self._file.path, f"the storage `{key}` has {self._data[key].size} bytes, it should have {expected}"
            )
        return _Storage(dtype, stored_bytes(self._file, self._data[key]))

    def _tensor_builders(self) -> dict[tuple[str, str], Builder]:
        tensor = Builder(self._tensor)
        return {
            ("torch._utils", "_rebuild_tensor"): tensor,
            ("torch._utils", "_rebuild_tensor_v2"): tensor,
            ("torch._utils", "_rebuild_tensor_v3"): tensor,
            ("torch._utils", "_rebuild_parameter"): Builder(_parameter),
        }

    def _tensor(self, arguments: tuple[object, ...]) -> Stored:
        match arguments:
            case (_Storage() as storage, int() as offset, tuple() as size, tuple() as stride):
                word = None
            case (_Storage() as storage, int() as offset, tuple() as size, tuple() as stride, bool(), {}, *rest) if (
                arguments[5] == {} and len(rest) <= 2
            ):
                word = rest[0] if rest else None
            case _:
                raise ValueError("a tensor is not understood, or carries hooks")
        dtype = storage.dtype or _DTYPES.get(word.removeprefix("torch.") if isinstance(word, str) else "")
        if dtype is None:
            raise ValueError("a tensor has no plain number type")
        shape = check_shape(size, self._file.size, self._file.path)
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
            if self._copied > self._file.size * 1.05 + (64 << 20):
                raise hostile(self._file.path, "its tensors expand to far more than the file")
            flat = np.frombuffer(data, code)[offset:]
            inner = tuple(step * width if n > 1 else 0 for n, step in zip(shape, steps, strict=True))
            strided = np.lib.stride_tricks.as_strided(flat, shape, inner, writeable=False)
            found = memoryview(strided.tobytes())
        if dtype == "BOOL" and not bools_are_bits(found):
            raise ValueError("a BOOL tensor holds bytes other than 0 and 1")
        return Stored(dtype, shape, found)


# The small members and how large they may be.
_SMALL = {
    "data.pkl": HEADER_BYTES,
    "version": 64,
    "byteorder": 16,
    ".format_version": 64,
    ".storage_alignment": 64,
    ".data/serialization_id": 256,
}


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
    **{(module, "set"): Builder(_list) for module in ("builtins", "__builtin__")},
    **{(module, kind): kind for module in ("builtins", "__builtin__") for kind in ("int", "float", "list", "dict")},
}


def state_dict(tree: object, where: object = "weights") -> tuple[Tensors, list[str]]:
    """The mapping of names to tensors in a tree of `read`, and a note for everything that was passed over.

    The mapping is the tree itself or lies under a key that training scripts use; `model` and `state_dict` win over the
    averaged ones (`model_ema`, ...), which are then named in the notes.  where names the file in errors: WeightsError
    V201 when there is no such mapping, V202 for names that are no plain names.
    """
    if not isinstance(tree, dict):
        raise damaged(
            where, f"a value of type `{type(tree).__name__}` was saved where names and tensors belong", hint=_SAVE
        )
    found = [key for key in _KEYS if _holds_tensors(tree.get(key))]
    place = found[0] if found else ""
    chosen = tree[place] if found else tree
    if not _holds_tensors(chosen):
        raise damaged(where, f"no tensors in it or under {', '.join(_KEYS[:4])}", hint=_SAVE)
    tensors: Tensors = {}
    notes = [f"weights taken from `{place}`"] if place else []
    notes += [f"passed over `{shown(key)}` ({_kind(value)})" for key, value in tree.items() if place and key != place]
    for key, value in chosen.items():
        if isinstance(key, str) and isinstance(value, Stored):
            tensors[key] = value
        else:
            notes.append(f"passed over `{place + '.' if place else ''}{shown(key)}` ({_kind(value)})")
    check_names(tensors, where)
    return dict(sorted(tensors.items())), notes


_SAVE = "save the model's state_dict(), a dict of names to tensors"


def _holds_tensors(value: object) -> bool:
    return isinstance(value, dict) and any(
        isinstance(key, str) and isinstance(inner, Stored) for key, inner in value.items()
    )


def _kind(value: object) -> str:
    count = sum(1 for _ in _tensors_in(value))
    return f"{count} tensors" if count else type(value).__name__


def _tensors_in(value: object) -> Iterator[Stored]:
    if isinstance(value, Stored):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _tensors_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors_in(inner)
