"""Measures of a classification, from true labels, predictions and logits.

The conventions are scikit-learn's with `zero_division=0`, checked against it in the tests. Two are worth knowing:
macro-F1 is the mean over the classes that occur among the labels or the predictions; balanced accuracy is the mean
recall over the classes that occur among the labels. A prediction of `BAD` is a picture that could not be read: it is
wrong, it is nobody's prediction, and it stays in the support of its class.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BAD = -1

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class ClassScores(NamedTuple):
    """One entry per class: how often it is true, predicted, both; and the three shares made of these."""

    support: Ints
    predicted: Ints
    correct: Ints
    precision: Floats
    recall: Floats
    f1: Floats


def confusion_matrix(labels: Ints, predictions: Ints, classes: int) -> Ints:
    """Counts (K, K): row = true class, column = predicted class. Pictures that are `BAD` are in no column.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, BAD]), 2).tolist()
    [[1, 1], [0, 0]]
    """
    read = predictions != BAD
    cells = np.bincount(labels[read] * classes + predictions[read], minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def class_scores(labels: Ints, predictions: Ints, classes: int) -> ClassScores:
    """Support, precision, recall and F1 of each class; a share of nothing is 0."""
    support = _counts(labels, classes)
    predicted = _counts(predictions[predictions != BAD], classes)
    correct = _counts(labels[labels == predictions], classes)
    return ClassScores(
        support,
        predicted,
        correct,
        precision=_share(correct, predicted),
        recall=_share(correct, support),
        f1=_share(2 * correct, support + predicted),
    )


def macro_f1(scores: ClassScores) -> float:
    """The mean F1 over the classes that occur among the labels or the predictions."""
    present = (scores.support + scores.predicted) > 0
    return float(scores.f1[present].mean()) if present.any() else 0.0


def balanced_accuracy(scores: ClassScores) -> float:
    """The mean recall over the classes that occur among the labels: what accuracy would be, were all equally many."""
    present = scores.support > 0
    return float(scores.recall[present].mean()) if present.any() else 0.0


def ranks(logits: Floats, labels: Ints) -> Ints:
    """How many classes come before the true one, (B,): 0 is a right answer, below 5 is in the top five.

    Of equal logits the lower class index comes first, so rank 0 is exactly `argmax`.

    >>> ranks(np.array([[1.0, 3.0, 3.0], [1.0, 3.0, 3.0]]), np.array([1, 2])).tolist()
    [0, 1]
    """
    true = np.take_along_axis(logits, labels[:, None], axis=1)
    lower = np.arange(logits.shape[1]) < labels[:, None]
    before = (logits > true) | ((logits == true) & lower)
    out: Ints = before.sum(axis=1, dtype=np.int64)
    return out


def log_softmax(logits: Floats) -> Floats:
    """Logarithms of the probabilities (B, K), without overflow."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    out: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return out


def _counts(values: Ints, classes: int) -> Ints:
    return np.bincount(values, minlength=classes).astype(np.int64)


def _share(part: Ints, whole: Ints) -> Floats:
    out: Floats = np.divide(part, whole, out=np.zeros(len(whole), np.float64), where=whole > 0)
    return out
