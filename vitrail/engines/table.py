"""Which engines there are, what each needs, and what all of them give."""

from __future__ import annotations

import importlib.util
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import UsageError, nearest


class Runner(Protocol):
    """A graph that is ready to answer; safe to call from several threads."""

    def logits(self, batch: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Logits (B, K) of normalised pictures (B, C, H, W), any B from 1."""
        ...


class Row(NamedTuple):
    """An engine: the package it stands on, the extra of vitrail that installs it, the bundle formats it runs."""

    package: str
    extra: str
    formats: tuple[str, ...]  # of `engines` in the manifest; () runs the weights themselves


# In the order in which `auto` takes them.
ENGINES: dict[str, Row] = {
    #                  package        extra       formats
    "onnx":     Row("onnxruntime", "onnx",     ("onnx",)),
    "openvino": Row("openvino",    "openvino", ("onnx",)),
    "torch":    Row("torch",       "train",    ()),
}  # fmt: skip


def installed(engine: str) -> bool:
    """Whether the engine's package is there; it is not imported for that."""
    return importlib.util.find_spec(ENGINES[engine].package) is not None


def need(package: str, extra: str) -> None:
    """UsageError V003 with the pip command when a package is absent."""
    if importlib.util.find_spec(package) is None:
        raise UsageError(
            "V003", f"this needs {package}, which is not installed", hint=f'pip install "vitrail[{extra}]"'
        )


def known(engine: str) -> str:
    """`engine`; UsageError V007 with the nearest name when none is called so."""
    if engine not in ("auto", *ENGINES):
        raise UsageError("V007", f"no engine is called `{engine}`", hint=nearest(engine, ("auto", *ENGINES)))
    return engine
