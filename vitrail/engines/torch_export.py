"""What follows TorchScript: a graph of `torch.export`, and the same compiled by AOTInductor."""

from __future__ import annotations

import io
import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.bundle.formats import ABOUT, Form
from vitrail.engines.deployed import deployed, example
from vitrail.engines.table import Runner, Written
from vitrail.engines.torch import seen
from vitrail.engines.torchscript import refused
from vitrail.errors import BundleError, UsageError, engine_fault
from vitrail.models.classifier import Classifier

FILE = "model.pt2"
_CACHE = "TORCHINDUCTOR_CACHE_DIR"
LARGEST_BATCH = 1024  # of a free batch: the exporter wants a range
_PLACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")
OPERATIONS = frozenset(
    (
        "add", "alias", "arange", "cat", "clone", "constant_pad_nd", "contiguous", "conv2d", "div", "dropout",
        "embedding", "expand", "flatten", "gelu", "group_norm", "index", "layer_norm", "linear", "matmul", "max_pool2d",
        "mean", "mul", "neg", "new_full", "pad", "permute", "pow", "relu", "reshape", "rsub",
        "scaled_dot_product_attention", "select", "sigmoid", "slice", "softmax", "split", "split_with_sizes", "sqrt",
        "square", "squeeze", "sub", "sum", "sym_size", "tanh",
        "to", "transpose", "unbind", "unflatten", "unsqueeze", "view", "zeros_like", "batch_norm", "_to_copy",
        "var_mean", "zeros", "_assert_tensor_metadata", "_assert_scalar",
    )
)  # fmt: skip


def write(source: Classifier, form: Form, *, about: dict[str, object]) -> Written:
    """The network as a `.pt2` archive of torch.export, the same bytes in every process.

    BundleError V508 when it cannot be exported.
    """
    program = _exported(source, form)
    for node in program.graph.nodes:
        for name in _PLACES:  # lines of files of this machine
            node.meta.pop(name, None)
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(program, buffer, extra_files={ABOUT: json.dumps(about, sort_keys=True)})
    return Written({FILE: buffer.getvalue()}, dict(seen(program.module(), example(source, form))))


def write_compiled(source: Classifier, form: Form) -> Written:
    """The network compiled for this processor, as a `.pt2` archive of AOTInductor. A C++ compiler must be there.

    It holds machine code: another processor may not be able to run it. Two compilations differ in their bytes.
    BundleError V508 when the network cannot be exported, UsageError V003 where torch can compile nothing.
    """
    program = _exported(source, form)
    with tempfile.TemporaryDirectory() as place, _quiet():
        path = Path(place) / FILE
        before = os.environ.get(_CACHE)
        os.environ[_CACHE] = place  # else what the compiler made stays in the system's temporary folder
        try:
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
        except Exception as error:  # the compiler's own exceptions are of many kinds, none of them public
            raise UsageError(
                "V003",
                "aoti: torch can compile nothing here",
                evidence=[str(error).strip().partition("\n")[0][:400]],
                hint="install a C++ compiler (Debian: apt install g++), or export another format",
            ) from error
        finally:
            os.environ.pop(_CACHE)
            if before is not None:
                os.environ[_CACHE] = before
        data = path.read_bytes()
    return Written({FILE: data}, dict(seen(program.module(), example(source, form))))


def _exported(source: Classifier, form: Form) -> Any:
    network, images = deployed(source, form, attention="fused"), example(source, form)
    free = {0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)} if form.batch is None else None
    with torch.no_grad(), _quiet():
        try:
            return torch.export.export(network, (images,), dynamic_shapes=(free,), strict=False)
        except (RuntimeError, torch._dynamo.exc.UserError) as error:
            raise BundleError(
                "V508",
                f"the network cannot be exported: {str(error).strip().splitlines()[0][:200]}",
                hint="report the variant and the version of torch; the weights are untouched",
            ) from error


def _quiet() -> warnings.catch_warnings[None]:
    return warnings.catch_warnings(action="ignore")


class _Program:
    """A loaded program of torch."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def logits(self, batch: NDArray[np.generic], /) -> NDArray[np.float32]:
        parts = (batch[at : at + LARGEST_BATCH] for at in range(0, len(batch), LARGEST_BATCH))
        try:
            with torch.inference_mode():
                done = [self._call(torch.from_numpy(np.ascontiguousarray(part))).numpy() for part in parts]
        except RuntimeError as error:
            raise engine_fault("torch", len(batch), error) from error
        return np.concatenate(done)


def open(data: bytes) -> tuple[Runner, Any, object]:
    """The graph ready to run, the program itself, and the classes that it names. Run it only if trusted.

    BundleError V505 when it cannot be read, or holds an operation that no network of ours has.
    """
    said = {ABOUT: ""}
    try:
        with _quiet():
            program = torch.export.load(io.BytesIO(data), extra_files=said)
            about = json.loads(said[ABOUT] or "{}")
    except Exception as error:  # whatever the many readers inside raise on damaged bytes
        raise refused(f"torch {torch.__version__} cannot open it", str(error)) from error
    called = {_name(node.target) for node in program.graph.nodes if node.op == "call_function"}
    if foreign := sorted(called - OPERATIONS - {"getitem"}):
        raise refused(f"the operation `{foreign[0]}` is not on the list of allowed ones", "")
    module = program.module()
    return _Program(module), module, about.get("classes") if isinstance(about, dict) else None


def open_compiled(data: bytes) -> Runner:
    """The compiled network ready to run. It is machine code: run it only if trusted. BundleError V505 as `open`."""
    with tempfile.TemporaryDirectory() as place, _quiet():
        path = Path(place) / FILE
        path.write_bytes(data)
        try:
            return _Program(torch._inductor.aoti_load_package(str(path)))
        except Exception as error:  # whatever the many readers inside raise on damaged bytes
            raise refused(f"torch {torch.__version__} cannot open it", str(error)) from error


def _name(target: Any) -> str:
    """`aten.add.Tensor` -> add; a Python operator by its own name."""
    parts = str(target).split(".")
    return parts[1] if parts[0] == "aten" and len(parts) > 2 else getattr(target, "__name__", str(target))
