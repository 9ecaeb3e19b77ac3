"""Plans carried out on a batch: pictures for which the same operation comes next are worked on together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from vitrail.data.augment.plans import Plan
from vitrail.pictures.operations import enhance, geometry, tones
from vitrail.pictures.operations.geometry import Sampling
from vitrail.pictures.operations.planes import Planes
from vitrail.pictures.operations.tones import Numbers

# operations that take nothing, one number a picture, or with it how to interpolate and what to fill with
WHOLE: dict[str, Callable[[Planes], Planes]] = {
    "autocontrast": tones.autocontrast,
    "equalize": tones.equalize,
    "invert": tones.invert,
}
GRADED: dict[str, Callable[[Planes, Numbers], Planes]] = {
    "posterize": tones.posterize,
    "solarize": tones.solarize,
    "solarize_add": tones.solarize_add,
    "colour": enhance.colour,
    "contrast": enhance.contrast,
    "brightness": enhance.brightness,
    "sharpness": enhance.sharpness,
    "desaturate": enhance.desaturate,
    "gaussian_blur": enhance.gaussian_blur,
    "hue": enhance.hue,
}
MOVED: dict[str, Callable[[Planes, Numbers, Sampling, Sequence[int]], Planes]] = {
    "rotate": geometry.rotate,
    "shear_x": geometry.shear_x,
    "shear_y": geometry.shear_y,
    "translate_x": geometry.translate_x,
    "translate_y": geometry.translate_y,
}


def operate(
    planes: Planes, operation: str, arguments: Numbers, sampling: Sampling | None, fill: Sequence[int]
) -> Planes:
    """One operation on a batch (B, C, H, W), with an argument for each picture."""
    if operation in WHOLE:
        return WHOLE[operation](planes)
    if operation in GRADED:
        return GRADED[operation](planes, arguments)
    assert sampling is not None, operation
    return MOVED[operation](planes, arguments, sampling, fill)


def perform(planes: Planes, plans: Sequence[Plan], fill: Sequence[int]) -> Planes:
    """The pictures (B, C, H, W), each after the steps of its own plan. fill: one value a channel."""
    result = planes.copy()
    for place in range(max(map(len, plans), default=0)):
        groups: dict[tuple[str, Sampling | None], list[int]] = defaultdict(list)
        for row, plan in enumerate(plans):
            if place < len(plan):
                groups[plan[place].operation, plan[place].sampling].append(row)
        for (operation, sampling), rows in groups.items():
            arguments = np.array([plans[row][place].argument for row in rows], np.float64)
            result[rows] = operate(result[rows], operation, arguments, sampling, fill)
    return result
