"""Operations that blend a picture with a poorer one of itself: black, its mean grey, its greys, a smooth one.

The blend is Pillow's: below + share * (above - below) in float32, beyond 0 and 255 cut, the fraction dropped.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from vitrail.pictures import kernels
from vitrail.pictures.operations.planes import Planes, by_pillow, column
from vitrail.pictures.operations.tones import Numbers


def blend(below: NDArray[np.uint8], above: Planes, shares: Numbers) -> Planes:
    """Planes between two others: share 0 gives `below`, 1 gives `above`; other shares go beyond them.

    below: planes of the same shape, or what broadcasts to it.
    """
    base = below.astype(np.float32)
    mixed = above.astype(np.float32)
    mixed -= base
    mixed *= column(shares).astype(np.float32)
    mixed += base
    return np.clip(mixed, 0.0, 255.0, out=mixed).astype(np.uint8)


def grey(planes: Planes) -> Planes:
    """The grey (B, 1, H, W) of each pixel: ITU-R 601 weights in 16 bits, rounded; of grey pictures themselves."""
    if planes.shape[1] == 1:
        return planes
    total = planes[:, 0] * np.uint32(19595)
    total += planes[:, 1] * np.uint32(38470)
    total += planes[:, 2] * np.uint32(7471)
    total += np.uint32(0x8000)
    total >>= np.uint32(16)
    return total.astype(np.uint8)[:, None]


def colour(planes: Planes, factors: Numbers) -> Planes:
    """Saturation: 0 gives the greys, 1 the picture, more gives more colour."""
    if planes.shape[1] == 3 and (compiled := kernels.augmenting()) is not None:
        planes = np.ascontiguousarray(planes)
        compiled.blend_grey(planes, factors.astype(np.float32), out := np.empty_like(planes))
        return out
    return blend(grey(planes), planes, factors)


def desaturate(planes: Planes, amounts: Numbers) -> Planes:
    """Colour taken away: 0 changes nothing, 1 gives the greys."""
    return colour(planes, np.clip(1.0 - amounts, 0.0, 1.0))


def contrast(planes: Planes, factors: Numbers) -> Planes:
    """Contrast: 0 gives the mean grey everywhere, 1 the picture."""
    means = grey_sums(planes) / (planes.shape[2] * planes.shape[3]) + 0.5
    return blend_level(means.astype(np.uint8), planes, factors)


def grey_sums(planes: Planes) -> NDArray[np.int64]:
    """The sum of the greys of each picture, (B,)."""
    if planes.shape[1] == 3 and (compiled := kernels.augmenting()) is not None:
        compiled.grey_sums(np.ascontiguousarray(planes), sums := np.empty(len(planes), np.int64))
        return sums
    found: NDArray[np.int64] = grey(planes).sum(axis=(1, 2, 3), dtype=np.int64)
    return found


def blend_level(levels: NDArray[np.uint8], above: Planes, shares: Numbers) -> Planes:
    """Planes between one value a picture, (B,), and them."""
    if (compiled := kernels.augmenting()) is not None:
        above = np.ascontiguousarray(above)
        compiled.blend(above, levels, shares.astype(np.float32), out := np.empty_like(above))
        return out
    return blend(levels[:, None, None, None], above, shares)


def brightness(planes: Planes, factors: Numbers) -> Planes:
    """Brightness: 0 gives black, 1 the picture."""
    return blend_level(np.zeros(len(planes), np.uint8), planes, factors)


def sharpness(planes: Planes, factors: Numbers) -> Planes:
    """Sharpness: 0 gives a smooth picture, 1 the picture, more sharpens; the outermost pixels stay."""
    if (compiled := kernels.augmenting()) is not None:
        planes = np.ascontiguousarray(planes)
        compiled.blend_smooth(planes, factors.astype(np.float32), out := planes.copy())
        return out
    return blend(smooth(planes), planes, factors)


def smooth(planes: Planes) -> Planes:
    """Each pixel the mean of its neighbourhood of 3 x 3, itself weighted 5 of 13; the outermost pixels stay.

    In whole numbers: thirteenths never lie halfway, so Pillow's float32 sums round to the same.
    """
    result = planes.copy()
    if min(planes.shape[2:]) < 3:
        return result
    wide = planes.astype(np.uint16)
    rows = wide[:, :, :-2] + wide[:, :, 1:-1]
    rows += wide[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1]
    total += rows[..., 2:]
    total += 4 * wide[:, :, 1:-1, 1:-1]
    result[:, :, 1:-1, 1:-1] = (2 * total + 13) // 26
    return result


def gaussian_blur(planes: Planes, radii: Numbers) -> Planes:
    """A blur of the given radius (standard deviation in pixels), by Pillow's three box blurs in whole numbers."""
    each = radii.tolist()
    return by_pillow(planes, lambda image, row: image.filter(ImageFilter.GaussianBlur(radius=each[row])))


def hue(planes: Planes, turns: Numbers) -> Planes:
    """The hue turned by -0.5 to 0.5 of a circle, in 256 steps, by way of Pillow's 8-bit HSV; grey pictures stay."""
    if planes.shape[1] == 1:
        return planes
    each = turns.tolist()
    return by_pillow(planes, lambda image, row: _turned(image, each[row]))


def _turned(image: Image.Image, turn: float) -> Image.Image:
    hsv = np.array(image.convert("HSV"))
    hsv[..., 0] += np.uint8(int(turn * 255) % 256)
    return Image.frombytes("HSV", image.size, hsv.tobytes()).convert("RGB")
