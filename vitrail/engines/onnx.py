"""ONNX: a torch network written as one file, and ONNX Runtime as the engine that runs it."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vitrail.bundle.formats import INPUT, OUTPUT, Form
from vitrail.engines import graph
from vitrail.engines.bounds import check_sizes
from vitrail.engines.facts import CLASSES_KEY, PRODUCTS, facts
from vitrail.engines.facts import classes as names
from vitrail.engines.table import Runner, need
from vitrail.errors import BundleError, engine_fault, printable

if TYPE_CHECKING:
    import torch
    from torch import nn

OPSET = 18  # the lowest that has LayerNormalization and all else we need; every engine in use reads it
EXTRA = "onnx"
LARGEST = (2 << 30) - (32 << 20)  # bytes of weights: an ONNX file is one protobuf, which ends below 2 GiB


def write(
    module: nn.Module,
    *,
    classes: Sequence[str],
    image: tuple[int, int, int],
    form: Form = Form(),  # noqa: B008
) -> bytes:
    """The network as an ONNX file: `images` (batch, C, H, W), or as pixels (batch, H, W, C), to `logits` (batch, K).

    image: (C, H, W). form: where it is not the usual one, `module` is a `Deployed` of that form. The same network gives
    the same bytes in every process. BundleError V508 when the exporter refuses or the weights do not fit into one file;
    UsageError V003 when a package is absent.
    """
    need("onnx", EXTRA)
    need("onnxscript", EXTRA)
    import torch

    from vitrail.models import set_attention

    _check_room(module)
    # A frozen copy: the exporter takes other paths where a gradient is wanted, and fails on some (BEiT's bias).
    frozen = copy.deepcopy(module).to("cpu").eval().requires_grad_(False)
    frozen = frozen.float() if form.precision == "fp32" else frozen
    set_attention(frozen, "explicit")
    with torch.no_grad(), _quiet():
        try:
            program = torch.onnx.export(
                frozen,
                (_example(image, form),),
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                input_names=[INPUT],
                output_names=list(form.outputs),
                dynamic_shapes=({0: "batch"},) if form.batch is None else None,
                verbose=False,
            )
        except (torch.onnx.OnnxExporterError, RuntimeError, NotImplementedError) as error:
            if isinstance(error.__cause__, KeyboardInterrupt):  # the exporter takes Ctrl-C for a failure of its own
                raise error.__cause__ from None
            raise BundleError(
                "V508",
                f"the network cannot be written as ONNX: {printable(str(error).strip().splitlines()[0][:200])}",
                hint="report the variant and the version of torch; the weights are untouched",
            ) from error
    assert program is not None
    proto: Any = program.model_proto
    _strip(proto, classes)
    data: bytes = proto.SerializeToString(deterministic=True)
    found = facts(graph.read(data))
    if found["opset"] != OPSET:  # the exporter has labelled files with another version than was asked for
        raise BundleError("V508", f"the exporter wrote opset {found['opset']}, {OPSET} was asked for", hint="report it")
    return data


def _example(image: tuple[int, int, int], form: Form) -> torch.Tensor:
    import torch

    count, (channels, *size) = form.batch or 2, image  # a batch of 1 would be taken for a constant
    if form.takes == "pixels":
        return torch.zeros(count, *size, channels, dtype=torch.uint8)
    return torch.zeros(count, *image)


def _check_room(module: nn.Module) -> None:
    size = 4 * sum(parameter.numel() for parameter in module.parameters())
    if size > LARGEST:
        raise BundleError(
            "V508",
            f"the network has {size / 1e6:,.1f} MB of weights in float32, an ONNX file holds {LARGEST / 1e6:,.0f} MB",
            hint="run it on torch from its weights, or export a smaller variant",
        )


def _strip(proto: Any, classes: Sequence[str]) -> None:
    """Take out what depends on process, machine or place (stack traces, paths, orders of sets); add the classes."""
    body = proto.graph
    proto.producer_name, proto.producer_version, proto.doc_string = "vitrail", "", ""
    body.name, body.doc_string = "vitrail", ""
    for part in (proto, body, *body.node, *body.input, *body.output, *body.initializer):
        part.ClearField("metadata_props")
    body.ClearField("value_info")  # inferred by every engine anew; stale entries break quantizers
    for node in body.node:
        node.ClearField("doc_string")
        attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
        node.ClearField("attribute")
        node.attribute.extend(attributes)
    for part in (*body.input, *body.output, *body.initializer):
        part.ClearField("doc_string")
    proto.metadata_props.add(key=CLASSES_KEY, value=json.dumps(list(classes)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks through warnings, prints and loggers; none of it is for our user."""
    disabled = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)


