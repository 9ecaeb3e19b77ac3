"""Loops over pixels, compiled where numba is installed: the same bits as Pillow's calls and NumPy's lookups, faster.

The functions below are plain Python, so that they can be read and tested without a compiler; `ready` compiles them
once per process (the machine code is kept beside this file, as Python keeps its own) and gives None without numba.
Nothing here decides an answer: whoever calls a kernel has a slower way to the same bits.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vitrail.pictures import loops

T = TypeVar("T")
Pixels = NDArray[np.uint8]
Starts = NDArray[np.int64]  # (N, 2): the first source pixel of each output pixel, and how many there are
Weights = NDArray[np.int32]  # (N, taps), 22 fraction bits

LANES = 16  # rows that the horizontal pass works on side by side: what vector units like
ONE = 1 << 22
HALF = 1 << 21


@dataclass(frozen=True)
class Kernels:
    """The compiled loops, each free of Python's lock while it runs."""

    weigh: Callable[[int, int, int, int, float], tuple[Starts, Weights]]
    resample: Callable[[Pixels, Starts, Weights, Starts, Weights, Pixels], None]  # of 3 channels
    look_up: Callable[[Pixels, NDArray[np.float32], NDArray[np.float32]], None]
    look_up_planes: Callable[[Pixels, NDArray[np.float32], NDArray[np.float32]], None]
    mirror: Callable[[Pixels, Pixels], None]  # of 3 channels
    pad_crop: Callable[[Pixels, NDArray[np.int64], NDArray[np.int64], int, Pixels], None]
    augment: Augmenting | None = None


@dataclass(frozen=True)
class Augmenting:
    """The compiled loops of `pictures/loops.py`, by its names; `move` by the way to interpolate."""

    pack: Callable[[Pixels, loops.Packed], None]
    move: Mapping[str, Callable[[loops.Packed, NDArray[np.float64], Pixels, Pixels], None]]
    blend: Callable[[Pixels, Pixels, loops.Shares, Pixels], None]
    blend_grey: Callable[[Pixels, loops.Shares, Pixels], None]
    blend_smooth: Callable[[Pixels, loops.Shares, Pixels], None]
    grey_sums: Callable[[Pixels, NDArray[np.int64]], None]
    histogram: Callable[[Pixels, NDArray[np.int64]], None]
    exchange: Callable[[Pixels, Pixels, Pixels], None]


_lock = threading.Lock()
_compiled: Kernels | None = None


def loaded() -> Kernels | None:
    """The compiled loops where `ready` was called before; for callers to whom a single picture is not worth them."""
    return _compiled


def augmenting() -> Augmenting | None:
    """Those of augmentation, where `ready` was called for them."""
    compiled = loaded()
    return None if compiled is None else compiled.augment


def ready(*, augment: bool = False) -> Kernels | None:
    """The compiled loops, compiled now if need be (seconds once per machine, then tenths); None without numba.

    augment: those of augmentation too.
    """
    global _compiled
    with _lock:
        if importlib.util.find_spec("numba") is None:
            return _compiled
        try:
            if _compiled is None:
                _compiled = _kept(_compile)
            if augment and _compiled.augment is None:
                _compiled = replace(_compiled, augment=_kept(_compile_augmenting))
        except ImportError:  # installed, but not for this NumPy: slower, the same bits
            return None
        return _compiled


def _kept(compile_: Callable[[bool], T]) -> T:
    try:
        return compile_(True)
    except RuntimeError:  # numba found no folder to keep machine code in
        return compile_(False)


