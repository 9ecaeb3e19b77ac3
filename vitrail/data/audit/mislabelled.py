"""Which labels a model doubts with reason: confident learning (Northcutt, Jiang, Chuang 2021, arXiv 1911.00068)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def doubted(
    labels: NDArray[np.int64], probabilities: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pictures that are likely mislabelled: (which, the class they likely are, margin), the surest first.

    labels (N,); probabilities (N, K), NaN in the row of a picture that was not predicted. They ought to come from a
    model that was not trained on these pictures: one that was believes the labels that it has seen.

    The rule (the confident joint, section 3.1 of the paper): the threshold of a class is the mean probability that
    the pictures labelled so are given for it, their self-confidence. A picture counts as of class j if its
    probability of j reaches the threshold of j; of several such classes the likeliest holds. It is doubted if that
    class is not its label. margin: probability of the likely class less that of the label; sorted by it.

    >>> sure = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.1, 0.9], [0.2, 0.8]])
    >>> which, likely, _ = doubted(np.array([0, 0, 0, 1, 1]), sure)
    >>> which.tolist(), likely.tolist()
    ([2], [1])
    """
    asked = np.flatnonzero(~np.isnan(probabilities).any(axis=1))
    mine, rows = labels[asked], probabilities[asked].astype(np.float64)
    own = rows[np.arange(len(asked)), mine]
    counts = np.bincount(mine, minlength=rows.shape[1])
    sums = np.bincount(mine, weights=own, minlength=rows.shape[1])
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)  # nobody is of a class without pictures
    confident = np.where(rows >= thresholds, rows, -1.0)
    likely = confident.argmax(axis=1)
    margin = rows[np.arange(len(asked)), likely] - own
    found = np.flatnonzero((confident.max(axis=1) >= 0) & (likely != mine) & (margin > 0))
    order = found[np.argsort(-margin[found], kind="stable")]
    return asked[order], likely[order].astype(np.int64), margin[order]
