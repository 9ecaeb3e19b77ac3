"""What a loader hands on. Arrays only, so that evaluation works with torch absent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import PictureError, printable


@dataclass(frozen=True)
class BadPicture:
    """A picture that could not be read: where it stands, and why."""

    index: int
    name: str
    error: PictureError

    def __str__(self) -> str:
        """One line: which picture, why, and the code."""
        lead = "" if printable(self.name) in self.error.what else f"{self.name}: "
        return f"{lead}{self.error.what} ({self.error.code})"


@dataclass(frozen=True)
class TrainBatch:
    """One step's pictures: images float32 (B, C, H, W) normalised, labels int64 (B,), indices into the source (B,)."""

    step: int  # counted over the whole run, from 0
    epoch: int
    indices: NDArray[np.int64]
    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    bad: tuple[BadPicture, ...] = ()  # those of the batch that could not be read, and are not in it
    whole: int | None = None  # pictures of this step on all ranks; None: these are all


@dataclass(frozen=True)
class EvalBatch:
    """Pictures to evaluate. A picture that cannot be read is zeros here and listed in `bad`: it counts as wrong."""

    indices: NDArray[np.int64]
    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    bad: tuple[BadPicture, ...] = ()