def _compile(kept: bool) -> Kernels:
    from numba import types as t

    u8, i32, i64, f32 = t.uint8, t.int32, t.int64, t.float32
    starts, weights = _read(i64, 2), _read(i32, 2)
    pair: Any = t.Tuple((t.Array(i64, 2, "C"), t.Array(i32, 2, "C")))  # type: ignore[no-untyped-call]
    any_picture, picture = _read(u8, 3, "A"), t.Array(u8, 3, "C")
    return Kernels(
        weigh=_compiled_loop(weigh, i64, i64, i64, i64, t.float64, kept=kept, gives=pair),
        resample=_compiled_loop(resampler(3), any_picture, starts, weights, starts, weights, picture, kept=kept),
        look_up=_compiled_loop(look_up, _read(u8, 4), _read(f32, 2), t.Array(f32, 4, "C"), kept=kept),
        look_up_planes=_compiled_loop(look_up_planes, _read(u8, 4), _read(f32, 2), t.Array(f32, 4, "C"), kept=kept),
        mirror=_compiled_loop(mirrorer(3), _read(u8, 3), picture, kept=kept),
        pad_crop=_compiled_loop(
            pad_crop, _read(u8, 4), _read(i64, 1), _read(i64, 1), i64, t.Array(u8, 4, "C"), kept=kept
        ),
    )


def _compile_augmenting(kept: bool) -> Augmenting:
    from numba import types as t
    from numba.extending import register_jitable

    for part in loops.PARTS:
        register_jitable(part)
    planes, out = _read(t.uint8, 4), t.Array(t.uint8, 4, "C")
    numbers, counts = t.Array(t.int64, 1, "C"), t.Array(t.int64, 2, "C")
    packed, matrices, bytes_ = _read(t.uint32, 3), _read(t.float64, 2), _read(t.uint8, 1)
    shares = _read(t.float32, 1)

    def compiled(function: Callable[..., Any], *arguments: object) -> Any:
        return _compiled_loop(function, *arguments, kept=kept)

    return Augmenting(
        pack=compiled(loops.pack, planes, t.Array(t.uint32, 3, "C")),
        move={name: compiled(loops.mover(taps), packed, matrices, bytes_, out) for name, taps in loops.TAPS.items()},
        blend=compiled(loops.blend, planes, bytes_, shares, out),
        blend_grey=compiled(loops.blend_grey, planes, shares, out),
        blend_smooth=compiled(loops.blend_smooth, planes, shares, out),
        grey_sums=compiled(loops.grey_sums, planes, numbers),
        histogram=compiled(loops.histogram, planes, counts),
        exchange=compiled(loops.exchange, planes, _read(t.uint8, 2), out),
    )


def _compiled_loop(function: Callable[..., Any], *arguments: object, kept: bool, gives: Any = None) -> Any:
    import numba

    return numba.njit((gives or numba.types.void)(*arguments), nogil=True, cache=kept)(function)


def _read(kind: Any, dimensions: int, layout: Any = "C") -> Any:
    from numba import types as t

    return t.Array(kind, dimensions, layout, readonly=True)


def weigh(inner: int, outer: int, first: int, last: int, support: float) -> tuple[Starts, Weights]:
    """Weights of output pixels `first` to `last` - 1 where `inner` pixels become `outer`; as `pictures/resize.py`
    defines them. support: 1.0 for bilinear, 2.0 for bicubic."""
    scale = inner / outer
    stretch = max(scale, 1.0)
    reach = support * stretch
    starts = np.zeros((last - first, 2), np.int64)
    weights = np.zeros((last - first, int(np.ceil(reach)) * 2 + 1), np.int32)
    exact = np.zeros(weights.shape[1])
    for i in range(first, last):
        centre = (i + 0.5) * scale
        low = max(int(centre - reach + 0.5), 0)
        high = min(int(centre + reach + 0.5), inner)
        total = 0.0
        for j in range(low, high):
            x = abs((j - centre + 0.5) * (1.0 / stretch))
            weight = 0.0
            if support == 1.0:
                weight = max(1.0 - x, 0.0)
            elif x < 1.0:
                weight = (1.5 * x - 2.5) * x * x + 1
            elif x < 2.0:
                weight = (((x - 5) * x + 8) * x - 4) * -0.5
            exact[j - low] = weight
            total += weight
        starts[i - first, 0], starts[i - first, 1] = low, high - low
        for k in range(high - low):
            normal = exact[k] * (1.0 / total) if total != 0.0 else exact[k]
            weights[i - first, k] = int((0.5 if normal >= 0.0 else -0.5) + normal * ONE)
    return starts, weights


