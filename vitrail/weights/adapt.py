"""Weights for another picture size, patch size or number of channels, each by the rule of a named world.

A resize along one axis is a matrix (new, old), made in float64; two axes are two of them. Nothing here needs torch or
SciPy. Letters: N tokens, D width, H heads, T distances, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Matrix = NDArray[np.float64]
Grid = tuple[int, int]  # rows, columns
T = TypeVar("T")

Resize = Literal["zoom", "bilinear", "bilinear_antialias", "bicubic", "bicubic_antialias"]
Relative = Literal["cubic", "linear", "bicubic", "bilinear"]

# How each world fits absolute positions to another grid.
POSITIONS: dict[tuple[str, str], Resize] = {
    # dialect        family     method                 source
    ("google",      "vit"):  "zoom",               # vit_jax/checkpoint.py interpolate_posembed, scipy zoom order 1
    ("keras",       "vit"):  "zoom",               # vit-keras utils.apply_embedding_weights, the same
    ("timm",        "vit"):  "bicubic_antialias",  # layers/pos_embed.py; its npz loader: bilinear
    ("timm",        "beit"): "bicubic_antialias",
    ("huggingface", "vit"):  "bicubic",            # models/vit interpolate_pos_encoding
    ("huggingface", "beit"): "bicubic",
    ("unilm",       "beit"): "bicubic",            # beit/run_class_finetuning.py
    ("shi_labs",    "cct"):  "bilinear",           # src/utils/helpers.py resize_pos_embed
    ("mindspore",   "vit"):  "zoom",               # the ports refuse another grid: their originals' rules
    ("mindspore",   "cct"):  "bilinear",
    ("mindspore",   "beit"): "bicubic",
}  # fmt: skip

# How each world fits BEiT's tables of relative positions.
RELATIVE: dict[str, Relative] = {
    "timm":        "linear",    # layers/pos_embed_rel.py resize_rel_pos_bias_table; `bicubic` is its `_simple` one
    "huggingface": "bilinear",  # models/beit, when it runs
    "unilm":       "cubic",     # beit/run_class_finetuning.py, interp2d
    "mindspore":   "cubic",     # the port has no rule: its original's
}  # fmt: skip

CLASS_ROWS = 3  # rows at the end of a relative table: class to patch, patch to class, class to itself
SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"
BLOCK_TABLE = "blocks.{i}.attn.relative_position_bias_table"


def positions(table: Array, *, old: Grid, new: Grid, prefix: int, method: Resize) -> Array:
    """The position table (1, N, D) of the grid `old` for the grid `new`, in the table's own type.

    The first `prefix` rows (class, distillation and register tokens) stay as they are, to the bit; so does everything
    where the grids are equal. ValueError for a table that is not of `old`.

    >>> positions(np.arange(4.0).reshape(1, 4, 1), old=(2, 2), new=(3, 3), prefix=0, method="zoom").ravel().tolist()
    [0.0, 0.5, 1.0, 1.0, 1.5, 2.0, 2.0, 2.5, 3.0]
    """
    _known(method, Resize)
    rows = prefix + old[0] * old[1]
    if table.ndim != 3 or table.shape[:2] != (1, rows):
        raise ValueError(f"shape {table.shape}, needed is (1, {rows}, D): {prefix} + {old[0]} x {old[1]} positions")
    if old == new:
        return table
    resized = _on_grid(table[0, prefix:], old, (matrix(old[0], new[0], method), matrix(old[1], new[1], method)))
    return np.concatenate([table[:, :prefix], resized[None]], axis=1)


def relative_table(table: Array, *, old: Grid, new: Grid, method: Relative) -> Array:
    """The table of relative positions (T, H) of the grid `old` for the grid `new`, in the table's own type.

    `cubic` (unilm) and `linear` (timm) read it at positions that grow geometrically from the centre, so that near
    distances keep their values; `bilinear` (transformers) and `bicubic` resize it as a picture. The last three rows,
    the class token's, stay as they are. Where only one side changes the geometric methods move along both, as timm's
    does. ValueError for a table that is not of `old`.
    """
    _known(method, Relative)
    (rows, columns), (to_rows, to_columns) = ((2 * grid[0] - 1, 2 * grid[1] - 1) for grid in (old, new))
    if table.ndim != 2 or table.shape[0] != rows * columns + CLASS_ROWS:
        raise ValueError(f"shape {table.shape}, needed is ({rows * columns + CLASS_ROWS}, H) for {old[0]} x {old[1]}")
    if old == new:
        return table
    resized = _on_grid(
        table[:-CLASS_ROWS], (rows, columns), (_relative(rows, to_rows, method), _relative(columns, to_columns, method))
    )
    return np.concatenate([resized, table[-CLASS_ROWS:]])


def shared_to_blocks(tensors: Mapping[str, T], depth: int) -> dict[str, T]:
    """Native BEiT tensors with the one shared table of relative positions given to each of `depth` blocks.

    What unilm does when a pre-trained network becomes a classifier. ValueError without a shared table, or where blocks
    have tables of their own.
    """
    names = [BLOCK_TABLE.format(i=i) for i in range(depth)]
    if SHARED_TABLE not in tensors or any(name in tensors for name in names):
        raise ValueError(f"needed are tensors with {SHARED_TABLE} and without tables in the blocks")
    rest = {name: tensor for name, tensor in tensors.items() if name != SHARED_TABLE}
    return rest | dict.fromkeys(names, tensors[SHARED_TABLE])


def channels(kernel: Array, count: int) -> Array:
    """The patch or stem kernel (D, C, h, w) for pictures of `count` channels.

    timm's adapt_input_conv: to one channel the sum over all; to another count, channel j takes the weights of channel
    j mod C, times C / count. A grey picture, given as one channel or as C alike, or as a multiple of C, so gets one
    answer, and the sums of other counts keep their size. From one or four channels, where timm has no rule, the same.
    In float32, or the kernel's own type where that is wider. ValueError for a kernel of another rank.

    >>> channels(np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1), 4).ravel().tolist()
    [0.75, 1.5, 2.25, 0.75]
    """
    assert count >= 1, count
    _kernel(kernel)
    have = kernel.shape[1]
    if count == have:
        return kernel
    wide = kernel.astype(np.promote_types(kernel.dtype, np.float32))
    fitted = wide.sum(axis=1, keepdims=True) if count == 1 else wide[:, np.arange(count) % have] * (have / count)
    return np.asarray(fitted, kernel.dtype)


def matrix(old: int, new: int, method: Resize) -> Matrix:
    """The matrix (new, old) that resizes one axis from `old` to `new` samples.

    `zoom` puts the corners on each other; the others are torch's, with half a pixel at each end.
    """
    if method == "zoom":
        return _linear(np.arange(old), np.arange(new) * ((old - 1) / max(1, new - 1)))
    if method.endswith("_antialias"):
        return _filtered(old, new, method)
    centre = (np.arange(new) + 0.5) * (old / new) - 0.5
    if method == "bilinear":
        return _linear(np.arange(old), centre)
    out = np.zeros((new, old))
    first = np.floor(centre).astype(int)
    for tap in range(-1, 3):  # beyond the ends the outermost sample is repeated
        column = np.clip(first + tap, 0, old - 1)
        np.add.at(out, (np.arange(new), column), _cubic(centre - (first + tap), -0.75))
    return out


def _filtered(old: int, new: int, method: Resize) -> Matrix:
    """Pillow's and torch's antialiased resize: the filter grows with the step, the weights sum to 1."""
    shape: tuple[float, Callable[[Matrix], Matrix]] = {
        "bilinear_antialias": (1.0, lambda x: np.maximum(0.0, 1.0 - np.abs(x))),
        "bicubic_antialias": (2.0, lambda x: _cubic(x, -0.5)),
    }[method]
    step, (reach, weight) = old / new, shape
    grow = max(1.0, step)
    centre = (np.arange(new)[:, None] + 0.5) * step
    sample = np.arange(old)[None, :]
    low = np.maximum(np.trunc(centre - reach * grow + 0.5), 0)
    high = np.minimum(np.trunc(centre + reach * grow + 0.5), old)
    weights = np.where((sample >= low) & (sample < high), weight((sample + 0.5 - centre) / grow), 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _cubic(x: Matrix, a: float) -> Matrix:
    """Keys' cubic convolution; a: -0.75 in OpenCV and torch, -0.5 in Pillow and where torch antialiases."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _linear(at: Array, wanted: Array) -> Matrix:
    """Linear interpolation of samples at the rising places `at`; beyond the ends the outermost sample."""
    out = np.zeros((len(wanted), len(at)))
    wanted = np.clip(wanted, at[0], at[-1])
    left = np.clip(np.searchsorted(at, wanted, side="right") - 1, 0, max(0, len(at) - 2))
    right = np.minimum(left + 1, len(at) - 1)
    share = (wanted - at[left]) / np.maximum(at[right] - at[left], np.finfo(float).tiny)
    np.add.at(out, (np.arange(len(wanted)), left), 1.0 - share)
    np.add.at(out, (np.arange(len(wanted)), right), share)
    return out


