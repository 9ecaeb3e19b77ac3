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


def patch_places(grid: tuple[int, int]) -> NDArray[np.int64]:
    """Each patch's row x (2 columns - 1) + column: differences of two tell which way and how far one lies from another.

    >>> patch_places((2, 2)).tolist()
    [0, 1, 3, 4]
    """
    rows, columns = grid
    return (np.arange(rows)[:, None] * (2 * columns - 1) + np.arange(columns)).reshape(-1)


def relative_index(grid: tuple[int, int]) -> NDArray[np.int64]:
    """BEiT's rows of a table of relative positions (N, N), for asking and asked token; the class token comes first.

    For patches (row distance + rows - 1) (2 columns - 1) + column distance + columns - 1, distance = asking - asked.
    Then three rows for the class token: from it to a patch, from a patch to it, from it to itself.

    >>> relative_index((2, 2)).tolist()[:3]
    [[11, 9, 9, 9, 9], [10, 4, 3, 1, 0], [10, 5, 4, 2, 1]]
    """
    place = patch_places(grid)
    index = np.empty((len(place) + 1,) * 2, np.int64)
    index[1:, 1:] = place[:, None] - place + place[-1]
    patches = (2 * grid[0] - 1) * (2 * grid[1] - 1)
    index[0, :], index[:, 0], index[0, 0] = patches, patches + 1, patches + 2
    return index
