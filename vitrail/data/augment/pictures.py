"""Pictures as training sees them, one by one or a whole batch at once: the same draws, the same bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrail.data.augment.augmix import augmixed
from vitrail.data.augment.crops import interpolations, random_boxes
from vitrail.data.augment.draws import Draws
from vitrail.data.augment.grammar import AugMix, Auto, RandAugment, parse
from vitrail.data.augment.perform import perform
from vitrail.data.augment.plans import Scene, auto_plans, jitter_plans, rand_plans
from vitrail.data.configs import Augment, PadCrop, RandomResizedCrop
from vitrail.pictures.operations import (
    Planes,
    as_pixels,
    as_planes,
    crop_resize,
    flip_batch,
    pad_crop_batch,
    resized_boxes,
)
from vitrail.pictures.operations.geometry import Sampling
from vitrail.pictures.policy import Policy


def wants_originals(augment: Augment) -> bool:
    """Whether the crop is taken from the picture as it is stored, not from the policy's pixels."""
    return isinstance(augment.crop, RandomResizedCrop)


def augmented_batch(pixels: NDArray[np.uint8], augment: Augment, policy: Policy, draws: Draws) -> NDArray[np.uint8]:
    """Pictures (B, H, W, C), each by its own draw: the policy's pixels, or originals where the crop wants them."""
    if isinstance(augment.crop, RandomResizedCrop):
        boxes = random_boxes(pixels.shape[1:3], augment.crop, draws)
        planes = resized_boxes(as_planes(pixels), boxes, policy.size, interpolations(augment.crop, draws))
        return cropped_augmented(as_pixels(planes), augment, policy, draws)
    if isinstance(augment.crop, PadCrop):
        reach = 2 * augment.crop.padding + 1
        corners = (draws.uniforms("crop", 2) * reach).astype(np.int64)
        pixels = pad_crop_batch(pixels, corners[:, 0], corners[:, 1], augment.crop.padding)
    return cropped_augmented(pixels, augment, policy, draws)


def augmented(picture: NDArray[np.uint8], augment: Augment, policy: Policy, draws: Draws) -> NDArray[np.uint8]:
    """One stored picture (h, w, C) as training sees it (H, W, C): the same draw as in a batch. draws: of one index."""
    if isinstance(augment.crop, RandomResizedCrop):
        top, left, height, width = random_boxes(picture.shape[:2], augment.crop, draws)[0].tolist()
        (interpolation,) = interpolations(augment.crop, draws)
        pixels = crop_resize(picture, (top, left, height, width), policy.size, interpolation)
        batch = cropped_augmented(pixels[None], augment, policy, draws)
    else:
        batch = augmented_batch(policy.pixels(picture)[None], augment, policy, draws)
    alone: NDArray[np.uint8] = batch[0]
    return alone


def cropped_augmented(pixels: NDArray[np.uint8], augment: Augment, policy: Policy, draws: Draws) -> NDArray[np.uint8]:
    """What comes after the crop, on pictures (B, H, W, C): flips, then `auto`, then colour jitter."""
    if augment.flip > 0.0:
        pixels = flip_batch(pixels, draws.uniforms("flip", 1)[:, 0] < augment.flip)
    if augment.vertical_flip > 0.0:
        which = draws.uniforms("upside_down", 1)[:, 0] < augment.vertical_flip
        pixels = flip_batch(pixels, which, axis=1)
    if augment.auto is None and augment.jitter is None:
        return pixels
    planes = as_planes(pixels)
    fill = policy.bars
    if augment.auto is not None:
        planes = _auto(planes, parse(augment.auto), sampling_of(augment), draws, fill)
    if augment.jitter is not None:
        planes = perform(planes, jitter_plans(augment.jitter, draws), fill)
    return as_pixels(planes)


def sampling_of(augment: Augment) -> Sampling | None:
    """How `auto` interpolates: as the crop does where it names one way, else None, by draw."""
    if not isinstance(augment.crop, RandomResizedCrop) or augment.crop.interpolation == "random":
        return None
    named = augment.crop.interpolation
    assert named in ("nearest", "bilinear", "bicubic"), named
    return named


def _auto(planes: Planes, auto: Auto, sampling: Sampling | None, draws: Draws, fill: tuple[int, ...]) -> Planes:
    height, width = planes.shape[2:]
    if isinstance(auto, AugMix):
        return augmixed(planes, auto, Scene(height, width, sampling, shift=0.3), draws, fill)
    scene = Scene(height, width, sampling)
    plans = rand_plans(auto, scene, draws) if isinstance(auto, RandAugment) else auto_plans(auto, scene, draws)
    return perform(planes, plans, fill)
