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

BOUND = 2e-5  # of a probability, by itself, and of a logit: float32's exponentials and sums are each engine's own
FLOOR = 1e-6  # of a logit: what float32 takes for equally likely
TINY = 1e-30  # a probability that float32 may take for 0


def wrong(runner: Runner, policy: Policy, *, takes: Takes, top: int) -> tuple[str, ...]:
    """What is wrong with the `top` best classes and their probabilities on the generated pictures; nothing is good.

    Of classes that are equally likely any may be named.
    """
    pixels = np.stack([policy.pixels(picture) for picture in generated(policy.channels)])
    logits, *best = answers_of(runner, given(pixels, takes, policy))
    forms = [(part.shape, part.dtype.kind) for part in best]
    if forms != [((len(pixels), top), "f"), ((len(pixels), top), "i")]:
        return (f"best classes: beside the logits it gives {forms}",)
    return tuple(_differences(np.asarray(logits, np.float64), *best))


def _differences(logits: NDArray[np.float64], said: NDArray[np.generic], classes: NDArray[np.generic]) -> list[str]:
    """logits: (N, K). said, classes: what is held against them, (N, top)."""
    numbers, top = classes.astype(np.int64), said.shape[1]
    if numbers.min() < 0 or numbers.max() >= logits.shape[1] or any(len({*row}) < len(row) for row in numbers.tolist()):
        return ["best classes: they are not each another of the model's classes"]
    best = -np.sort(-logits, axis=1)[:, :top]
    likely = -np.sort(-probabilities(logits.astype(np.float32)), axis=1)[:, :top]
    range_of = logits.max(axis=1, keepdims=True) - logits.min(axis=1, keepdims=True)
    gaps = np.abs(np.take_along_axis(logits, numbers, axis=1) - best)
    wrong = {
        "the classes have other logits than the best": gaps > BOUND * range_of + FLOOR,
        "the probabilities are not those of the logits": ~(
            np.abs(said.astype(np.float64) - likely) <= BOUND * likely + TINY
        ),
    }
    counts = {what: int(rows.any(axis=1).sum()) for what, rows in wrong.items()}
    return [f"best classes: {what}, in {count} of {len(logits)} pictures" for what, count in counts.items() if count]
