"""OpenVINO as an engine for our ONNX files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.engines.graph import Graph
from vitrail.engines.onnx import INPUT, OUTPUT, check
from vitrail.engines.table import Runner, need
from vitrail.errors import BundleError

EXTRA = "openvino"


class _Compiled:
    """A compiled OpenVINO model."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def logits(self, batch: NDArray[np.float32], /) -> NDArray[np.float32]:
        out = self._compiled.infer_new_request({INPUT: np.ascontiguousarray(batch, np.float32)})
        return np.array(out[OUTPUT], np.float32)


def open(data: bytes, *, threads: int | None = None, checked: Graph | None = None) -> Runner:
    """The graph ready to run on OpenVINO, on the CPU, in true float32. threads: None takes every core.
    checked: what `check` gave for these bytes, where that was called already.

    BundleError V505 when the graph is refused, by us or by the engine; UsageError V003 without openvino.
    """
    need("openvino", EXTRA)
    if checked is None:
        check(data)
    import openvino

    # Left alone, OpenVINO computes in bfloat16 where the CPU has it. No cache: its blobs ignore the precision.
    settings: dict[str, object] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(data, b""), "CPU", settings)
    except RuntimeError as error:
        raise BundleError(
            "V505",
            f"OpenVINO {openvino.__version__} cannot open the graph",
            evidence=[str(error)[:200]],
            hint="export the model again, or choose another engine",
        ) from error
    return _Compiled(compiled)
