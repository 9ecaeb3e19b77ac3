"""`vitrail replay`"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from vitrail.cli.options import AS_JSON

SHOWN = 16  # pictures on a line
BITS = {True: "(the same bits)", False: "(other bits)", None: "(of this rank alone; then of all)"}


@click.command("replay")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@AS_JSON
def command(file: Path, as_json: bool) -> None:
    """Repeat a training step whose numbers broke, from FILE in a run's captures/, and say where they broke first."""
    from vitrail.cli.render import result
    from vitrail.verbs.replay import replay

    values = replay(file).to_json()
    result(_lines(values), values, as_json=as_json)


def _lines(values: Mapping[str, Any]) -> list[str]:
    kept, now, first = values["kept"], values["repeated"], values["first"]
    scale = "" if values["scale"] is None else f", loss scale {values['scale']:g}"
    lines = [
        f"step {values['step']} (epoch {values['epoch']}), rank {values['rank']}, {values['precision']}{scale}",
        f"then      loss {_short(kept['loss'])}  gradient norm {_short(kept['norm'])}",
        f"repeated  loss {_short(now['loss'])}  gradient norm {_short(now['norm'])}  {BITS[values['same_bits']]}",
        *(f"changed   {line}" for line in values["drift"]),
    ]
    if first is None:
        return [*lines, "nothing broke: every layer and every gradient is finite here"]
    lines += [f"first     {first['what']}", f"  holds   {_numbers(first['holds'])}"]
    lines += [f"  {name:7} {_numbers(numbers)}" for name, numbers in first["inputs"].items()]
    return [*lines, f"pictures  {_pictures(first['pictures'], len(values['pictures']))}"]


def _pictures(found: list[int], count: int) -> str:
    """The pictures by their place in the source, the first of many."""
    if not found:
        return f"not told apart among the {count} of the batch"
    if len(found) == count:
        return f"all {count} of the batch"
    more = f" and {len(found) - SHOWN} more (--json lists all)" if len(found) > SHOWN else ""
    return ", ".join(map(str, found[:SHOWN])) + more


def _numbers(numbers: Mapping[str, Any]) -> str:
    """The statistics of one tensor on a line."""
    if "shape" not in numbers:
        return "  ".join(f"{name} {value}" for name, value in numbers.items())
    shape = " x ".join(map(str, numbers["shape"])) or "one number"
    span = "nothing finite" if numbers["min"] is None else f"{numbers['min']:.4g} to {numbers['max']:.4g}"
    broken = [f"{numbers[kind]:,} {word}" for kind, word in (("nan", "NaN"), ("inf", "Inf")) if numbers[kind]]
    return ", ".join([f"{numbers['dtype']} {shape}", span, *broken])


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
