"""What is drawn for each picture and epoch. What is then done to the pixels lives in `pictures/operations.py`.

Every number comes from a named stream of (seed, epoch, index), so that a picture's fate depends on nothing else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrail.data.augment.crops import random_box
from vitrail.data.configs import Augment, PadCrop, RandomResizedCrop
from vitrail.pictures.operations import crop_resize, flip, flip_batch, pad_crop_batch
from vitrail.pictures.policy import Policy
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


def augmented(
    picture: NDArray[np.uint8], augment: Augment, policy: Policy, *, seed: int, epoch: int, index: int
) -> NDArray[np.uint8]:
    """One stored picture (h, w, C) as training sees it (H, W, C): the same draw as in a batch."""
    if not isinstance(augment.crop, RandomResizedCrop):
        one = policy.pixels(picture)[None]
        (alone,) = augmented_batch(one, augment, seed=seed, epoch=epoch, indices=np.array([index]))
        return np.ascontiguousarray(alone)
    box = random_box(picture.shape[:2], augment.crop, seed=seed, epoch=epoch, index=index)
    pixels = crop_resize(picture, box, policy.size, augment.crop.interpolation)
    flipped = bool(uniforms(seed, "flip", epoch, np.array([index]), 1)[0, 0] < augment.flip)
    return flip(pixels) if flipped else pixels
