"""Which engines there are, what each needs, and what all of them give."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import UsageError


class Runner(Protocol):
    """A graph that is ready to answer; safe to call from several threads."""

    def logits(self, batch: NDArray[np.generic], /) -> NDArray[np.float32]:
        """Logits (B, K) of what the graph takes, any B from 1 where its batch is free: float32 images (B, C, H, W)
        that are normalised, or pixels (B, H, W, C) in 8 bits.
        """
        ...


@runtime_checkable
class TopRunner(Runner, Protocol):
    """A runner that also gives what a graph's form may want beside the logits."""

    def answers(self, batch: NDArray[np.generic], /) -> tuple[NDArray[np.generic], ...]:
        """All outputs of the graph in its order: the logits first."""
        ...


class Row(NamedTuple):
    """An engine: the package it stands on, the extra of vitrail that installs it, the bundle formats it runs."""

    package: str
    extra: str
    formats: tuple[str, ...]  # of `engines` in the manifest; () runs the weights themselves
    program: bool = False  # what it opens is code, not data
    native: bool = False  # machine code, of one kind of processor
    elsewhere: bool = False  # its package is in an environment of its own, looked for when it is started


ENGINES: dict[str, Row] = {
    #                      package        extra       formats
    "onnx":         Row("onnxruntime", "onnx",     ("onnx",)),
    "openvino":     Row("openvino",    "openvino", ("openvino", "onnx")),
    "torch":        Row("torch",       "train",    ()),
    "torchscript":  Row("torch",       "train",    ("torchscript",), program=True),
    "torch-export": Row("torch",       "train",    ("torch-export",), program=True),
    "aoti":         Row("torch",       "train",    ("aoti",), program=True, native=True),
    "mindspore":    Row("mindspore",   "",         ("mindir",), elsewhere=True),
}  # fmt: skip


@dataclass(frozen=True)
class Written:
    """A graph as bytes: its files by name, the first one first, and what it says of itself.

    opset: of ONNX. facts: as `facts.wanted` names them. packages: distributions that made it beside the format's own.
    """

    files: dict[str, bytes]
    facts: dict[str, object]
    opset: int | None = None
    packages: tuple[str, ...] = ()


class Said(NamedTuple):
    """What an opened graph says of itself: facts as `facts.wanted` names them, and the classes of its logits."""

    facts: dict[str, object]
    classes: tuple[str, ...]


def runs(engine: str, format: str, precision: str) -> bool:
    """Whether an engine may be given such a graph: an ONNX graph in 8 bits is another function in OpenVINO.

    >>> runs("openvino", "onnx", "fp32"), runs("openvino", "onnx", "int8"), runs("openvino", "openvino", "int8")
    (True, False, True)
    """
    return format in ENGINES[engine].formats and (engine, format, precision) != ("openvino", "onnx", "int8")


def installed(engine: str) -> bool:
    """Whether the engine's package is there, beside us; it is not imported for that."""
    row = ENGINES[engine]
    return not row.elsewhere and importlib.util.find_spec(row.package) is not None


def need_engine(engine: str) -> None:
    """UsageError V003 with the pip command when the engine's package should be here and is absent."""
    if not ENGINES[engine].elsewhere:
        need(ENGINES[engine].package, ENGINES[engine].extra)


def need(package: str, extra: str) -> None:
    """UsageError V003 with the pip command when a package is absent."""
    if importlib.util.find_spec(package) is None:
        raise UsageError(
            "V003", f"this needs {package}, which is not installed", hint=f'pip install "vitrail[{extra}]"'
        )
