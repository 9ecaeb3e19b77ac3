"""What is drawn for each picture and epoch. What is then done to the pixels lives in `pictures/operations.py`.

Every number comes from a named stream of (seed, epoch, index), so that a picture's fate depends on nothing else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrail.data.configs import Augment, PadCrop, RandomResizedCrop
from vitrail.pictures.operations import flip_batch, pad_crop_batch
from vitrail.randomness import uniforms


def wants_originals(augment: Augment) -> bool:
    """Whether the crop is taken from the picture as it is stored, not from the policy's pixels."""
    return isinstance(augment.crop, RandomResizedCrop)


def augmented_batch(
    pixels: NDArray[np.uint8], augment: Augment, *, seed: int, epoch: int, indices: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Pictures (B, H, W, C) that the policy has made already, each by its own draw."""
    if isinstance(augment.crop, PadCrop):
        reach = 2 * augment.crop.padding + 1
        corners = (uniforms(seed, "crop", epoch, indices, 2) * reach).astype(np.int64)
        pixels = pad_crop_batch(pixels, corners[:, 0], corners[:, 1], augment.crop.padding)
    if augment.flip > 0.0:
        pixels = flip_batch(pixels, uniforms(seed, "flip", epoch, indices, 1)[:, 0] < augment.flip)
    return pixels


def after_crop(
    pixels: NDArray[np.uint8], augment: Augment, *, seed: int, epoch: int, indices: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Pictures (B, H, W, C) cut out by a random-resized crop, and what comes after it."""
    if augment.flip == 0.0:
        return pixels
    return flip_batch(pixels, uniforms(seed, "flip", epoch, indices, 1)[:, 0] < augment.flip)
