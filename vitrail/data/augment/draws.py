"""Where draws come from: every number from a named stream of (seed, epoch, index), so that a picture's fate depends on
nothing else."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitrail.randomness import Stream, generator, normals, uniforms


class Draws(NamedTuple):
    """The draws of some pictures in one epoch, by their indices (B,)."""

    seed: int
    epoch: int
    indices: NDArray[np.int64]

    def uniforms(self, stream: Stream, count: int) -> NDArray[np.float64]:
        """Uniform numbers (B, count)."""
        return uniforms(self.seed, stream, self.epoch, self.indices, count)

    def normals(self, stream: Stream, count: int) -> NDArray[np.float32]:
        """Normal numbers (B, count)."""
        return normals(self.seed, stream, self.epoch, self.indices, count)

    def generator(self, stream: Stream, row: int) -> np.random.Generator:
        """A generator of one picture's own."""
        return generator(self.seed, stream, self.epoch, int(self.indices[row]))

    def of(self, rows: NDArray[np.int64]) -> Draws:
        """The draws of some of these pictures."""
        return Draws(self.seed, self.epoch, self.indices[rows])
