"""Between a torch network and stored tensors, without changing a bit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitrail.errors import UsageError, WeightsError
from vitrail.formats.stored import DTYPES, Stored, Tensors
from vitrail.models import build
from vitrail.models.configs import ModelConfig
from vitrail.models.count import shapes
from vitrail.weights.fit import check

TORCH_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
_WORDS = {kind: word for word, kind in TORCH_TYPES.items()}
_FLOATS = ("F64", "F32", "F16", "BF16")
_PIECE = 1 << 20  # values looked at together


def to_torch(stored: Stored) -> Tensor:
    """A torch tensor of its own memory with the same bits."""
    if not stored.nbytes:
        return torch.empty(stored.shape, dtype=TORCH_TYPES[stored.dtype])
    return torch.frombuffer(bytearray(stored.data), dtype=TORCH_TYPES[stored.dtype]).reshape(stored.shape)


def to_stored(tensor: Tensor) -> Stored:
    """A copy of a torch tensor, on any device, as files hold it."""
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    data = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return Stored(_WORDS[tensor.dtype], tuple(tensor.shape), data)


def stored_of(tensors: Mapping[str, NDArray[np.generic] | Tensor | Stored]) -> Tensors:
    """Arrays and torch tensors as stored tensors; the types are kept."""
    if not isinstance(tensors, Mapping):
        raise UsageError(
            "V007", f"tensors is a {type(tensors).__name__}, no mapping of names", hint="give a state dict"
        )
    out: Tensors = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise UsageError("V007", f"a tensor's name is {name!r:.80}, which is no text")
        out[name] = tensor if isinstance(tensor, Stored) else _as_stored(name, tensor)
    return out


def _as_stored(name: str, tensor: NDArray[np.generic] | Tensor) -> Stored:
    if isinstance(tensor, Tensor):
        plain = tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized
        if tensor.dtype not in _WORDS or not plain:
            raise WeightsError("V204", f"`{name}` is {tensor.dtype}, {tensor.layout}, on {tensor.device}", hint=_PLAIN)
        return to_stored(tensor)
    try:
        return Stored.of(np.array(tensor))
    except (UsageError, ValueError, TypeError) as error:
        raise WeightsError("V204", f"`{name}` is no array of numbers that can be stored", hint=_PLAIN) from error


_PLAIN = "give dense arrays or torch tensors of float64, float32, float16 or bfloat16"


def native_tensors(module: nn.Module) -> Tensors:
    """Every tensor of a network under its native name, copied, sorted by name.

    >>> from vitrail.models import build
    >>> from vitrail.models.catalog import variant
    >>> native_tensors(build(variant("cct_2_3x2_32").config))["classifier.fc.bias"].shape
    (10,)
    """
    return {name: to_stored(tensor) for name, tensor in sorted(module.state_dict().items())}


def load_native(module: nn.Module, tensors: Tensors) -> None:
    """Copy tensors into a network in place.

    WeightsError V204 unless names, shapes and types are exactly the network's: nothing is then changed.
    """
    own = module.state_dict()
    check(tensors, {name: tuple(tensor.shape) for name, tensor in own.items()}, "the network")
    kinds = [
        f"{name}  file {tensors[name].dtype}  model {_WORDS[tensor.dtype]}"
        for name, tensor in own.items()
        if tensors[name].dtype != _WORDS[tensor.dtype]
    ]
    if kinds:
        raise WeightsError(
            "V204", f"{len(kinds)} of {len(own)} tensors are of another type than the network's", evidence=kinds[:20],
            hint="load them in the precision in which they were saved",
        )  # fmt: skip
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(to_torch(tensors[name]))


def network(config: ModelConfig, tensors: Tensors) -> nn.Module:
    """The network of a config with these native tensors, on the CPU, in float32; WeightsError V204 unless they fit.

    Nothing is allocated before the shapes are known to fit: what the network takes is then what the file holds.
    """
    check(tensors, shapes(config), "the config")
    module = build(config)  # not on `meta`: what no file holds (fixed tables) must be there too
    load_native(module, tensors)
    return module


def filled(module: nn.Module, tensors: Tensors) -> nn.Module:
    """A network built on `meta`, given these tensors, whose type it takes; they fit (`check`)."""
    module.load_state_dict({name: to_torch(stored) for name, stored in tensors.items()}, assign=True)
    return module


def check_numbers(tensors: Tensors, where: object) -> None:
    """WeightsError V201 for the first NaN or Inf, V204 unless all tensors are of one floating type."""
    kinds = {name: stored.dtype for name, stored in tensors.items()}
    for name, kind in kinds.items():
        if kind not in _FLOATS:
            raise WeightsError("V204", f"`{where}`: `{name}` is of type {kind}, weights are floating-point numbers")
    of_a_kind = {kind: name for name, kind in reversed(kinds.items())}
    if len(of_a_kind) > 1:
        raise WeightsError(
            "V204",
            f"`{where}` mixes number types",
            evidence=[f"{kind}: {name}" for kind, name in sorted(of_a_kind.items())],
            hint="save all tensors in one type",
        )
    for name, stored in tensors.items():
        if not _finite(stored):
            raise _broken(name, stored, where)


def _finite(stored: Stored) -> bool:
    """Piece by piece, so that it costs no memory; BF16 is widened, which keeps NaN and Inf."""
    kind, data = DTYPES[stored.dtype], memoryview(stored.data)
    step = _PIECE * kind[0]
    pieces = (Stored(stored.dtype, (len(part) // kind[0],), part) for part in _cut(data, step))
    return all(bool(np.isfinite(piece.array()).all()) for piece in pieces)


def _cut(data: memoryview, step: int) -> Iterator[memoryview]:
    return (data[at : at + step] for at in range(0, len(data), step))


def _broken(name: str, stored: Stored, where: object) -> WeightsError:
    values = stored.array().reshape(-1)
    finite = np.isfinite(values)
    first = int(np.argmin(finite))
    index = tuple(int(i) for i in np.unravel_index(first, stored.shape)) if math.prod(stored.shape) > 1 else ()
    return WeightsError(
        "V201",
        f"`{where}`: `{name}` holds {float(values[first])} at {index}",
        evidence=[f"{int((~finite).sum())} of {finite.size} values are NaN or Inf"],
        hint="take an earlier checkpoint: this one cannot give answers",
    )