def _relative(old: int, new: int, method: Relative) -> Matrix:
    """The matrix (new, old) for one side of a relative table; old and new are odd."""
    if method in ("bilinear", "bicubic"):
        return matrix(old, new, method)
    at, wanted = geometric(old, new), np.arange(-(new // 2), new // 2 + 1.0)
    return _linear(at, wanted) if method == "linear" else _spline(at, wanted)


def geometric(old: int, new: int) -> Matrix:
    """Where the `old` entries of one side of a relative table lie among `new` distances: 0, +-1, +-(1 + r), ...

    The ratio r makes the outermost one new // 2; by bisection in [1.01, 1.5] to 1e-6, as unilm and timm find it, so
    that a table that shrinks is cut rather than squeezed.
    """
    half, far = old // 2, new // 2
    low, high = 1.01, 1.5
    ratio = low
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (1 - ratio**half) / (1 - ratio) > far:
            high = ratio
        else:
            low = ratio
    steps = list(accumulate(ratio**i for i in range(half)))
    return np.array([*(-step for step in reversed(steps)), 0.0, *steps])


def _spline(at: Matrix, wanted: Matrix) -> Matrix:
    """The interpolating cubic spline with not-a-knot ends; beyond the ends the outermost sample.

    In two directions it is SciPy's RectBivariateSpline(kx=3, ky=3, s=0), which followed interp2d(kind="cubic").
    """
    n = len(at)
    wanted = np.clip(wanted, at[0], at[-1])
    if n < 4:  # the one polynomial through all samples
        others = [[at[j] for j in range(n) if j != k] for k in range(n)]
        factors = [[(wanted - x) / (at[k] - x) for x in rest] for k, rest in enumerate(others)]
        return np.stack([np.prod([np.ones_like(wanted), *parts], axis=0) for parts in factors], axis=1)
    h = np.diff(at)
    inner = np.arange(1, n - 1)
    left, right, unit = np.zeros((n, n)), np.zeros((n, n)), np.eye(n)
    left[inner, inner - 1], left[inner, inner], left[inner, inner + 1] = h[:-1], 2 * (h[:-1] + h[1:]), h[1:]
    left[0, :3] = h[1], -h[0] - h[1], h[0]  # the third derivative does not jump at the first and last inner sample
    left[-1, -3:] = h[-1], -h[-2] - h[-1], h[-2]
    right[inner, inner - 1], right[inner, inner + 1] = 6 / h[:-1], 6 / h[1:]
    right[inner, inner] = -6 / h[:-1] - 6 / h[1:]
    curve = np.linalg.solve(left, right)  # (n, n): second derivatives of the samples
    k = np.clip(np.searchsorted(at, wanted, side="right") - 1, 0, n - 2)
    a, b = ((at[k + 1] - wanted) / h[k])[:, None], ((wanted - at[k]) / h[k])[:, None]
    bend = (h[k] ** 2 / 6)[:, None]
    return np.asarray(a * unit[k] + b * unit[k + 1] + bend * ((a**3 - a) * curve[k] + (b**3 - b) * curve[k + 1]))


def _on_grid(rows: Array, grid: Grid, by: tuple[Matrix, Matrix]) -> Array:
    """Rows (rows x columns, D) of a grid, resized along both axes; computed in float64, given back in their type."""
    down, across = by
    wide = rows.astype(np.float64).reshape(grid[0], -1)
    half = (down @ wide).reshape(len(down), grid[1], -1)  # (new rows, columns, D)
    return np.asarray((across @ half).reshape(len(down) * len(across), -1), rows.dtype)


def _kernel(kernel: Array) -> None:
    if kernel.ndim != 4:
        raise ValueError(f"shape {kernel.shape}, needed is (D, C, h, w)")


def _known(method: str, kind: object) -> None:
    if method not in get_args(kind):
        raise ValueError(f"method {method!r} is not one of {', '.join(get_args(kind))}")
