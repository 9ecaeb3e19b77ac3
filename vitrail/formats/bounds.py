"""What no weight file may exceed, the rule for names, and the two refusals every reader uses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from vitrail.errors import WeightsError

FILE_BYTES = 64 << 30
HEADER_BYTES = 16 << 20
METADATA_BYTES = 1 << 20
TENSORS = 65_536
RANK = 8
NAME_BYTES = 512
NESTING = 32

FETCH_AGAIN = "fetch the file again, and compare its SHA-256 with the one its publisher states"


def damaged(where: object, what: str, *, hint: str = FETCH_AGAIN) -> WeightsError:
    """V201: the bytes are not what the format demands."""
    return WeightsError("V201", f"`{where}`: {what}", hint=hint)


def hostile(where: object, what: str, *, hint: str = "no honest tool writes this; do not use the file") -> WeightsError:
    """V202: the file exceeds a limit, or would reach where weights have no business."""
    return WeightsError("V202", f"`{where}`: {what}", hint=hint)


def shown(name: object, length: int = 80) -> str:
    """A name from a file, short enough for a message; `VitrailError` escapes the rest."""
    text = str(name)
    return text if len(text) <= length else f"{text[:length]}... ({len(text)} characters)"


def check_name(name: str, where: object) -> None:
    """WeightsError V202 unless `name` is 1 to 512 bytes of printable UTF-8 that cannot lead anywhere as a path."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise hostile(where, "a name holds a lone surrogate") from None
    if not 1 <= size <= NAME_BYTES:
        raise hostile(where, f"the name `{shown(name)}` has {size} bytes, allowed are 1 to {NAME_BYTES}")
    if not name.isprintable() or "\\" in name or name.startswith("/") or ".." in name.split("/"):
        raise hostile(where, f"the name `{shown(name)}` is no plain name (path parts or control characters)")


def check_names(names: Iterable[str], where: object) -> None:
    """Check every name, and that no two differ by case alone."""
    seen: dict[str, str] = {}
    for name in names:
        check_name(name, where)
        other = seen.setdefault(name.casefold(), name)
        if other is not name:
            raise hostile(where, f"the names `{shown(other)}` and `{shown(name)}` are the same but for case")


def check_shape(shape: Sequence[object], bytes_there: int, where: object) -> tuple[int, ...]:
    """The shape as a tuple, if its rank and its sizes can be real in a file of `bytes_there` bytes."""
    if len(shape) > RANK:
        raise hostile(where, f"a tensor of rank {len(shape)}, the limit is {RANK}")
    sizes = tuple(size for size in shape if type(size) is int and size >= 0)
    if len(sizes) != len(shape):
        raise damaged(where, "a shape holds something other than counts")
    if math.prod(size for size in sizes if size) > 8 * max(bytes_there, 4096):
        raise hostile(where, f"the shape `{shown(shape)}` is far larger than the file")
    return sizes
