"""What a source's own file finds, before it is split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Stored = Path | bytes | NDArray[np.uint8]  # a file, the bytes of one, or pixels (H, W, C)


@dataclass(frozen=True)
class Found:
    """Labelled pictures. held_out: bool (N,) where the layout itself says which, else None.

    picture(i) gives picture i as it is stored, undecoded; it may be called from several threads at once.
    """

    place: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    held_out: NDArray[np.bool_] | None
    picture: Callable[[int], Stored]
    title: Callable[[int], str]
    memory: NDArray[np.uint8] | None
    notes: tuple[str, ...]
    sizes: NDArray[np.int64] | None = None  # bytes of each picture's file, where there are files
