"""A network on several ranks: whole on each of them (DDP), or its tensors in parts (FSDP2)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn


def ddp(module: nn.Module) -> nn.Module:
    """The network behind torch's DistributedDataParallel; `module` itself stays as it is, with the same tensors."""
    device = next(module.parameters()).device
    ids = None if device.type == "cpu" else [device]
    return nn.parallel.DistributedDataParallel(module, device_ids=ids)


def fsdp(module: nn.Module, size: int) -> nn.Module:
    """The same network with every parameter in parts (`fully_shard`), gathered block by block while it computes."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(next(module.parameters()).device.type, (size,))
    for part in module.modules():
        if isinstance(part, nn.ModuleList):
            for block in part:
                fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module


def later(module: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
    """Inside, the gradients of a part of a batch wait for the last one: DDP then speaks to the others once a step."""
    if last or not isinstance(module, nn.parallel.DistributedDataParallel):
        return nullcontext()
    waiting: AbstractContextManager[Any] = module.no_sync()
    return waiting


def lies_in_parts(tensor: Tensor) -> bool:
    """Whether each rank holds a part of the tensor; not every fused kernel of torch takes such."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """The tensor, put together where it lies in parts: all ranks call it in the same order."""
    full = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def own_rows(tensor: Tensor, rank: int) -> Tensor | None:
    """The rows that this rank has of a tensor in parts; of any other tensor rank 0 has all."""
    local = getattr(tensor, "to_local", None)
    if local is None:
        return None if rank else tensor
    rows: Tensor = local()
    return rows if len(rows) else None


def in_parts(tensor: Tensor, like: Tensor) -> Tensor:
    """The whole `tensor`, which all ranks have, laid out as `like` is."""
    if not lies_in_parts(like):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
