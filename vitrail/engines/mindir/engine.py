"""MINDIR: an ONNX file of ours written through MindSpore, and MindSpore as the engine that runs it."""

from __future__ import annotations

import json
import struct
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrail.engines import onnx
from vitrail.engines.facts import DECIDED
from vitrail.engines.facts import facts as onnx_facts
from vitrail.engines.graph import damaged
from vitrail.engines.mindir import process, program
from vitrail.engines.mindir.cell import cell
from vitrail.engines.mindir.child import SIDES
from vitrail.engines.mindir.process import Child, interpreter
from vitrail.engines.mindir.program import Program
from vitrail.engines.table import Runner, Written
from vitrail.errors import BundleError, UsageError

FILE = "model.mindir"


def write(data: bytes, *, batch: int | None = None, python: str | Path | None = None) -> Written:
    """A MINDIR file that computes what the ONNX file `data` does; MindSpore's version is among its facts.

    batch: how many pictures at once, None for any number. python: the interpreter that has MindSpore, as
    `process.interpreter` finds it. UsageError V003 without one; BundleError V505 for an ONNX file that is not ours,
    V508 when it cannot be written.
    """
    found = interpreter(python)
    graph = onnx.check(data)
    module = cell(graph, batch=batch)
    job = {"names": list(module.constants), "batch": batch, "image": graph.inputs[0].shape[1:]}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "network.py").write_text(module.text)
        (folder / "job.json").write_text(json.dumps(job))
        _save(folder / "constants.npz", module.constants)
        child = Child("write", folder, python=found, threads=None, code="V508")
        try:
            version = child.hear("V", seconds=process.COMPILE).decode("utf-8", "replace")
        finally:
            child.close()
        written = folder / FILE
        if not written.is_file():
            raise BundleError("V508", "MindSpore wrote no MINDIR file", hint="report it with MindSpore's version")
        made = written.read_bytes()
    made = _checked(made, batch)
    decided = {name: value for name, value in onnx_facts(graph).items() if name in DECIDED}
    return Written({FILE: made}, {**decided, **facts(made), "mindspore": version})


def facts(data: bytes) -> dict[str, object]:
    """What a MINDIR file says of itself: the name of its input, the operators; BundleError V505 as `open`."""
    return program.read(data).facts()


def _save(path: Path, constants: Mapping[str, NDArray[np.generic]]) -> None:
    """Under names of ours: those of the graph may be no file names."""
    numbered: dict[str, NDArray[np.generic]] = {f"p{place}": array for place, array in enumerate(constants.values())}
    np.savez(path, **numbered)  # type: ignore[arg-type]


def _checked(data: bytes, batch: int | None) -> bytes:
    try:
        made = program.canonical(data)
        found = program.read(made)
    except BundleError as error:
        raise BundleError(
            "V508", f"MindSpore wrote what is not opened here: {error.what}", hint="use mindspore==2.10.0"
        ) from error
    if found.batch != batch:
        raise BundleError("V508", f"MindSpore wrote batch {found.batch}, {batch} was asked for", hint="report it")
    return made


class _Program:
    """A MINDIR file in a child process, which lives as long as this; one batch at a time."""

    def __init__(self, child: Child, found: Program) -> None:
        self._child = child
        self._program = found
        self._lock = threading.Lock()

    def logits(self, batch: NDArray[np.generic], /) -> NDArray[np.float32]:
        images, wanted = np.ascontiguousarray(batch, "<f4"), self._program.input.shape
        if images.ndim != 4 or images.shape[1:] != wanted[1:] or wanted[0] not in (None, len(images)):
            sides = ", ".join("B" if side is None else str(side) for side in wanted)
            raise UsageError(
                "V007",
                f"the graph answers images of the shape ({sides}), {images.shape} were given",
                hint="give that many at once, or export it with a free batch",
            )
        with self._lock:
            seconds = process.START + process.PICTURE * len(images)  # the first of each size is compiled
            body = self._child.ask(SIDES.pack(*images.shape) + images.tobytes(), seconds=seconds)
        shape = len(images), self._program.output.shape[1]
        if body[:8] != struct.pack("<2I", *shape) or len(body) != 8 + 4 * shape[0] * (shape[1] or 0):
            raise damaged("MindSpore answered with logits of another shape than the graph declares")
        return np.frombuffer(body, "<f4", offset=8).reshape(shape).astype(np.float32)  # type: ignore[arg-type]


def open(data: bytes, *, python: str | Path | None = None, threads: int | None = None) -> Runner:
    """The program ready to run on MindSpore, on the CPU, in a process of its own. threads: None takes every core.

    BundleError V505 when it is refused, by us or by MindSpore, or its process fails; UsageError V003 without MindSpore,
    V007 (of `logits`) for a batch that the program was not written for.
    """
    found, has = program.read(data), interpreter(python)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / FILE
        path.write_bytes(data)
        child = Child("serve", path, python=has, threads=threads, code="V505")
        child.hear("V", seconds=process.START)  # by now it holds all of the file
    return _Program(child, found)
