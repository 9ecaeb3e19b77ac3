"""TorchScript, for what still asks for it: the only file that knows `torch.jit`."""

from __future__ import annotations

import contextlib
import io
import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrail.bundle.formats import ABOUT, Form
from vitrail.engines.deployed import deployed, example
from vitrail.engines.table import Runner, Written
from vitrail.engines.torch import seen
from vitrail.errors import BundleError, engine_fault
from vitrail.models.classifier import Classifier

_jit: Any = torch.jit  # which has no types
_NUMBER = rb"[./]___torch_mangle_\d+"
FILE = "model.ts"
# Every operation that a network of ours is traced to; reading and writing of files, for one, is none of them.
OPERATIONS = frozenset(
    f"aten::{name}"
    for name in (
        "_convolution", "add", "add_", "adaptive_avg_pool2d", "arange", "cat", "chunk", "constant_pad_nd", "contiguous",
        "conv2d", "div", "dropout", "dropout_", "expand", "expand_as", "feature_dropout", "flatten", "floor_divide",
        "gelu", "group_norm", "index", "Int", "layer_norm", "linear", "matmul", "max_pool2d", "mean", "mul", "neg",
        "new_full", "new_zeros", "numel", "ones", "pad", "permute", "pow", "relu", "relu_", "repeat", "reshape", "rsub",
        "scaled_dot_product_attention", "select", "sigmoid", "size", "slice", "softmax", "split", "split_with_sizes",
        "sqrt", "squeeze", "stack", "sub", "sum", "t", "tanh", "tensor_split", "to", "transpose", "type_as", "unbind",
        "unflatten", "unsqueeze", "var_mean", "view", "zeros", "zeros_like", "batch_norm", "ScalarImplicit",
        "remainder", "topk",
    )
) | frozenset(
    f"prim::{name}"
    for name in (
        "Constant", "GetAttr", "ListConstruct", "ListUnpack", "TupleConstruct", "TupleUnpack", "NumToTensor", "If",
        "unchecked_cast", "device", "dtype",
    )
)  # fmt: skip


def write(source: Classifier, form: Form, *, about: dict[str, object]) -> Written:
    """The network as one TorchScript file, the same bytes in every process; `about` travels in it as JSON.

    BundleError V508 when it cannot be traced.
    """
    network, images = deployed(source, form, attention="fused"), example(source, form)
    buffer = io.BytesIO()
    # A trace keeps whether convolutions may round to tf32, as this process has it at the moment: they may not.
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False), _quiet():
        try:
            traced = _jit.freeze(_jit.trace(network, images, check_trace=False), optimize_numerics=False)
            _jit.save(traced, buffer, _extra_files={ABOUT: json.dumps(about, sort_keys=True)})
        except RuntimeError as error:
            raise BundleError(
                "V508",
                f"the network cannot be written as TorchScript: {str(error).strip().splitlines()[0][:200]}",
                hint="report the variant and the version of torch; the weights are untouched",
            ) from error
    data = _without_places(buffer)
    with _quiet():
        return Written({FILE: data}, dict(seen(_jit.load(io.BytesIO(data)), images)))


def _without_places(written: io.BytesIO) -> bytes:
    """The archive without the notes of which line of which file made an operation, and without the number that the one
    class in it has among all classes of this process.
    """
    written.seek(0)
    reader, out = torch._C.PyTorchFileReader(written), io.BytesIO()
    writer = torch._C.PyTorchFileWriter(out)
    # By it torch knows which form of an operation is meant: of older ones GELU had no tanh.
    place = next(name for name in reader.get_all_records() if name in (".data/version", "version"))
    writer.set_min_version(int(reader.get_record(place)))
    for name in sorted(reader.get_all_records()):
        if not name.endswith(".debug_pkl") and not name.startswith(".data/") and name not in ("version", "byteorder"):
            record = reader.get_record(name)
            if name == "data.pkl" or name.startswith("code/"):
                record = re.sub(_NUMBER, b"", record)
            writer.write_record(re.sub(_NUMBER.decode(), "", name), record, len(record))
    writer.write_end_of_file()
    return out.getvalue()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch tells at each step that TorchScript is old; that is known, and the exporters are two others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def first(out: Any) -> Any:
    """The logits, of a program that gives more."""
    return out[0] if isinstance(out, tuple) else out


