"""The stack machine of pickles without its teeth: names are looked up in a table, nothing is imported or called."""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from vitrail.formats.bounds import HEADER_BYTES, hostile, shown

OPERATIONS = 500_000
SCALARS = (type(None), bool, int, float, str, bytes)

_STOP = ord(".")
_OPCODE_NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}


@dataclass(frozen=True)
class Builder:
    """What stands for a function or class of a pickle.

    call: gives the value for the arguments; fill: gives the final value for that value and a state that follows.
    Both raise ValueError for arguments that an honest file never holds. bare: it may be called with one value that is
    no tuple, as TorchScript writes enumerations.
    """

    call: Callable[[tuple[object, ...]], object]
    fill: Callable[[object, object], object] | None = None
    bare: bool = False


@dataclass(frozen=True)
class Rules:
    """What a kind of file may hold.

    builders: (module, name) -> a Builder, or a plain text that stands for the thing itself; classes: for every name of
    a module below one (`__torch__`), where the names are the file's own; persistent: gives the value for a persistent
    id; leaves: types besides the plain ones that builders make; limit: bytes of pickle.
    """

    builders: Mapping[tuple[str, str], Builder | str]
    classes: Mapping[str, Builder] = field(default_factory=dict)
    persistent: Callable[[object], object] | None = None
    leaves: tuple[type, ...] = ()
    limit: int = HEADER_BYTES


@dataclass(frozen=True)
class Named:
    """A function or class that the file names and the table knows: on the stack only, never in a result."""

    name: str
    builder: Builder


@dataclass
class _Unfilled:
    """A value made by a call that may still get its state, and the memo keys it is known by."""

    value: object
    builder: Builder
    keys: list[int] = field(default_factory=list)


