"""A checkpoint in parts: each rank of a run with FSDP writes the rows that it has of every tensor.

    weights.part-0001-of-0004.safetensors  optimizer.part-0001-of-0004.safetensors  ...

FSDP cuts a tensor along its first axis, in the order of the ranks; so a tensor is the rows of all parts that hold any,
one after the other. What is not cut (a buffer, a count of steps) stands in the first part alone. Whoever reads a
checkpoint gets whole tensors, and so resumes on any number of ranks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from vitrail.formats.stored import Stored, Tensors

_PART = re.compile(r"(.+)\.part-([0-9]{4,7})-of-([0-9]{4,7})")


def part_name(name: str, rank: int, size: int) -> str:
    """The file of one rank.

    >>> part_name("weights", 0, 4)
    'weights.part-0001-of-0004'
    """
    return f"{name}.part-{rank + 1:04d}-of-{size:04d}"


def base_name(name: str) -> str:
    """The file of which this is a part, or `name` itself.

    >>> base_name("weights.part-0001-of-0004"), base_name("weights")
    ('weights', 'weights')
    """
    found = _PART.fullmatch(name)
    return found[1] if found else name


def put_together(files: Mapping[str, Tensors]) -> dict[str, Tensors]:
    """The same files with whole tensors. ValueError when a part is missing, or rows do not go together."""
    whole: dict[str, Tensors] = {name: tensors for name, tensors in files.items() if base_name(name) == name}
    parts: dict[str, dict[tuple[int, int], Tensors]] = {}
    for name, tensors in files.items():
        if found := _PART.fullmatch(name):
            parts.setdefault(found[1], {})[int(found[2]), int(found[3])] = tensors
    for name, held in parts.items():
        size = max(of for _, of in held)
        if name in whole or sorted(held) != [(number + 1, size) for number in range(size)]:
            raise ValueError(f"`{name}` is there as {', '.join(f'part {part} of {of}' for part, of in sorted(held))}")
        whole[name] = _joined([held[place] for place in sorted(held)])
    return whole


def _joined(parts: list[Tensors]) -> Tensors:
    rows: dict[str, list[Stored]] = {}
    for part in parts:
        for name, tensor in part.items():
            rows.setdefault(name, []).append(tensor)
    return {name: _one(name, held) for name, held in rows.items()}


def _one(name: str, rows: list[Stored]) -> Stored:
    first = rows[0]
    if len(rows) == 1:
        return first
    if not first.shape or any((row.dtype, row.shape[1:]) != (first.dtype, first.shape[1:]) for row in rows):
        raise ValueError(f"the parts of `{name}` are {', '.join(f'{row.dtype} {row.shape}' for row in rows)}")
    shape = (sum(row.shape[0] for row in rows), *first.shape[1:])
    return Stored(first.dtype, shape, b"".join(row.data for row in rows))
