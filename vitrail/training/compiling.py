"""torch.compile for the blocks of a network: one graph a block and shape, made anew in every process.

Shapes are never generalised, and evaluation stays with the layers as they are: which shapes came before then changes
no number, and a resumed run computes by the same graphs as one that was never stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vitrail.errors import UsageError
from vitrail.models.layers import Blocks

GRAPHS = 512  # of one class of blocks: their drop rates differ, and so do the parts of a batch


def compile_blocks(module: nn.Module) -> None:
    """Let every block compile itself when it is first called. UsageError V003 where nothing can be compiled."""
    try_out(next(module.parameters()).device)
    torch._dynamo.config.recompile_limit = GRAPHS
    torch._dynamo.config.accumulated_recompile_limit = GRAPHS
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # in place of going on uncompiled without a word
    for part in module.modules():
        if isinstance(part, Blocks):
            for block in part:
                block.compile(dynamic=False)


def try_out(device: torch.device) -> None:
    """UsageError V003 where torch can compile nothing for a device."""
    try:
        torch.compile(_sum, dynamic=False)(torch.ones(8, device=device))
    except Exception as error:  # whatever lacks: a compiler, Python's headers, a folder to write to
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(
            "V003",
            "train.compile: torch can compile nothing here",
            evidence=[reason[:400]],
            hint="install a C++ compiler (`apt install g++ python3-dev`), or leave train.compile out",
        ) from error


def _sum(x: Tensor) -> Tensor:
    return (x * 2 + 1).sum()


@contextmanager
def uncompiled(on: bool) -> Iterator[None]:
    """Inside, compiled blocks are called as they were written; without `on` nothing is touched."""
    if not on:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
