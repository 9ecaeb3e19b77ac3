"""The opcodes that plain data needs, protocols 0 to 5: opcode -> what it does to the machine."""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Callable

from vitrail.formats.bounds import shown
from vitrail.formats.pickle_machine import Machine

INTEGER_BYTES = 32


def _decimal(text: str) -> int:
    if not re.fullmatch(r"[-+]?[0-9]{1,80}L?", text):
        raise ValueError(f"`{shown(text)}` is no integer")
    return int(text.rstrip("L"))


def _int_line(m: Machine) -> None:
    text = m.line()
    m.push({"00": False, "01": True}[text] if text in ("00", "01") else _decimal(text))


def _float_line(m: Machine) -> None:
    text = m.line()
    if not re.fullmatch(r"[-+]?(?:[0-9.]{1,40}(?:[eE][-+]?[0-9]{1,4})?|inf|nan)", text):
        raise ValueError(f"`{shown(text)}` is no number")
    m.push(float(text))


def _string_line(m: Machine) -> None:
    text = m.line()
    quoted = re.fullmatch(r"""(['"])((?:[^\\]|\\(?:[\\'"abfnrtv]|x[0-9a-fA-F]{2}|[0-7]{1,3}))*)\1""", text)
    if quoted is None:
        raise ValueError("a text line is not quoted")
    m.push(codecs.escape_decode(quoted[2].encode("latin-1"))[0])


def _long(m: Machine, size: int) -> None:
    if not 0 <= size <= INTEGER_BYTES:
        raise ValueError(f"an integer of {size} bytes")
    m.push(int.from_bytes(m.take(size), "little", signed=True))


def _float(m: Machine) -> None:
    m.push(struct.unpack(">d", m.take(8))[0])


def _text(m: Machine, form: str) -> None:
    m.push(str(m.take(m.number(form)), "utf-8"))


def _bytes(m: Machine, form: str) -> None:
    m.push(bytes(m.take(m.number(form))))


OPCODES: dict[int, Callable[[Machine], None]] = {
    # the program
    0x80: lambda m: m.protocol(),
    0x95: lambda m: m.frame(),
    ord("("): lambda m: m.mark(),
    ord("0"): lambda m: m.drop(),
    ord("1"): lambda m: m.pop_to_mark().clear(),
    ord("2"): lambda m: m.push(m.top()),
    # scalars
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("I"): _int_line,
    ord("L"): lambda m: m.push(_decimal(m.line())),
    ord("J"): lambda m: m.push(m.number("<i")),
    ord("K"): lambda m: m.push(m.number("<B")),
    ord("M"): lambda m: m.push(m.number("<H")),
    0x8A: lambda m: _long(m, m.number("<B")),
    0x8B: lambda m: _long(m, m.number("<i")),
    ord("F"): _float_line,
    ord("G"): _float,
    # text and bytes; S, T and U are the byte strings of Python 2
    ord("S"): _string_line,
    ord("T"): lambda m: _bytes(m, "<i"),
    ord("U"): lambda m: _bytes(m, "<B"),
    ord("V"): lambda m: m.push(codecs.raw_unicode_escape_decode(m.line().encode("latin-1"))[0]),
    ord("X"): lambda m: _text(m, "<I"),
    0x8C: lambda m: _text(m, "<B"),
    0x8D: lambda m: _text(m, "<Q"),
    ord("B"): lambda m: _bytes(m, "<I"),
    ord("C"): lambda m: _bytes(m, "<B"),
    0x8E: lambda m: _bytes(m, "<Q"),
    0x96: lambda m: _bytes(m, "<Q"),
    # containers
    ord("]"): lambda m: m.push([]),
    ord("l"): lambda m: m.push(m.pop_to_mark()),
    ord("a"): lambda m: m.one(),
    ord("e"): lambda m: m.extend(m.pop_to_mark()),
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.pop_to_mark())),
    0x85: lambda m: m.last(1),
    0x86: lambda m: m.last(2),
    0x87: lambda m: m.last(3),
    ord("}"): lambda m: m.push({}),
    ord("d"): lambda m: m.new_dict(),
    ord("s"): lambda m: m.pair(),
    ord("u"): lambda m: m.items(m.pop_to_mark()),
    # sets, which come as lists
    0x8F: lambda m: m.push([]),
    0x90: lambda m: m.extend(m.pop_to_mark()),
    0x91: lambda m: m.push(m.pop_to_mark()),
    # the memo
    ord("p"): lambda m: m.put(_decimal(m.line())),
    ord("q"): lambda m: m.put(m.number("<B")),
    ord("r"): lambda m: m.put(m.number("<I")),
    0x94: lambda m: m.memoize(),
    ord("g"): lambda m: m.get(_decimal(m.line())),
    ord("h"): lambda m: m.get(m.number("<B")),
    ord("j"): lambda m: m.get(m.number("<I")),
    # names and calls, all through the caller's table
    ord("c"): lambda m: m.named(m.line(), m.line()),
    0x93: lambda m: m.stack_global(),
    ord("R"): lambda m: m.call(),
    0x81: lambda m: m.call(),
    ord("b"): lambda m: m.build(),
    ord("Q"): lambda m: m.persistent(),
}