class _Script:
    """A loaded TorchScript program."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def logits(self, batch: NDArray[np.generic], /) -> NDArray[np.float32]:
        out: NDArray[np.float32] = first(self._asked(batch)).numpy()
        return out

    def answers(self, batch: NDArray[np.generic], /) -> tuple[NDArray[np.generic], ...]:
        out = self._asked(batch)
        return tuple(part.numpy() for part in (out if isinstance(out, tuple) else (out,)))

    def _asked(self, batch: NDArray[np.generic]) -> Any:
        try:
            with torch.inference_mode():
                return self._module(torch.from_numpy(np.ascontiguousarray(batch)))
        except RuntimeError as error:
            raise engine_fault("torch", len(batch), error) from error


class Anyones:
    """A program that may not be ours, as a runner: BundleError V505 for what it raises, or gives in place of logits."""

    def __init__(self, module: Any, path: Path, *, several: bool = False) -> None:
        """several: it is known to give more behind its logits."""
        self._module = module
        self._path = path
        self._several = several

    def logits(self, batch: NDArray[np.generic], /) -> NDArray[np.float32]:
        shape = tuple(batch.shape)
        try:
            with torch.inference_mode():
                out = self._module(torch.from_numpy(np.ascontiguousarray(batch)))
            out = first(out) if self._several else out
        except (RuntimeError, IndexError, TypeError, ValueError, _jit.Error) as error:
            raise refused(f"`{self._path}` takes no batch of the shape {shape}", str(error)) from error
        plain = isinstance(out, torch.Tensor) and out.layout == torch.strided and out.is_floating_point()
        if not plain or out.ndim != 2 or len(out) != len(batch) or not out.shape[1]:
            got = f"{out.dtype} of {tuple(out.shape)}" if isinstance(out, torch.Tensor) else type(out).__name__
            raise refused(f"`{self._path}` gives {got} for the shape {shape}, and no logits", "")
        logits: NDArray[np.float32] = out.to("cpu", torch.float32).numpy()
        return logits


def open(data: bytes) -> tuple[Runner, Any, object]:
    """The program ready to run, the program itself, and the classes that it names. Run it only if trusted.

    BundleError V505 when it cannot be read, or holds an operation that no network of ours has.
    """
    module, about = load(data)
    if foreign := sorted(_operations(module) - OPERATIONS):
        raise refused(f"the operation `{foreign[0]}` is not on the list of allowed ones", "")
    return _Script(module), module, about.get("classes")


def load(data: bytes) -> tuple[Any, dict[str, object]]:
    """The program, whatever its operations, and what `write` has put into it. BundleError V505 when it is damaged."""
    said = {ABOUT: ""}
    try:
        with _quiet():
            module = _jit.load(io.BytesIO(data), map_location="cpu", _extra_files=said).eval()
            about = json.loads(said[ABOUT] or "{}")
    except (RuntimeError, ValueError) as error:
        raise refused(f"torch {torch.__version__} cannot open it", str(error)) from error
    return module, about if isinstance(about, dict) else {}


def _operations(module: Any) -> set[str]:
    """Every operation that an answer takes, with what it branches to."""
    found: set[str] = set()
    waiting = [module.inlined_graph]
    while waiting:
        for node in waiting.pop().nodes():
            found.add(node.kind())
            waiting.extend(node.blocks())
    return found


def refused(why: str, said: str) -> BundleError:
    """BundleError V505 for a program of torch."""
    evidence = [said.strip().splitlines()[0][:200]] if said.strip() else ()
    return BundleError("V505", f"the program is refused: {why}", evidence=evidence, hint="export the model again")
