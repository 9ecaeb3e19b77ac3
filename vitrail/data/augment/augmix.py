"""AugMix (arXiv 1912.02781): chains of operations on one picture, mixed with each other and with the picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitrail.data.augment.draws import Draws
from vitrail.data.augment.grammar import AugMix
from vitrail.data.augment.perform import perform
from vitrail.data.augment.plans import Chances, Plan, Scene, Step, magnitude_of, step_of
from vitrail.pictures.operations.enhance import blend
from vitrail.pictures.operations.planes import Planes


class Mixture(NamedTuple):
    """What is drawn for one picture: its chains, what each weighs, and the part that all of them together have."""

    chains: list[Plan]
    weights: NDArray[np.float32]
    part: np.float32


def augmixed(planes: Planes, auto: AugMix, scene: Scene, draws: Draws, fill: Sequence[int]) -> Planes:
    """The pictures (B, C, H, W), each mixed with chains of its own."""
    mixtures = [_mixture(auto, scene, draws.generator("auto", row)) for row in range(len(planes))]
    return mixed(planes, mixtures, fill, blended=auto.blended)


def _mixture(auto: AugMix, scene: Scene, random: np.random.Generator) -> Mixture:
    weights = random.dirichlet([auto.alpha] * auto.width).astype(np.float32)
    part = np.float32(random.beta(auto.alpha, auto.alpha))
    chains = []
    for _ in range(auto.width):
        depth = auto.depth if auto.depth is not None else int(random.integers(1, 4))
        names = [auto.operations[which] for which in random.integers(len(auto.operations), size=depth)]
        chains.append([_step(auto, name, scene, Chances(*random.random(4))) for name in names])
    return Mixture(chains, weights, part)


def _step(auto: AugMix, name: str, scene: Scene, chances: Chances) -> Step:
    magnitude = magnitude_of(auto.magnitude, auto.spread, auto.most, chances.magnitude)
    return step_of(name, magnitude, chances, scene)


def mixed(planes: Planes, mixtures: Sequence[Mixture], fill: Sequence[int], *, blended: bool) -> Planes:
    """The pictures with their mixtures: the chains summed in float32, cut to bytes, then blended with the picture.

    blended: each chain blended into the picture in turn.
    """
    result = planes.copy() if blended else None
    total = np.zeros(planes.shape, np.float32)
    for place in range(len(mixtures[0].chains)):
        ends = perform(planes, [mixture.chains[place] for mixture in mixtures], fill)
        if result is not None:
            result = blend(result, ends, np.array([_shares(mixture)[place] for mixture in mixtures]))
        else:
            weights = np.array([mixture.weights[place] for mixture in mixtures], np.float32)
            total += weights[:, None, None, None] * ends.astype(np.float32)
    if result is not None:
        return result
    summed = np.clip(total, 0.0, 255.0, out=total).astype(np.uint8)
    return blend(planes, summed, np.array([mixture.part for mixture in mixtures]))


def _shares(mixture: Mixture) -> NDArray[np.float32]:
    """What each chain has when it is blended in, so that at the end each has its weight of the part."""
    left = np.float32(1.0)
    shares = []
    for weight in (mixture.weights * mixture.part)[::-1]:
        share = weight / left
        left *= 1 - share
        shares.append(share)
    return np.array(shares[::-1], np.float32)
