"""What the generated cells call, on torch: so that their text is run, not only read, where MindSpore is not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from vitrail.engines.mindir.cell import Cell


def _tensor(value: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(value))


def _parameter(value: torch.Tensor, *, name: str, requires_grad: bool) -> torch.Tensor:
    assert name and not requires_grad
    return value


def _conv(channels: int, kernel: tuple[int, int], **settings: Any) -> Callable[..., torch.Tensor]:
    top, bottom, left, right = settings["pad"]
    assert settings["pad_mode"] == "pad"

    def run(images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        assert tuple(weight.shape[2:]) == kernel and len(weight) == channels
        padded = functional.pad(images, (left, right, top, bottom))
        kept = {name: settings[name] for name in ("stride", "dilation")}
        return functional.conv2d(padded, weight, groups=settings["group"], **kept)

    return run


def _layer_norm(begin: int, begin_params: int, epsilon: float) -> Callable[..., tuple[torch.Tensor]]:
    def run(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor]:
        assert begin == begin_params == x.ndim - 1
        return (functional.layer_norm(x, x.shape[-1:], scale, shift, epsilon),)

    return run


def _max_pool(*, kernel_size: Any, strides: Any, pad_mode: str) -> Callable[[torch.Tensor], torch.Tensor]:
    assert pad_mode == "valid"
    return lambda x: functional.max_pool2d(x, kernel_size, strides)


def _matmul(transpose_b: bool = False) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    def run(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert a.ndim == b.ndim == 2
        return a @ (b.T if transpose_b else b)

    return run


def _batch_matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    assert a.shape[:-2] == b.shape[:-2]
    return a @ b


OPS = SimpleNamespace(
    Add=lambda: torch.add,
    Sub=lambda: torch.sub,
    Mul=lambda: torch.mul,
    Div=lambda: torch.div,
    MatMul=_matmul,
    BatchMatMul=lambda: _batch_matmul,
    BiasAdd=lambda: lambda x, bias: x + bias[:, None, None],
    Conv2D=_conv,
    LayerNorm=_layer_norm,
    MaxPool=_max_pool,
    broadcast_to=torch.broadcast_to,
    concat=torch.cat,
    erf=torch.erf,
    gather=lambda table, places, axis: torch.from_numpy(np.take(table.numpy(), places.numpy(), axis)),
    mean=torch.mean,
    pad=lambda x, pads, value: functional.pad(x, pads, value=value),
    pow=torch.pow,
    relu=torch.relu,
    reshape=torch.reshape,
    softmax=torch.softmax,
    sqrt=torch.sqrt,
    square=torch.square,
    tanh=torch.tanh,
    transpose=torch.permute,
)


@contextmanager
def _installed() -> Iterator[None]:
    module = ModuleType("mindspore")
    vars(module).update(Parameter=_parameter, Tensor=_tensor, nn=SimpleNamespace(Cell=object), ops=OPS)
    sys.modules["mindspore"] = module
    try:
        yield
    finally:
        del sys.modules["mindspore"]


def run(cell: Cell, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the cell answers, by its own text."""
    with _installed():
        space: dict[str, Any] = {}
        exec(compile(cell.text, "network.py", "exec"), space)  # text of our own making, as MindSpore would run it
        network = space["Network"](list(cell.constants.values()), list(cell.constants))
        out: NDArray[np.float32] = network.construct(torch.from_numpy(images)).numpy()
    return out
