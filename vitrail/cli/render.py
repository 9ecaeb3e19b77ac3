"""How results and errors look on a terminal: stdout is the result, stderr the talk; rich is used here alone."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from vitrail.errors import VitrailError, count, printable

ACCENT = "cyan"


class Left(Exception):
    """Whoever read the result has left."""


def show_error(error: VitrailError) -> None:
    """The error on stderr, coloured where that is a terminal."""
    if not sys.stderr.isatty():
        talk(f"{error}\n")
        return
    from rich.console import Console
    from rich.text import Text

    head, _, rest = str(error).partition(":")
    text = Text(head, style="bold red") + Text(f":{rest}")
    Console(stderr=True, highlight=False, soft_wrap=True).print(text)


def say(line: str) -> None:
    """One line of talk on stderr, whatever names of files stand in it."""
    talk(printable(line) + "\n")


def talk(text: str) -> None:
    """Text on stderr as it is; the work goes on when nobody reads it."""
    try:
        sys.stderr.write(text)
    except BrokenPipeError:
        unheard(sys.stderr)


def is_left(stream: TextIO) -> bool:
    """Whether whoever read a pipe has left."""
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def unheard(stream: TextIO) -> None:
    """Let what is written from now on go nowhere: whoever read it has left."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def tell(text: str) -> None:
    """A part of the result on stdout, at once; `Left` when nobody reads it."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise Left from None


def result(lines: Sequence[str], values: object, *, as_json: bool) -> None:
    """The result on stdout: lines for a reader, or the same content as JSON."""
    if as_json:
        tell(json.dumps(values, indent=1, allow_nan=False) + "\n")
    else:
        tell("".join(printable(line) + "\n" for line in lines))


def table(rows: Sequence[Sequence[str]], *, head: Sequence[str], right: Sequence[int] = ()) -> list[str]:
    """Aligned columns as lines; `right` names the columns that are aligned to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return [line(head), "  ".join("-" * width for width in widths), *(line(row) for row in rows)]


def percent(share: float) -> str:
    """`98.61 %`"""
    return f"{100 * share:.2f} %"


def speed(values: Mapping[str, float]) -> list[str]:
    """`speed   512.3 images/s, 0.1249 sec/step`"""
    return [f"speed   {values['images_per_s']:,.1f} images/s, {values['sec_per_step']:.4f} sec/step"] if values else []


def quality(values: Mapping[str, Any]) -> list[str]:
    """The headline of an evaluation, from its JSON."""
    low, high = values["top1_interval"]
    lines = [
        f"top-1 {percent(values['top1'])}  ({values['correct']:,} of {values['pictures']:,} pictures, "
        f"95 % interval {percent(low)} to {percent(high)})",
        f"top-5 {percent(values['top5'])}   macro-F1 {values['macro_f1']:.4f}   "
        f"balanced accuracy {percent(values['balanced_accuracy'])}",
    ]
    if values["bad"]:
        lines.append(f"{count(len(values['bad']), 'picture')} unreadable, counted as wrong:")
        lines += [f"  {one['name']}: {one['what']} ({one['code']})" for one in values["bad"][:20]]
    return lines
