"""What is done to each picture: the operations that were drawn for it, in order, each with its argument."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitrail.data.augment.draws import Draws
from vitrail.data.augment.grammar import AutoAugment, RandAugment
from vitrail.data.augment.levels import LEVELS, TURNING, At
from vitrail.data.configs import Jitter
from vitrail.pictures.operations.geometry import Sampling


class Step(NamedTuple):
    """One operation of `pictures/operations` with its argument; sampling where it interpolates."""

    operation: str
    argument: float
    sampling: Sampling | None = None


Plan = list[Step]


@dataclass(frozen=True)
class Scene:
    """What operations depend on beside their draws. sampling None: bilinear or bicubic, by draw for each operation."""

    height: int
    width: int
    sampling: Sampling | None
    shift: float = 0.45  # greatest shift, as a part of the side


class Chances(NamedTuple):
    """The uniform numbers one operation is drawn by."""

    whether: float
    magnitude: float
    sign: float
    sampling: float


def step_of(name: str, magnitude: float, chances: Chances, scene: Scene) -> Step:
    """timm's operation of that name at a magnitude of 0 to 10."""
    row = LEVELS[name]
    sign = -1.0 if chances.sign > 0.5 else 1.0
    at = At(magnitude / 10.0, sign, chances.sign, scene.height, scene.width, scene.shift)
    argument = 0.0 if row.argument is None else float(row.argument(at))
    if row.operation not in TURNING:
        return Step(row.operation, argument)
    return Step(row.operation, argument, scene.sampling or ("bilinear" if chances.sampling < 0.5 else "bicubic"))


def magnitude_of(mean: float, spread: float, most: float, draw: float) -> float:
    """The magnitude that a uniform draw stands for: normal around `mean`, or uniform up to it where spread is inf."""
    if spread == math.inf:
        mean *= draw
    elif spread > 0.0:
        mean = NormalDist(mean, spread).inv_cdf(max(draw, 2.0**-54))
    return max(0.0, min(mean, most))


def rand_plans(auto: RandAugment, scene: Scene, draws: Draws) -> list[Plan]:
    """A plan for each picture."""
    drawn = draws.uniforms("auto", 5 * auto.count).reshape(-1, auto.count, 5)
    rows, places = np.nonzero(drawn[..., 1] < auto.probability)
    which = _which(auto, drawn[..., 0])[rows, places].tolist()
    plans: list[Plan] = [[] for _ in draws.indices]
    for row, choice, chances in zip(rows.tolist(), which, drawn[rows, places, 1:].tolist(), strict=True):
        magnitude = magnitude_of(auto.magnitude, auto.spread, auto.most, chances[1])
        plans[row].append(step_of(auto.operations[choice], magnitude, Chances(*chances), scene))
    return plans


def _which(auto: RandAugment, draws: NDArray[np.float64]) -> NDArray[np.int64]:
    """The operations (B, n): each alike with replacement, or by weight without."""
    if auto.weights is None:
        return (draws * len(auto.operations)).astype(np.int64)
    rows = np.arange(len(draws))
    left = np.tile(np.array(auto.weights, np.float64), (len(draws), 1))
    chosen = np.empty(draws.shape, np.int64)
    for place in range(draws.shape[1]):
        sums = np.cumsum(left, axis=1)
        below_all = np.nextafter(sums[:, -1], 0.0)  # a product may round up to the sum, where no operation lies
        chosen[:, place] = (sums <= np.minimum(draws[:, place] * sums[:, -1], below_all)[:, None]).sum(axis=1)
        left[rows, chosen[:, place]] = 0.0
    return chosen


def auto_plans(auto: AutoAugment, scene: Scene, draws: Draws) -> list[Plan]:
    """A plan for each picture: one sub-policy."""
    longest = max(map(len, auto.policies))
    plans = []
    for which, *drawn in draws.uniforms("auto", 1 + 4 * longest).tolist():
        plan = []
        for place, (name, probability, mean) in enumerate(auto.policies[int(which * len(auto.policies))]):
            chances = Chances(*drawn[4 * place : 4 * place + 4])
            if chances.whether < probability:
                magnitude = magnitude_of(mean, auto.spread, auto.most, chances.magnitude)
                plan.append(step_of(name, magnitude, chances, scene))
        plans.append(plan)
    return plans


def jitter_plans(jitter: Jitter, draws: Draws) -> list[Plan]:
    """A plan for each picture: brightness, contrast, saturation and hue in an order that is drawn."""
    reach = [
        ("brightness", max(0.0, 1.0 - jitter.brightness), 1.0 + jitter.brightness),
        ("contrast", max(0.0, 1.0 - jitter.contrast), 1.0 + jitter.contrast),
        ("colour", max(0.0, 1.0 - jitter.saturation), 1.0 + jitter.saturation),
        ("hue", -jitter.hue, jitter.hue),
    ]
    drawn = draws.uniforms("jitter", 9)
    orders = np.argsort(drawn[:, 1:5], axis=1, kind="stable").tolist()
    plans: list[Plan] = []
    for row, order in zip(drawn.tolist(), orders, strict=True):
        plans.append([])
        for which in order if row[0] < jitter.probability else ():
            name, low, high = reach[which]
            if low < high:
                plans[-1].append(Step(name, low + (high - low) * row[5 + which]))
    return plans
