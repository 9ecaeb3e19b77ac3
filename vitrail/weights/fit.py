"""Do tensors fit a network?  Every difference on its line, by name and shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from vitrail.errors import WeightsError

Shape = tuple[int, ...]
LINES = 20


class Shaped(Protocol):
    """Anything with a shape: a stored tensor, an array."""

    @property
    def shape(self) -> Shape: ...


def misfits(tensors: Mapping[str, Shaped], wanted: Mapping[str, Shape]) -> list[tuple[str, str, str]]:
    """(name, shape in the file, shape in the model) of every tensor that does not fit; `absent` where there is none."""
    names = [*wanted, *(name for name in tensors if name not in wanted)]
    have = {name: str(tensors[name].shape) if name in tensors else "absent" for name in names}
    need = {name: str(wanted[name]) if name in wanted else "absent" for name in names}
    return [(name, have[name], need[name]) for name in names if have[name] != need[name]]


def lines(found: list[tuple[str, str, str]]) -> list[str]:
    """The differences as aligned columns, the first 20 of them.

    >>> lines([("fc.bias", "(102,)", "(1000,)")])
    ['fc.bias  file (102,)  model (1000,)']
    """
    shown = found[:LINES]
    wide = [max((len(row[column]) for row in shown), default=0) for column in range(2)]
    text = [f"{name:<{wide[0]}}  file {file:<{wide[1]}}  model {model}" for name, file, model in shown]
    return text if len(found) <= LINES else [*text, f"... and {len(found) - LINES} more"]


def check(tensors: Mapping[str, Shaped], wanted: Mapping[str, Shape], model: str, *, hint: str = "") -> None:
    """WeightsError V204 with every difference unless names and shapes are exactly the wanted ones."""
    found = misfits(tensors, wanted)
    if found:
        total = len(tensors.keys() | wanted.keys())
        raise WeightsError(
            "V204", f"{len(found)} of {total} tensors do not fit {model}", evidence=lines(found), hint=hint
        )