def resampler(channels: int) -> Callable[..., None]:
    """`resample` for pictures of so many channels: a constant, so that a compiler unrolls the loops over them."""
    side = channels * LANES

    def resample(
        source: Pixels, across: Starts, across_weights: Weights, down: Starts, down_weights: Weights, out: Pixels
    ) -> None:
        """`out` (h, w, C) from `source` (H, W, C): horizontal pass, then vertical, 8 bits after each. What `out`, which
        may be a window of the whole, does not need is never computed."""
        height, width = out.shape[0], out.shape[1]
        first, last = down[0, 0], down[-1, 0] + down[-1, 1]
        start, stop = across[0, 0], across[-1, 0] + across[-1, 1]
        between = np.empty((last - first, width * channels), np.uint8)
        turned = np.zeros((stop - start, side), np.uint8)  # columns of the source, LANES rows side by side
        sums = np.empty(side, np.int32)
        for row in range(first, last, LANES):
            lanes = min(LANES, last - row)
            for lane in range(lanes):
                line = source[row + lane]
                for x in range(stop - start):
                    for c in range(channels):
                        turned[x, c * LANES + lane] = line[start + x, c]
            for x in range(width):
                for k in range(side):
                    sums[k] = HALF
                for tap in range(across[x, 1]):
                    weight = across_weights[x, tap]
                    column = turned[across[x, 0] - start + tap]
                    for k in range(side):
                        sums[k] += weight * np.int32(column[k])
                for k in range(side):
                    sums[k] = min(max(sums[k] >> 22, 0), 255)
                for lane in range(lanes):
                    line_between = between[row - first + lane]
                    for c in range(channels):
                        line_between[x * channels + c] = sums[c * LANES + lane]
        line_sums = np.empty(width * channels, np.int32)
        for y in range(height):
            for k in range(width * channels):
                line_sums[k] = HALF
            for tap in range(down[y, 1]):
                weight = down_weights[y, tap]
                line_between = between[down[y, 0] - first + tap]
                for k in range(width * channels):
                    line_sums[k] += weight * np.int32(line_between[k])
            line_out = out[y].reshape(width * channels)
            for k in range(width * channels):
                line_out[k] = min(max(line_sums[k] >> 22, 0), 255)

    return resample


def look_up(pixels: Pixels, table: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """out (B, C, H, W) = table[c, pixels (B, H, W, C)]."""
    count, height, width, channels = pixels.shape
    for i in range(count):
        for y in range(height):
            line = pixels[i, y]
            for c in range(channels):
                entries, line_out = table[c], out[i, c, y]
                for x in range(width):
                    line_out[x] = entries[line[x, c]]


def look_up_planes(planes: Pixels, table: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """out (B, C, H, W) = table[c, planes (B, C, H, W)]."""
    count, channels, height, width = planes.shape
    for i in range(count):
        for c in range(channels):
            entries = table[c]
            for y in range(height):
                line, line_out = planes[i, c, y], out[i, c, y]
                for x in range(width):
                    line_out[x] = entries[line[x]]


def mirrorer(channels: int) -> Callable[..., None]:
    """`mirror` for pictures of so many channels."""

    def mirror(pixels: Pixels, out: Pixels) -> None:
        """out (H, W, C) = pixels, left to right."""
        height, width = out.shape[0], out.shape[1]
        for y in range(height):
            line, line_out = pixels[y], out[y]
            for x in range(width):
                for c in range(channels):
                    line_out[x, c] = line[width - 1 - x, c]

    return mirror


def pad_crop(planes: Pixels, tops: NDArray[np.int64], lefts: NDArray[np.int64], padding: int, out: Pixels) -> None:
    """Pictures (B, C, H, W) padded with zeros and cut to (H, W) at (top, left) of the padded ones."""
    count, channels, height, width = planes.shape
    out[:] = 0
    for i in range(count):
        down, right = tops[i] - padding, lefts[i] - padding
        start, stop = max(0, -right), min(width, width - right)
        for c in range(channels):
            for y in range(max(0, -down), min(height, height - down)):
                line_out = out[i, c, y, start:stop]
                line_out[:] = planes[i, c, y + down, start + right : stop + right]
