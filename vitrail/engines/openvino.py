"""OpenVINO: our ONNX files, and its own IR, which starts faster and may compute in shorter types."""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vitrail.bundle.formats import INPUT, OUTPUT, Form, Precision
from vitrail.engines.bounds import BATCH, LARGEST, TOTAL
from vitrail.engines.facts import CLASSES_KEY, class_names, in_float32, written_out
from vitrail.engines.graph import Graph, damaged
from vitrail.engines.onnx import check
from vitrail.engines.table import Runner, Said, Written, need
from vitrail.errors import BundleError, UsageError, engine_fault
from vitrail.machine import cores

EXTRA = "openvino"
FILE, BIN = "model.xml", "model.bin"
MOST_SIZED = 64  # pictures; a graph for a size takes the memory of its answers when it is compiled (C++ alike)
# int8 is what the graph itself says; what it leaves in float is computed in float32.
HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
PRODUCTS = ("Convolution", "GroupConvolution", "MatMul")
KINDS = frozenset(
    (
        "Add", "Broadcast", "Concat", "Constant", "Convert", "Convolution", "Divide", "Erf", "FakeQuantize", "Gather",
        "Gelu", "GroupConvolution", "MVN", "MatMul", "MaxPool", "Maximum", "Multiply", "Pad", "Parameter", "Power",
        "Range", "ReLU", "ReduceMean", "ReduceProd", "ReduceSum", "Relu", "Reshape", "Result", "ScatterUpdate",
        "ShapeOf", "Sigmoid", "Slice", "Softmax", "SoftMax", "Split", "Sqrt", "Squeeze", "StridedSlice", "Subtract",
        "Tanh", "TopK", "Transpose", "Unsqueeze", "VariadicSplit", "ScaledDotProductAttention", "GroupNormalization",
    )
)  # fmt: skip
Answer = TypeVar("Answer")


@cache
def core() -> Any:
    """OpenVINO, once for the process, with its CPU plugin.

    Each plugin gives the thread that loads it a stack for signals and puts back, when it goes, the one from before: of
    two that go in the order in which they came, the second puts back a stack that is freed, and the next signal ends
    the process without a word (OpenVINO 2026.4).
    """
    import openvino

    made = openvino.Core()
    made.get_property("CPU", "FULL_DEVICE_NAME")
    return made


class _Sized:
    """A graph compiled for one size of batch, which answers faster as its shapes are known, and once another size comes
    beside it for any; and requests to both that nobody uses, but those that hold much.

    Which of the two answers is a matter of the size alone, never of what came before: in bf16 they round differently.
    """

    def __init__(self, compile: Callable[[int | None], Any], size: int | None) -> None:
        """compile: for a size of batch, None for what the graph takes. Nothing is compiled yet."""
        self._compile, self._size, self._lock = compile, size, threading.Lock()
        self._made: dict[int | None, tuple[Any, list[Any]]] = {}

    def ready(self) -> None:
        """Compile for its own size."""
        self._of(self._size)

    @contextmanager
    def requests(self, sizes: Sequence[int]) -> Iterator[list[Any]]:
        """A request for each batch of those sizes; they are kept for the next answer, unless this one failed."""
        with self._lock:
            model, idle = self._of(self._size if {*sizes} == {self._size} else None)
            lent = [idle.pop() if idle else model.create_infer_request() for _ in sizes]
        yield lent
        if max(sizes) <= MOST_SIZED:
            idle += lent

    def _of(self, size: int | None) -> tuple[Any, list[Any]]:
        if size not in self._made:
            self._made[size] = self._compile(size), []
        return self._made[size]


