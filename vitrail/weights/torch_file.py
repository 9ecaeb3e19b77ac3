"""Tensors to a file that `torch.load` opens."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import IO, cast

import torch
from torch import Tensor

from vitrail import disk
from vitrail.formats.bounds import check_names
from vitrail.formats.stored import Stored, Tensors
from vitrail.weights.tensors import TORCH_TYPES

_TYPES = {**TORCH_TYPES, "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16}  # no network has these


def write(path: Path, tensors: Tensors) -> None:
    """Write an OrderedDict of names to tensors by torch.save, whole or not at all, in the order given.

    `torch.load(path, weights_only=True)` gives it back.  The same tensors give the same bytes under one torch version.
    WeightsError V202 for names that no weight file may have; SystemFault V701 when the disk refuses.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder) / "w.pth", {"bias": Stored("U8", (3,), b"abc")})
    ...     torch.load(Path(folder) / "w.pth", weights_only=True)["bias"].tolist()
    [97, 98, 99]
    """
    check_names(tensors, "the tensors to write")
    values = OrderedDict((name, _tensor(stored)) for name, stored in tensors.items())

    def fill(file: IO[bytes]) -> None:
        honest = _Honest(file)
        try:
            torch.save(values, cast(IO[bytes], honest))  # write and flush are all it asks for
        except RuntimeError as error:
            if honest.fault is not None:
                raise honest.fault from error
            raise

    disk.write_file(path, fill)


def _tensor(stored: Stored) -> Tensor:
    if not stored.nbytes:
        return torch.empty(stored.shape, dtype=_TYPES[stored.dtype])
    return torch.frombuffer(bytearray(stored.data), dtype=_TYPES[stored.dtype]).reshape(stored.shape)


class _Honest:
    """A file that remembers what the system said: torch turns a full disk into `unexpected pos 704 vs 598`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.fault: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.fault = self.fault or error
            raise

    def flush(self) -> None:
        self._file.flush()
