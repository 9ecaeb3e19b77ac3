"""Whether a graph that names the best classes itself names those of its own logits, which are proven beside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrail.bundle.formats import Takes
from vitrail.engines.graphs import answers_of
from vitrail.engines.table import Runner
from vitrail.pictures.policy import Policy
from vitrail.pictures.predict import given, probabilities
from vitrail.proof.pictures import generated

BOUND = 1e-5  # of a probability: float32's exponentials and sums are each engine's own


def wrong(runner: Runner, policy: Policy, *, takes: Takes, top: int) -> tuple[str, ...]:
    """What is wrong with the `top` best classes and their probabilities on the generated pictures; nothing is good.

    Of classes that are equally likely any may be named.
    """
    pixels = np.stack([policy.pixels(picture) for picture in generated(policy.channels)])
    logits, *best = answers_of(runner, given(pixels, takes, policy))
    forms = [(part.shape, part.dtype.kind) for part in best]
    if forms != [((len(pixels), top), "f"), ((len(pixels), top), "i")]:
        return (f"best classes: beside the logits it gives {forms}",)
    return tuple(_differences(probabilities(np.asarray(logits, np.float32)), *best))


def _differences(exact: NDArray[np.float64], said: NDArray[np.generic], classes: NDArray[np.generic]) -> list[str]:
    """exact: probabilities (N, K) of the logits. said, classes: what is held against them, (N, top)."""
    numbers = classes.astype(np.int64)
    if numbers.min() < 0 or numbers.max() >= exact.shape[1] or any(len({*row}) < len(row) for row in numbers.tolist()):
        return ["best classes: they are not each another of the model's classes"]
    wanted = -np.sort(-exact, axis=1)[:, : said.shape[1]]
    gaps = {
        "the probabilities": np.abs(said.astype(np.float64) - wanted),
        "the classes": np.abs(np.take_along_axis(exact, numbers, axis=1) - wanted),
    }
    return [
        f"best classes: {name} differ from those of the logits by up to {float(gap.max()):.1e}"
        for name, gap in gaps.items()
        if not (gap <= BOUND).all()
    ]
