"""Fixed tables that networks add or look up, in NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def sine_table(tokens: int, dim: int) -> NDArray[np.float32]:
    """SHI-Labs' fixed positions (N, D): sin on even, cos on odd columns of p / 10000^(2 (i // 2) / dim).

    The published table rounds the angle to float32 before the sine: at position 255 that moves the sine by 8e-6.

    >>> sine_table(2, 4)[1].astype(float).round(6).tolist()
    [0.841471, 0.540302, 0.01, 0.99995]
    """
    column = np.arange(dim)
    power = np.array([10000.0 ** (2 * (i // 2) / dim) for i in range(dim)])
    angle = (np.arange(tokens, dtype=np.float64)[:, None] / power).astype(np.float32).astype(np.float64)  # (N, D)
    table: NDArray[np.float32] = np.where(column % 2 == 0, np.sin(angle), np.cos(angle)).astype(np.float32)
    return table