def check(data: bytes | graph.Far, form: Form = Form()) -> graph.Graph:  # noqa: B008
    """The graph, once it has the form and its operators and sizes are known to be harmless; BundleError V505 else."""
    found = graph.read(data)
    ends = (*found.inputs, *found.outputs)
    kinds = (graph.UINT8 if form.takes == "pixels" else graph.FLOAT, graph.FLOAT, graph.FLOAT, graph.INT64)
    wanted = [*zip((INPUT, *form.outputs), kinds, strict=False)]
    if [(end.name, end.kind) for end in ends] != wanted:
        raise graph.damaged(f"its ends are not `{INPUT}` and {form.outputs} as {form.takes} and float32")
    if any(end.shape[:1] != (form.batch,) for end in ends):
        raise graph.damaged(f"its batch is not {form.batch or 'free'}")
    ranks = [len(end.shape) for end in ends]
    if ranks != [4, *(2 for _ in form.outputs)] or any(end.shape[1] != form.top for end in found.outputs[1:]):
        raise graph.damaged(f"its ends have the shapes {[end.shape for end in ends]}")
    check_sizes(found)
    return found


def calibrated(data: bytes, pictures: Iterable[NDArray[np.generic]]) -> Any:
    """What the values at the products of a graph of ours reach on batches of pictures; for `quantized`.

    UsageError V003 when a package is absent.
    """
    need("onnx", EXTRA)
    need("onnxruntime", EXTRA)
    from onnxruntime.quantization import CalibrationDataReader, create_calibrator

    batches = iter(pictures)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, NDArray[np.generic]] | None:
            batch = next(batches, None)
            return None if batch is None else {INPUT: batch}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "model.onnx"
        path.write_bytes(data)
        calibrator = create_calibrator(path, [*PRODUCTS], str(Path(folder) / "augmented.onnx"))
        calibrator.collect_data(Reader())
        return calibrator.compute_data()


def quantized(data: bytes, ranges: Any, nodes: Collection[str]) -> bytes:
    """The graph with some of its products in 8 bits: weights by channel in signed ones, values in unsigned ones.

    ranges: what `calibrated` gave for the same bytes. nodes: names of the nodes.
    """
    import onnx
    from onnxruntime.quantization import QDQQuantizer, QuantType

    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(data))
    # A matrix product may give its float sum; a convolution is only computed in 8 bits where it gives 8 bits.
    extra = {"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]}
    kinds = (QuantType.QInt8, QuantType.QUInt8)
    with _quiet():
        quantizer = QDQQuantizer(model, True, False, *kinds, ranges, sorted(nodes), [], [*PRODUCTS], extra)
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    proto = quantizer.model.model
    _strip(proto, names(graph.read(data)))
    standard = [each for each in proto.opset_import if each.domain in ("", "ai.onnx")]
    proto.ClearField("opset_import")
    proto.opset_import.extend(standard)
    for tensor in proto.graph.initializer:  # which the quantizer stores as numbers, our reader takes bytes alone
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    written: bytes = proto.SerializeToString(deterministic=True)
    return written


class _Session:
    """An ONNX Runtime session."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def logits(self, batch: NDArray[np.generic], /) -> NDArray[np.float32]:
        (out,) = self._run([OUTPUT], batch)
        return np.asarray(out, np.float32)

    def answers(self, batch: NDArray[np.generic], /) -> tuple[NDArray[np.generic], ...]:
        return tuple(self._run(None, batch))

    def _run(self, names: list[str] | None, batch: NDArray[np.generic]) -> Any:
        try:
            return self._session.run(names, {INPUT: np.ascontiguousarray(batch)})
        except Exception as error:  # the engine's own exceptions are of many kinds, none of them public
            raise engine_fault("ONNX Runtime", len(batch), error) from error


def open(
    data: bytes | Path,
    *,
    threads: int | None = None,
    checked: graph.Graph | None = None,
    once: bool = False,
    level: int | None = None,
) -> Runner:
    """The graph ready to run on ONNX Runtime, on the CPU. threads: None takes every core.
    checked: what `check` gave for these bytes, where that was called already; it must have been for a path.
    once: for a few answers: ready sooner and in less memory, but each takes longer. level: of `engines.levels`.

    BundleError V505 when the graph is refused, by us or by the engine; UsageError V003 without onnxruntime.
    """
    need("onnxruntime", EXTRA)
    if checked is None:
        assert isinstance(data, bytes), "the bytes behind a path are checked by their holder"
        check(data)
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    if once:  # weights as they are, not packed anew for the processor
        options.add_session_config_entry("session.disable_prepacking", "1")
    if level is not None:
        stages = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = (
            stages.ORT_DISABLE_ALL, stages.ORT_ENABLE_EXTENDED, stages.ORT_ENABLE_ALL
        )[level]  # fmt: skip
    options.log_severity_level = 4  # its errors are raised; its warnings are about our own graph
    refusals = (
        state.EPFail, state.EngineError, state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf,
        state.NoModel, state.NoSuchFile, state.NotImplemented, state.RuntimeException,
    )  # fmt: skip
    try:
        return _Session(
            onnxruntime.InferenceSession(
                data if isinstance(data, bytes) else str(data), options, providers=["CPUExecutionProvider"]
            )
        )
    except refusals as error:
        raise BundleError(
            "V505", f"ONNX Runtime {onnxruntime.__version__} cannot open the graph", evidence=[str(error)[:200]],
            hint="export the model again, or choose another engine",
        ) from error  # fmt: skip
