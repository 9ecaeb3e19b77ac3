"""Mixup (arXiv 1710.09412) and cutmix (arXiv 1905.04899): picture i of a batch is mixed with picture B - 1 - i.

Any batch size goes: the middle one of an odd batch is mixed with itself. What is drawn is a function of (seed, step).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrail.data.configs import Mix
from vitrail.randomness import generator


@dataclass(frozen=True)
class Mixing:
    """How a picture is mixed: `share` of its own label; box (top, bottom, left, right) of the other one for cutmix."""

    share: float
    box: tuple[int, int, int, int] | None = None


Mixings = Mixing | tuple[Mixing, ...]  # for the whole batch, or one for each of its pictures


def mixer(
    config: Mix | None, *, seed: int, classes: int, batch: int, part: NDArray[np.int64] | None = None
) -> Callable[[Tensor, Tensor, int, int], tuple[Tensor, Tensor]] | None:
    """The step's mixing, or None: (images, labels, step, epoch) -> (images, targets).

    part: the places of a whole batch that are mixed here, by the draws of the whole one; as they come in pairs, this
    gives what mixing all of them would.
    """
    if config is None:
        return None

    def mix(images: Tensor, labels: Tensor, step: int, epoch: int) -> tuple[Tensor, Tensor]:
        count = len(images) if part is None else batch
        drawn = draw(config, seed=seed, step=step, epoch=epoch, shape=(count, images.shape[-2], images.shape[-1]))
        if part is not None and isinstance(drawn, tuple):
            drawn = tuple(drawn[place] for place in part[: len(images)])
        return (images, labels) if drawn is None else apply(drawn, images, labels, classes)

    return mix


def draw(config: Mix, *, seed: int, step: int, epoch: int, shape: tuple[int, int, int]) -> Mixings | None:
    """The draw for one step, or None where nothing is mixed. shape: pictures, height, width."""
    if config.off_epoch is not None and epoch >= config.off_epoch:
        return None
    count, *size = shape
    if config.mode == "batch":
        one = _drawn(config, generator(seed, "mix", step), (size[0], size[1]))
        return one if one.share < 1.0 else None
    random = generator(seed, "mix", step)
    wanted = count if config.mode == "elem" else (count + 1) // 2
    each = tuple(_drawn(config, random, (size[0], size[1])) for _ in range(wanted))
    return each if config.mode == "elem" else each + each[: count // 2][::-1]


def _drawn(config: Mix, random: np.random.Generator, size: tuple[int, int]) -> Mixing:
    whether, which = random.random(2)
    cutmix = config.cutmix > 0.0 or config.cutmix_minmax is not None
    if whether >= config.probability or not (cutmix or config.mixup > 0.0):
        return Mixing(1.0)
    if not cutmix or (config.mixup > 0.0 and which >= config.switch):
        return Mixing(float(random.beta(config.mixup, config.mixup)))
    if config.cutmix_minmax is not None:
        return cut_within(config.cutmix_minmax, size, random.random(4).tolist())
    return cut(float(random.beta(config.cutmix, config.cutmix)), size, *random.random(2))


def cut(share: float, size: tuple[int, int], row: float, column: float) -> Mixing:
    """The cutmix box of area 1 - share around a centre at (row, column) of the picture, clipped; share corrected.

    >>> cut(0.5, (32, 32), 0.5, 0.5)
    Mixing(share=0.52734375, box=(5, 27, 5, 27))
    """
    side = math.sqrt(1.0 - share)
    return _boxed(*_edges(size[0], side, row), *_edges(size[1], side, column), size)


def _edges(length: int, side: float, centre_draw: float) -> tuple[int, int]:
    span, centre = int(length * side), int(length * centre_draw)
    return max(0, centre - span // 2), min(length, centre + (span + 1) // 2)


def cut_within(parts: tuple[float, float], size: tuple[int, int], draws: list[float]) -> Mixing:
    """A box whose sides are uniform between two parts of the picture's, the greater left out, at a uniform place."""
    top, bottom = _span(size[0], parts, draws[0], draws[1])
    left, right = _span(size[1], parts, draws[2], draws[3])
    return _boxed(top, bottom, left, right, size)


def _span(length: int, parts: tuple[float, float], side_draw: float, place_draw: float) -> tuple[int, int]:
    least, most = int(length * parts[0]), int(length * parts[1])
    side = least + int(side_draw * max(1, most - least))
    start = int(place_draw * (length - side + 1))
    return start, start + side


def _boxed(top: int, bottom: int, left: int, right: int, size: tuple[int, int]) -> Mixing:
    area = (bottom - top) * (right - left)
    return Mixing(1.0 - area / (size[0] * size[1]), (top, bottom, left, right))


def apply(mixings: Mixings, images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mixed images (B, C, H, W) and targets (B, K) of labels (B,); both inputs are left as they are. On any device."""
    targets = torch.nn.functional.one_hot(labels, classes).to(images.dtype)
    if isinstance(mixings, Mixing):
        mixed = _mixed(mixings, images)
        return mixed, targets * mixings.share + targets.flip(0) * (1.0 - mixings.share)
    assert len(mixings) == len(images), (len(mixings), len(images))
    keep = torch.ones(len(images), 1, *images.shape[2:], dtype=images.dtype)
    for row, mixing in enumerate(mixings):
        if mixing.box is None:
            keep[row] = mixing.share
        else:
            top, bottom, left, right = mixing.box
            keep[row, :, top:bottom, left:right] = 0.0
    keep = keep.to(images.device)
    shares = torch.tensor([mixing.share for mixing in mixings], dtype=images.dtype, device=images.device)[:, None]
    mixed = images * keep + images.flip(0) * (1.0 - keep)
    return mixed, targets * shares + targets.flip(0) * (1.0 - shares)


def _mixed(mixing: Mixing, images: Tensor) -> Tensor:
    other = images.flip(0)
    if mixing.box is None:
        return images * mixing.share + other * (1.0 - mixing.share)
    top, bottom, left, right = mixing.box
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = other[:, :, top:bottom, left:right]
    return mixed
