"""Mixup (arXiv 1710.09412) and cutmix (arXiv 1905.04899) of a whole batch: picture i is mixed with picture B - 1 - i.

Any batch size goes: the middle one of an odd batch is mixed with itself. One draw a batch, a function of (seed, step).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vitrail.data.configs import Mix
from vitrail.randomness import generator


@dataclass(frozen=True)
class Mixing:
    """How one batch is mixed: `share` of the picture's own label; box (top, bottom, left, right) for cutmix."""

    share: float
    box: tuple[int, int, int, int] | None


def draw(config: Mix, *, seed: int, step: int, epoch: int, size: tuple[int, int]) -> Mixing | None:
    """The draw for one step, or None where nothing is mixed. size: (height, width) of the pictures."""
    if config.off_epoch is not None and epoch >= config.off_epoch:
        return None
    random = generator(seed, "mix", step)
    whether, which = random.random(2)
    if whether >= config.probability or config.mixup == config.cutmix == 0.0:
        return None
    if config.cutmix > 0.0 and (config.mixup == 0.0 or which < config.switch):
        return cut(float(random.beta(config.cutmix, config.cutmix)), size, *random.random(2))
    return Mixing(float(random.beta(config.mixup, config.mixup)), None)


def cut(share: float, size: tuple[int, int], row: float, column: float) -> Mixing:
    """The cutmix box of area 1 - share around a centre at (row, column) of the picture, clipped; share corrected.

    >>> cut(0.5, (32, 32), 0.5, 0.5)
    Mixing(share=0.52734375, box=(5, 27, 5, 27))
    """
    side = math.sqrt(1.0 - share)
    top, bottom = _edges(size[0], side, row)
    left, right = _edges(size[1], side, column)
    area = (bottom - top) * (right - left)
    return Mixing(1.0 - area / (size[0] * size[1]), (top, bottom, left, right))


def _edges(length: int, side: float, centre_draw: float) -> tuple[int, int]:
    span, centre = int(length * side), int(length * centre_draw)
    return max(0, centre - span // 2), min(length, centre + (span + 1) // 2)


def apply(mixing: Mixing, images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mixed images (B, C, H, W) and targets (B, K) of labels (B,); both inputs are left as they are."""
    other = images.flip(0)
    if mixing.box is None:
        mixed = images * mixing.share + other * (1.0 - mixing.share)
    else:
        top, bottom, left, right = mixing.box
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
    targets = torch.nn.functional.one_hot(labels, classes).to(images.dtype)
    return mixed, targets * mixing.share + targets.flip(0) * (1.0 - mixing.share)
