"""What the resize mode does to pictures of these sizes: what it cuts off, how far it distorts, which it enlarges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrail.pictures.policy import Policy

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Fit:
    """Of each picture (N,). kept: the part of its area that the network sees. stretch: by how much one side is
    stretched against the other, 1 or more. enlarged: by how much its pixels are enlarged, below 1 where reduced."""

    kept: Floats
    stretch: Floats
    enlarged: Floats


def fit(width: Floats, height: Floats, policy: Policy) -> Fit:
    """How pictures of these sizes fit the policy, from its geometry alone.

    >>> wide = fit(np.array([400.0]), np.array([200.0]), Policy(size=(100, 100), mean=(0.5,), std=(0.5,)))
    >>> wide.kept.tolist(), wide.stretch.tolist(), wide.enlarged.tolist()
    ([0.5], [1.0], [0.5])
    """
    tall, wide = (side / policy.crop for side in policy.size)
    down, across = tall / height, wide / width
    if policy.mode == "squash":
        stretch = np.maximum(down, across) / np.minimum(down, across)
        return Fit(np.full(len(width), policy.crop**2), stretch, np.maximum(down, across))
    scale = np.maximum(down, across) if policy.mode == "crop" else np.minimum(down, across)
    seen = np.minimum(policy.size[0], height * scale) * np.minimum(policy.size[1], width * scale)
    return Fit(seen / (height * width * scale**2), np.ones(len(width)), scale)