class Machine:
    """The stack, the memo and the place in the bytes."""

    def __init__(self, data: memoryview, where: object, rules: Rules) -> None:
        self._data = data
        self._where = where
        self._rules = rules
        self.at = 0
        self._frame_end = 0
        self._given = 0
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}
        self._unfilled: dict[int, _Unfilled] = {}

    def run(self, operations: Mapping[int, Callable[[Machine], None]]) -> object:
        for _ in range(OPERATIONS):
            start, code = self.at, self.take(1)[0]
            if code == _STOP:
                return self._finish()
            operation = operations.get(code)
            if operation is None:
                self._refuse(code)
            operation(self)
            if start < self._frame_end < self.at:
                raise ValueError("a frame ends inside an opcode")
        raise hostile(self._where, f"more than {OPERATIONS} pickle operations")

    def _finish(self) -> object:
        if len(self._stack) != 1 or self._marks:
            raise ValueError(f"{len(self._stack)} values are left where one belongs")
        return self._stack[0]

    def _refuse(self, code: int) -> NoReturn:
        name = _OPCODE_NAMES.get(code)
        if name is None:
            raise ValueError(f"{code:#04x} is no opcode")
        what = f"the pickle uses the opcode {name}"
        if name == "INST":
            what += f" with `{self.line()}.{self.line()}`"
        raise hostile(self._where, f"{what}, which data does not need")

    # The bytes.

    def take(self, count: int) -> memoryview:
        if count < 0 or count > len(self._data) - self.at:
            raise ValueError(f"{count} bytes are needed, {len(self._data) - self.at} are left")
        self.at += count
        return self._data[self.at - count : self.at]

    def number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        assert isinstance(value, int)
        return value

    def line(self) -> str:
        for size in (256, 1 << 13, 1 << 20):  # most lines are short, and no copy may be long for each of many
            window = bytes(self._data[self.at : self.at + size])
            end = window.find(b"\n")
            if end >= 0:
                self.at += end + 1
                return window[:end].decode("latin-1")
        raise ValueError("a text line has no end")

    def frame(self) -> None:
        size = self.number("<Q")
        if self.at < self._frame_end or size > len(self._data) - self.at:
            raise ValueError(f"a frame of {size} bytes does not fit")
        self._frame_end = self.at + size

    def protocol(self) -> None:
        version = self.number("<B")
        if self.at != 2 or version > 5:
            raise ValueError(f"protocol {version} is unknown or not at the start")

    # The stack.

    def push(self, value: object) -> None:
        self._stack.append(value)

    def pop(self) -> object:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise ValueError("the stack is empty")
        return self._stack.pop()

    def top(self) -> object:
        value = self.pop()
        self._stack.append(value)
        return value

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def pop_to_mark(self) -> list[object]:
        if not self._marks:
            raise ValueError("a mark is missing")
        start = self._marks.pop()
        found = self._stack[start:]
        del self._stack[start:]
        return found

    def drop(self) -> None:
        if self._marks and len(self._stack) == self._marks[-1]:
            self._marks.pop()  # POP takes a mark that lies on top
        else:
            self.pop()

    # The memo.

    def put(self, key: int) -> None:
        value = self.top()
        self._memo[key] = value
        waiting = self._unfilled.get(id(value))
        if waiting is not None:
            waiting.keys.append(key)

    def memoize(self) -> None:
        self.put(len(self._memo))

    def get(self, key: int) -> None:
        if key not in self._memo:
            raise ValueError(f"nothing was kept under {key}")
        self.push(self._memo[key])

    # Containers.

    def extend(self, values: list[object]) -> None:
        target = self.top()
        if type(target) is not list:
            raise hostile(self._where, f"the pickle appends to a {type(target).__name__}")
        target.extend(values)

    def items(self, values: list[object]) -> None:
        target = self.top()
        if type(target) is not dict:
            raise hostile(self._where, f"the pickle sets items of a {type(target).__name__}")
        if len(values) % 2:
            raise ValueError("a key has no value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) not in SCALARS:  # the hash of a deep tuple would exhaust the C stack
                raise hostile(self._where, f"a {type(key).__name__} is a key of a dict")
            if key in target:
                raise hostile(self._where, f"the key `{shown(key)}` stands twice in a dict")
            target[key] = value

    def pair(self) -> None:
        value, key = self.pop(), self.pop()
        self.items([key, value])

    def one(self) -> None:
        value = self.pop()
        self.extend([value])

    def new_dict(self) -> None:
        values = self.pop_to_mark()
        self.push({})
        self.items(values)

    def last(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    # Names and calls.

    def named(self, module: object, name: object) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a name is no text")
        builder = self._rules.builders.get((module, name)) or self._rules.classes.get(module.partition(".")[0])
        if builder is None:
            raise hostile(
                self._where,
                f"the pickle asks for `{shown(module)}.{shown(name)}`, which is not plain data; it was not imported",
                hint="if the file is from a source you trust, load it there and save again only names and tensors",
            )
        self.push(builder if isinstance(builder, str) else Named(f"{module}.{name}", builder))

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.named(module, name)

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Named):
            raise hostile(self._where, f"the pickle calls a {type(function).__name__}")
        if type(arguments) is not tuple:
            if not function.builder.bare:
                raise ValueError("the arguments of a call are no tuple")
            arguments = (arguments,)
        self._weigh(arguments)
        try:
            value = function.builder.call(arguments)
        except ValueError as error:
            raise ValueError(f"{function.name}: {error}") from error
        if function.builder.fill is not None:
            self._unfilled[id(value)] = _Unfilled(value, function.builder)
        self.push(value)

    def build(self) -> None:
        state, value = self.pop(), self.pop()
        waiting = self._unfilled.pop(id(value), None)
        if waiting is None or waiting.value is not value:
            raise hostile(self._where, f"the pickle gives a state to a {type(value).__name__}")
        assert waiting.builder.fill is not None
        self._weigh(state)
        filled = waiting.builder.fill(value, state)
        for key in waiting.keys:
            self._memo[key] = filled
        self.push(filled)

    def _weigh(self, values: object) -> None:
        """Builders may copy what they are given; one large text given again and again must not fill the memory."""
        parts = values if isinstance(values, tuple) else (values,)
        self._given += sum(len(part) for part in parts if isinstance(part, str | bytes | list | tuple | dict))
        if self._given > 4 * self.at + 65_536:
            raise hostile(self._where, "the calls of the pickle copy far more than the file holds")

    def persistent(self) -> None:
        identity = self.pop()
        if self._rules.persistent is None:
            raise hostile(self._where, "the pickle refers to objects outside of it")
        self.push(self._rules.persistent(identity))
