"""What augmentation does to batches of planes (B, C, H, W), as loops that `pictures/kernels.py` compiles.

Plain Python, so that they can be read and tested without a compiler. Each does Pillow's arithmetic in Pillow's order:
its affine transform in double (libImaging/Geometry.c), its blend in float32 (libImaging/Blend.c).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Planes = NDArray[np.uint8]  # (B, C, H, W)
Packed = NDArray[np.uint32]
Doubles = NDArray[np.float64]
Shares = NDArray[np.float32]  # (B,)
TAPS = {"bilinear": 2, "bicubic": 4}  # neighbours each way

AT_ONCE = 32  # pixels that are moved together, four bytes each: what vector units like
EDGE = 2  # pixels that a picture goes on for beyond each side: as far as a bicubic filter reaches


def pack(planes: Planes, out: Packed) -> None:
    """out (B, H + 2 EDGE, W + 2 EDGE): red, green and blue (B, 3, H, W) in one number, the outermost repeated."""
    count, height, width = planes.shape[0], planes.shape[2], planes.shape[3]
    for i in range(count):
        for row in range(-EDGE, height + EDGE):
            y = min(max(row, 0), height - 1)
            reds, greens, blues, line = planes[i, 0, y], planes[i, 1, y], planes[i, 2, y], out[i, row + EDGE]
            for x in range(width):
                green, blue = np.uint32(greens[x]) << np.uint32(8), np.uint32(blues[x]) << np.uint32(16)
                line[x + EDGE] = np.uint32(reds[x]) | green | blue
            for x in range(EDGE):
                line[x], line[EDGE + width + x] = line[EDGE], line[EDGE + width - 1]


def mover(taps: int) -> Callable[..., None]:
    """`move` by so many neighbours each way: 2 are bilinear, 4 bicubic."""
    before = taps // 2 - 1

    def move(packed: Packed, matrices: Doubles, fill: NDArray[np.uint8], out: Planes) -> None:
        """out (B, 3, H, W): pixel (x, y) is what `packed` has at (a (x + .5) + b (y + .5) + c, d (x + .5) + e (y + .5)
        + f), and `fill` (3,) where that lies outside of the picture; matrices: (B, 6)."""
        height, width = out.shape[2], out.shape[3]
        wide = width + 2 * EDGE
        places = np.empty((2, width))
        near = np.zeros((taps * taps, AT_ONCE), np.uint32)
        parts, lines = np.zeros((2, 4 * AT_ONCE)), np.zeros((taps + 1, 4 * AT_ONCE))
        moved = np.zeros(AT_ONCE, np.uint32)
        for i in range(len(out)):
            level = matrices[i, 3] == 0.0 and matrices[i, 4] == 1.0 and matrices[i, 5] == 0.0  # along the rows alone
            upright = not level and matrices[i, 0] == 1.0 and matrices[i, 1] == 0.0 and matrices[i, 2] == 0.0
            rows, stride = 1 if level or upright else taps, wide if upright else 1
            back = (0 if level else before * wide) + (0 if upright else before)
            source = packed[i].reshape(packed.shape[1] * wide)
            for y in range(height):
                first, last = seen(matrices[i], y, height, places)
                for channel in range(3):
                    line = out[i, channel, y]
                    for x in range(first):
                        line[x] = fill[channel]
                    for x in range(last, width):
                        line[x] = fill[channel]
                for start in range(first, last, AT_ONCE):
                    many = min(AT_ONCE, last - start)
                    for n in range(many):
                        there, below = places[0, start + n] - 0.5, places[1, start + n] - 0.5
                        left, top = np.floor(there), np.floor(below)
                        for lane in range(4 * n, 4 * n + 4):
                            parts[0, lane], parts[1, lane] = there - left, below - top
                        place = np.uint64((np.int64(top) + EDGE) * wide + np.int64(left) + EDGE - back)
                        if rows == 1:
                            for tap in range(taps):
                                near[tap, n] = source[place]
                                place += np.uint64(stride)
                        else:
                            for row in range(taps):
                                for tap in range(taps):
                                    near[row * taps + tap, n] = source[place + np.uint64(tap)]
                                place += np.uint64(wide)
                    mix = bicubic if taps == 4 else bilinear
                    for row in range(rows):
                        mix(near[row * taps : row * taps + taps].view(np.uint8), parts[1 if upright else 0], lines[row])
                    if rows > 1:
                        mix(lines, parts[1], lines[taps])
                    settle(lines[0 if rows == 1 else taps], moved.view(np.uint8))
                    for n in range(many):
                        out[i, 0, y, start + n] = np.uint8(moved[n])
                        out[i, 1, y, start + n] = np.uint8(moved[n] >> np.uint32(8))
                        out[i, 2, y, start + n] = np.uint8(moved[n] >> np.uint32(16))

    return move


def seen(matrix: Doubles, y: int, height: int, places: Doubles) -> tuple[int, int]:
    """Where the pixels of row y come from, into `places` (2, W); the first that lies in the picture, and the first
    beyond it that does not any more."""
    width = places.shape[1]
    for x in range(width):
        places[0, x] = matrix[0] * (x + 0.5) + matrix[1] * (y + 0.5) + matrix[2]
        places[1, x] = matrix[3] * (x + 0.5) + matrix[4] * (y + 0.5) + matrix[5]
    first, last = 0, width
    while first < last and not (0.0 <= places[0, first] < width and 0.0 <= places[1, first] < height):
        first += 1
    while last > first and not (0.0 <= places[0, last - 1] < width and 0.0 <= places[1, last - 1] < height):
        last -= 1
    return first, last


def bilinear(values: NDArray[np.generic], parts: Doubles, out: Doubles) -> None:
    """out (N,) between the two rows of `values`."""
    one, two = values[0], values[1]
    for k in range(len(out)):
        v1 = np.float64(one[k])
        out[k] = v1 + (np.float64(two[k]) - v1) * parts[k]


def bicubic(values: NDArray[np.generic], parts: Doubles, out: Doubles) -> None:
    """out (N,) between the middle ones of the four rows of `values`."""
    one, two, three, four = values[0], values[1], values[2], values[3]
    for k in range(len(out)):
        v1, v2, v3, v4 = np.float64(one[k]), np.float64(two[k]), np.float64(three[k]), np.float64(four[k])
        p2, p3, p4 = -v1 + v3, 2 * (v1 - v2) + v3 - v4, -v1 + v2 - v3 + v4
        out[k] = v2 + parts[k] * (p2 + parts[k] * (p3 + parts[k] * p4))


def settle(values: Doubles, out: NDArray[np.uint8]) -> None:
    """Bytes of values: cut to 0 to 255, the fraction dropped."""
    for k in range(len(out)):
        out[k] = np.uint8(np.int32(min(max(values[k], 0.0), 255.0)))


def blend(planes: Planes, levels: NDArray[np.uint8], shares: Shares, out: Planes) -> None:
    """out (B, C, H, W): between a level (B,) and the picture, or beyond."""
    for i in range(len(out)):
        below, share = np.float32(levels[i]), shares[i]
        source, target = planes[i].reshape(planes[i].size), out[i].reshape(planes[i].size)
        for k in range(len(source)):
            target[k] = mixed(below, np.float32(source[k]), share)


def blend_grey(planes: Planes, shares: Shares, out: Planes) -> None:
    """out (B, 3, H, W): between the greys of the picture and the picture, or beyond."""
    size = planes.shape[2] * planes.shape[3]
    for i in range(len(out)):
        source, target = planes[i].reshape(3, size), out[i].reshape(3, size)
        for k in range(size):
            below = np.float32(grey(source[0, k], source[1, k], source[2, k]))
            for channel in range(3):
                target[channel, k] = mixed(below, np.float32(source[channel, k]), shares[i])


def blend_smooth(planes: Planes, shares: Shares, out: Planes) -> None:
    """out (B, C, H, W), a copy of the picture: between a smooth one, as `operations/enhance.py` has it, and the
    picture, or beyond; the outermost pixels stay."""
    height, width = out.shape[2], out.shape[3]
    columns = np.empty(width, np.int32)  # of three pixels
    left, middle, right = columns[:-2], columns[1:-1], columns[2:]
    for i in range(len(out)):
        for channel in range(out.shape[1]):
            plane, smooth = planes[i, channel], out[i, channel]
            for y in range(1, height - 1):
                one, two, three = plane[y - 1], plane[y], plane[y + 1]
                for x in range(width):
                    columns[x] = np.int32(one[x]) + np.int32(two[x]) + np.int32(three[x])
                source, target = two[1:-1], smooth[y, 1:-1]
                for x in range(len(target)):
                    total = np.int32(left[x] + middle[x] + right[x] + 4 * np.int32(source[x]))
                    below = np.float32(np.int32(np.float32(total) * np.float32(1 / 13) + np.float32(0.5)))
                    target[x] = mixed(below, np.float32(source[x]), shares[i])


def mixed(below: np.float32, above: np.float32, share: np.float32) -> np.uint8:
    """A share of the way from one value to another: beyond 0 and 255 cut, the fraction dropped."""
    value = below + share * (above - below)
    return np.uint8(np.int32(min(max(value, np.float32(0.0)), np.float32(255.0))))


def grey(red: np.uint8, green: np.uint8, blue: np.uint8) -> np.uint32:
    """ITU-R 601 in 16 bits, rounded."""
    total = np.uint32(red) * np.uint32(19595) + np.uint32(green) * np.uint32(38470) + np.uint32(blue) * np.uint32(7471)
    return np.uint32((total + np.uint32(0x8000)) >> np.uint32(16))


def grey_sums(planes: Planes, out: NDArray[np.int64]) -> None:
    """out (B,): the sum of the greys of each picture (B, 3, H, W)."""
    size = planes.shape[2] * planes.shape[3]
    for i in range(len(out)):
        source, total = planes[i].reshape(3, size), np.int64(0)
        for k in range(size):
            total += np.int64(grey(source[0, k], source[1, k], source[2, k]))
        out[i] = total


def histogram(planes: Planes, out: NDArray[np.int64]) -> None:
    """out (B * C, 256): how often each plane has each value."""
    size = planes.shape[2] * planes.shape[3]
    lines = planes.reshape(len(out), size)
    for i in range(len(out)):
        line, counts = lines[i], np.zeros((4, 256), np.int64)
        for k in range(0, size - 3, 4):  # four apart: one that counts a value twice would wait for itself
            counts[0, line[k]] += 1
            counts[1, line[k + 1]] += 1
            counts[2, line[k + 2]] += 1
            counts[3, line[k + 3]] += 1
        for k in range(size - size % 4, size):
            counts[0, line[k]] += 1
        for value in range(256):
            out[i, value] = counts[0, value] + counts[1, value] + counts[2, value] + counts[3, value]


def exchange(planes: Planes, tables: NDArray[np.uint8], out: Planes) -> None:
    """out (B, C, H, W): each value of a plane by its table (B * C, 256)."""
    size = planes.shape[2] * planes.shape[3]
    lines, targets = planes.reshape(len(tables), size), out.reshape(len(tables), size)
    for i in range(len(tables)):
        table, line, target = tables[i], lines[i], targets[i]
        for k in range(size):
            target[k] = table[line[k]]


PARTS = (seen, bilinear, bicubic, settle, mixed, grey)  # what the others call
