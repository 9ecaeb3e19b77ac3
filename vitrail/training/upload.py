"""Batches brought to the device while it computes the step before."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vitrail.data.batches import TrainBatch
from vitrail.data.loader import ahead


def uploaded(batches: Iterator[TrainBatch], count: int, device: torch.device) -> Iterator[TrainBatch]:
    """The next `count` batches with images and labels as tensors on the device; on the processor as they are.

    One thread waits for a batch, copies it into pinned memory and from there to the device, on a stream of its own
    where the device is CUDA's: the next batch arrives while this one is computed.
    """
    return batches if device.type == "cpu" else _uploaded(batches, count, device)


def _uploaded(batches: Iterator[TrainBatch], count: int, device: torch.device) -> Generator[TrainBatch, None, None]:
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def make(_: int) -> TrainBatch:
        batch = next(batches)
        return replace(
            batch,
            images=_moved(torch.as_tensor(batch.images), device, stream),
            labels=_moved(torch.as_tensor(batch.labels), device, stream),
        )

    # patience 0: whoever reads the pictures has a patience of his own, and names the file
    moved = ahead(make, 0, count, workers=1, patience=0)
    try:
        with contextlib.closing(moved):
            yield from moved
    finally:
        if isinstance(batches, Generator):
            batches.close()


def _moved(values: Tensor, device: torch.device, stream: torch.cuda.Stream | None) -> Any:
    if stream is None:
        return values.to(device)
    computes = torch.cuda.current_stream(device)
    with torch.cuda.stream(stream):
        found = values.pin_memory().to(device, non_blocking=True)
    found.record_stream(computes)  # its memory is not given away before what was computed with it is done
    stream.synchronize()  # of this thread alone: the batch is there when it is handed on
    return found
