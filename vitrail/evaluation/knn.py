"""k nearest neighbours on features: how good they are before a head is trained (arXiv 1805.01978, 2104.14294).

A picture's class is voted for by the k pictures of the bank that are most like it by the cosine of their features,
each with the weight exp(cosine / temperature). Exact, in float64; of equals the one of the lower index comes first,
where cosines that agree in 12 decimals are equal, so that no order of sums decides.

Letters: B pictures, M of the bank, D width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.data.batches import EvalBatch
from vitrail.errors import DataError, UsageError
from vitrail.evaluation.metrics import Floats, Ints

TEMPERATURE = 0.07
ABSENT = 1e-12  # the share of votes of a class that has none: its logarithm must be a number
PIECE = 1 << 15  # rows of the bank compared at a time
Features = Callable[[NDArray[np.float32]], NDArray[Any]]  # (B, C, H, W) -> (B, D)


@dataclass(frozen=True, eq=False)
class Bank:
    """Pictures whose classes are known: features (M, D), their lengths (M,) and labels (M,)."""

    features: NDArray[Any]
    lengths: Floats
    labels: Ints
    classes: int

    def nearest(self, asked: NDArray[Any], k: int) -> tuple[Floats, Ints]:
        """Cosines and places of the k rows most like each of `asked` (B, D), in the order of the bank: 2 x (B, k)."""
        asked = asked.astype(np.float64)
        asked /= np.maximum(np.linalg.norm(asked, axis=1, keepdims=True), ABSENT)
        cosines, places = np.empty((len(asked), 0)), np.empty((len(asked), 0), np.int64)
        for start in range(0, len(self.labels), PIECE):
            rows = self.features[start : start + PIECE].astype(np.float64)
            found = np.round(asked @ rows.T / self.lengths[start : start + PIECE], 12)
            numbers = np.broadcast_to(np.arange(start, start + len(rows)), found.shape)
            cosines, places = np.hstack([cosines, found]), np.hstack([places, numbers])
            if (count := min(k, cosines.shape[1])) < cosines.shape[1]:
                taken = _largest(cosines, count)
                cosines, places = cosines[taken].reshape(-1, count), places[taken].reshape(-1, count)
        return cosines, places

    def votes(self, asked: NDArray[Any], k: int) -> Floats:
        """Logarithms of each class's share of the votes, (B, D) -> (B, K)."""
        cosines, places = self.nearest(asked, k)
        weights = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / TEMPERATURE)
        cells = np.arange(len(asked))[:, None] * self.classes + self.labels[places]
        counts = np.bincount(cells.ravel(), weights.ravel(), minlength=len(asked) * self.classes)
        shares = counts.reshape(-1, self.classes) / weights.sum(axis=1, keepdims=True)
        out: Floats = np.log(np.maximum(shares, ABSENT))
        return out


def _largest(values: Floats, k: int) -> NDArray[np.bool_]:
    """Where the k greatest values of each row are; of equals the first."""
    least = np.partition(values, -k, axis=1)[:, -k, None]
    above, equal = values > least, values == least
    wanted = k - above.sum(axis=1, keepdims=True)
    out: NDArray[np.bool_] = above | (equal & (equal.cumsum(axis=1) <= wanted))
    return out


def bank_of(features: Features, batches: Iterable[EvalBatch], classes: int, *, k: int) -> Bank:
    """The bank of labelled pictures; those that cannot be read are left out.

    DataError V401 when none could be read; UsageError V007 when there are fewer than k.
    """
    parts, labels = [], []
    for batch in batches:
        read = ~np.isin(batch.indices, [picture.index for picture in batch.bad])
        if read.any():
            parts.append(np.asarray(features(batch.images[read])))
            labels.append(batch.labels[read].astype(np.int64))
    if not parts:
        raise DataError("V401", "no picture of the bank could be read", hint="give data with training pictures")
    rows = np.concatenate(parts)
    refuse_too_few(len(rows), k)
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    return Bank(rows, np.maximum(lengths, ABSENT), np.concatenate(labels), classes)


def refuse_too_few(pictures: int, k: int) -> None:
    """UsageError V007 where a bank of so many pictures has no k nearest."""
    if not 1 <= k <= pictures:
        raise UsageError("V007", f"{k} nearest of {pictures} pictures", hint=f"give --knn 1 to {pictures}")