class _Compiled:
    """A compiled OpenVINO model. A batch with a picture for every core is cut into a part for each, as cores that
    compute a layer together wait for one another.
    """

    def __init__(
        self,
        compile: Callable[[dict[str, object], int | None], Any],
        threads: int | None,
        *,
        free: bool,
        batch: int,
    ) -> None:
        """compile: under settings, for a size of batch. free: the graph takes any. batch: what will mostly come."""
        self._parts = (threads or cores()) if free else 1
        cut = 1 < self._parts <= batch
        latency = {"PERFORMANCE_HINT": "LATENCY", **({} if threads is None else {"INFERENCE_NUM_THREADS": threads})}
        streams: dict[str, object] = {"NUM_STREAMS": self._parts, "INFERENCE_NUM_THREADS": self._parts}
        sized = free and batch <= MOST_SIZED
        own = 1 if cut else batch if sized else None
        each, rest = divmod(batch, self._parts)
        self._together = _Sized(partial(compile, latency), own)
        self._apart = _Sized(partial(compile, streams), each if sized and cut and not rest else None)
        (self._apart if cut else self._together).ready()

    def logits(self, batch: NDArray[np.generic], /) -> NDArray[np.float32]:
        ask = self._in_parts if 1 < self._parts <= len(batch) else self._at_once
        return self._asked(ask, np.ascontiguousarray(batch))

    def answers(self, batch: NDArray[np.generic], /) -> tuple[NDArray[np.generic], ...]:
        return self._asked(self._all_at_once, np.ascontiguousarray(batch))

    def _asked(self, ask: Callable[[NDArray[np.generic]], Answer], batch: NDArray[np.generic]) -> Answer:
        try:
            return ask(batch)
        except RuntimeError as error:
            raise engine_fault("OpenVINO", len(batch), error) from error

    def _at_once(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        with self._together.requests([len(batch)]) as [request]:
            return np.array(request.infer({INPUT: batch}, share_outputs=True)[OUTPUT], np.float32)

    def _all_at_once(self, batch: NDArray[np.generic]) -> tuple[NDArray[np.generic], ...]:
        with self._together.requests([len(batch)]) as [request]:
            out = request.infer({INPUT: batch}, share_outputs=True)
            return tuple(np.array(out[place]) for place in range(len(out)))

    def _in_parts(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        parts = np.array_split(batch, self._parts)
        with self._apart.requests([len(part) for part in parts]) as requests:
            for request, part in zip(requests, parts, strict=True):
                request.start_async({INPUT: part})  # which copies it
            for request in requests:
                request.wait()
            return np.concatenate([request.get_tensor(OUTPUT).data for request in requests]).astype(np.float32)


def write(onnx: bytes, form: Form) -> Written:
    """The IR of an ONNX graph of ours in float32: `model.xml` and `model.bin`, the same bytes in every process.

    Shorter precisions keep the weights in 16 bits. UsageError V003 without openvino.
    """
    need("openvino", EXTRA)
    return _written(_read(onnx, None), form)


def write_int8(onnx: bytes, form: Form, *, pictures: Sequence[NDArray[np.generic]], nodes: Collection[str]) -> Written:
    """The same with some of its products in 8 bits, calibrated on batches of pictures. nodes: their names in the graph.

    UsageError V003 without openvino or nncf.
    """
    need("openvino", EXTRA)
    from vitrail.engines import nncf

    model = _read(onnx, None)
    # A layer with a bias becomes two operations, the product being called `NAME/WithoutBiases`.
    friendly = [op.get_friendly_name() for op in model.get_ops() if op.get_type_name() in PRODUCTS]
    # All others are named, as the quantizer would take attention's own products, where it does not know their pattern.
    floats = [name for name in friendly if name.partition("/")[0] not in nodes]
    written = _written(nncf.quantized(model, pictures, left=floats), form)
    return replace(written, packages=("nncf",))


def _written(model: Any, form: Form) -> Written:
    import openvino

    for place, op in enumerate(model.get_ordered_ops()):  # else numbered by all that this process has ever made
        op.set_friendly_name(f"{op.get_type_name()}_{place}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        openvino.save_model(model, str(path), compress_to_fp16=form.precision in ("bf16", "fp16"))
        files = {FILE: path.read_bytes(), BIN: path.with_suffix(".bin").read_bytes()}
    return Written(files, _facts(core().read_model(files[FILE], _tensor(files[BIN]))))


def open(data: bytes | Path, *, threads: int | None = None, checked: Graph | None = None, batch: int = 1) -> Runner:
    """One of our ONNX graphs ready to run on the CPU, in true float32. threads: None takes every core. batch: the size
    that will mostly come.
    checked: what `onnx.check` gave for these bytes, where that was called already; it must have been for a path.

    BundleError V505 when the graph is refused, by us or by the engine; UsageError V003 without openvino.
    """
    need("openvino", EXTRA)
    if checked is None:
        assert isinstance(data, bytes), "the bytes behind a path are checked by their holder"
        check(data)
    return _compiled(_read(data, None), "fp32", threads, batch)


def open_ir(
    files: tuple[bytes, bytes], form: Form, *, threads: int | None = None, batch: int = 1
) -> tuple[Runner, Said, int]:
    """An IR, as XML and weights, ready to run on the CPU in the form's precision, what it says of itself, and how many
    logits it gives.

    threads: None takes every core. batch: the size that will mostly come. BundleError V505 when the graph is refused,
    by us or by the engine; UsageError V007 when this processor does not compute in that precision, V003 without
    openvino.
    """
    need("openvino", EXTRA)
    model = _read(*files)
    try:
        columns = _check(model, form)
    except RuntimeError as error:  # of shapes that OpenVINO cannot tell
        raise _refused(error) from error
    said = Said(_facts(model), _classes(model))
    return _compiled(model, form.precision, threads, batch), said, columns


def _tensor(data: bytes) -> Any:
    import openvino

    return openvino.Tensor(np.frombuffer(data, np.uint8))


def _read(data: bytes | Path, weights: bytes | None) -> Any:
    if weights is not None and not (isinstance(data, bytes) and data.startswith(b"<?xml")):
        # OpenVINO would take a file of any of its formats, among them those that name further files.
        raise damaged("it is no IR")
    try:
        if isinstance(data, Path):
            return core().read_model(str(data))
        return core().read_model(data, b"" if weights is None else _tensor(weights))
    except RuntimeError as error:
        raise _refused(error) from error


def _compiled(model: Any, precision: Precision, threads: int | None, batch: int) -> Runner:
    def compile(settings: dict[str, object], size: int | None) -> Any:
        # Left alone, OpenVINO computes in bfloat16 where the CPU has it. No cache: its blobs ignore the precision.
        try:
            sized = model
            if size is not None:
                sized = model.clone()
                sized.reshape({INPUT: [size, *list(model.input(0).get_partial_shape())[1:]]})
            compiled = core().compile_model(sized, "CPU", {"INFERENCE_PRECISION_HINT": HINTS[precision], **settings})
            taken = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        except RuntimeError as error:
            raise _refused(error) from error
        if taken != HINTS[precision]:
            raise UsageError(
                "V007", f"OpenVINO computes in {taken} on this processor, {HINTS[precision]} was asked for",
                hint="take another precision",
            )  # fmt: skip
        return compiled

    return _Compiled(compile, threads, free=model.input(0).get_partial_shape()[0].is_dynamic, batch=batch)


def _refused(error: RuntimeError) -> BundleError:
    import openvino

    return BundleError(
        "V505",
        f"OpenVINO {openvino.__version__} cannot open the graph",
        evidence=[str(error)[:200]],
        hint="export the model again, or choose another engine",
    )


def _check(model: Any, form: Form) -> int:
    """How many logits it gives, as OpenVINO itself infers the shapes for a batch; before it is compiled.

    BundleError V505 for other ends than the form's, an operator that is not in `KINDS`, or values beyond the limits.
    """
    if foreign := sorted({op.get_type_name() for op in model.get_ops()} - KINDS):
        raise damaged(f"the operator `{foreign[0][:40]}` is not on the list of allowed ones")
    ends = [(end.get_any_name(), end.get_element_type().get_type_name()) for end in (*model.inputs, *model.outputs)]
    kinds = ("u8" if form.takes == "pixels" else "f32", "f32", "f32", "i64")
    if ends != [*zip((INPUT, *form.outputs), kinds, strict=False)]:
        raise damaged(f"its ends are {ends}")
    shape = model.input(0).get_partial_shape()
    if len(shape) != 4 or (shape[0].is_static and shape[0].get_length()) != (form.batch or False):
        raise damaged(f"its input has the shape {shape}")
    model = model.clone()  # shapes of a fixed batch fold into constants what is free
    model.reshape({INPUT: [form.batch or BATCH, *(side.get_length() for side in list(shape)[1:])]})
    sizes = [int(np.prod(out.get_shape(), dtype=np.float64)) for op in model.get_ops() for out in op.outputs()]
    if max(sizes) > LARGEST or sum(sizes) > TOTAL:
        raise damaged("a value in it exceeds the memory allowed")
    answer, *best = (out.get_shape() for out in model.outputs)
    if len(answer) != 2 or any(len(shape) != 2 or shape[1] != form.top for shape in best):
        raise damaged(f"its outputs have the shapes {[answer, *best]}")
    return int(answer[1])


def _classes(model: Any) -> tuple[str, ...]:
    try:
        said = str(model.get_rt_info(["framework", CLASSES_KEY]).astype(str))
    except RuntimeError:
        raise damaged(f"it holds no {CLASSES_KEY}") from None
    return class_names(said)


def _facts(model: Any) -> dict[str, object]:
    """As `facts.facts`, but that all norms are of one kind here: `norm_eps`."""
    operations = model.get_ops()
    kinds = Counter(op.get_type_name() for op in operations)
    constants = [op for op in operations if op.get_type_name() == "Constant" and np.prod(op.get_output_shape(0)) == 1]
    numbers = [float(np.asarray(op.data, np.float64).reshape(-1)[0]) for op in constants]
    gelus = {op.get_attributes()["approximation_mode"].lower() for op in operations if op.get_type_name() == "Gelu"}
    norms = {in_float32(op.get_attributes()["eps"]) for op in operations if op.get_type_name() == "MVN"}
    short = sum(_in_int8(op) for op in operations if op.get_type_name() in PRODUCTS)
    return {
        "gelu": sorted(gelus | written_out(kinds, numbers)),
        "norm_eps": sorted(norms),
        "operators": dict(sorted(kinds.items())),
        **({"int8": short} if short else {}),
    }


def _in_int8(product: Any) -> bool:
    """Whether a product's weights are stored in 8 bits: behind a scale, a type, perhaps another shape."""
    op = product.input_value(1).get_node()
    while op.get_type_name() in ("Multiply", "Subtract", "Convert", "Reshape", "Transpose"):
        op = op.input_value(0).get_node()
    return bool(op.get_type_name() == "Constant" and op.get_element_type().get_type_name() in ("i8", "u8"))
