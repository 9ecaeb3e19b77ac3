"""Pickles read as data: an own opcode reader that builds plain values and never imports or calls what a file names.

A pickle is a program for a small stack machine.  This machine knows the opcodes for plain values; where the program
names a function or class, the name is looked up in a table that the caller gives, and a name that is not there ends
the reading.  What comes out is None, bool, int, float, str, bytes, tuple, list (for a set, too), dict, and the caller's
leaf types.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vitrail.formats.bounds import NESTING, damaged, hostile, shown
from vitrail.formats.pickle_machine import SCALARS, Builder, Machine, Named, Rules
from vitrail.formats.pickle_opcodes import OPCODES

VALUES = 500_000  # counted with repetition: a list used twice counts twice


def read(data: bytes | memoryview, where: object, rules: Rules) -> object:
    """The value that a pickle of protocol 0 to 5 describes.

    Strings of Python 2 come as bytes.  WeightsError V202 naming the function or class that is not in the table, or the
    limit that is exceeded; V201 for bytes that are no pickle.  Nothing is imported or executed, whatever they hold.

    >>> read(b"\\x80\\x02}U\\x01aK\\x02s.", "example", Rules({}))
    {b'a': 2}
    """
    if len(data) > rules.limit:
        raise hostile(where, f"{len(data)} bytes of pickle, the limit is {rules.limit}")
    value, end = read_first(data, where, rules)
    if end != len(data):
        raise damaged(where, f"{len(data) - end} bytes follow the end of the pickle at byte {end}")
    return value


def read_first(data: bytes | memoryview, where: object, rules: Rules) -> tuple[object, int]:
    """As `read`, from bytes that may go on after the pickle; and where it ends."""
    machine = Machine(memoryview(data)[: rules.limit], where, rules)
    try:
        value = machine.run(OPCODES)
    except (ValueError, OverflowError) as error:
        raise damaged(where, f"byte {machine.at} of the pickle: {error}") from error
    _check_plain(value, where, rules.leaves)
    return value, machine.at


def _check_plain(root: object, where: object, leaves: tuple[type, ...]) -> None:
    """Depth, size with repetition, and types of a finished value; a loop shows as depth."""
    seen = 0
    levels: list[Iterator[object]] = [iter((root,))]
    while levels:
        for value in levels[-1]:
            seen += 1
            if seen > VALUES:
                raise hostile(where, f"more than {VALUES} values, counted with repetition")
            if type(value) in (list, tuple, dict):
                if len(levels) > NESTING:
                    raise hostile(where, f"values nested deeper than {NESTING}")
                levels.append(iter(_inner(value)))
                break
            if type(value) not in SCALARS and not isinstance(value, leaves):
                name = value.name if isinstance(value, Named) else type(value).__name__
                raise hostile(where, f"the pickle holds `{shown(name)}` itself where a plain value belongs")
        else:
            levels.pop()


def _inner(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    assert isinstance(value, list | tuple)
    return value


__all__ = ["Builder", "Rules", "read"]
