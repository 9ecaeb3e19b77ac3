"""Measures against scikit-learn, and where it has no say, against counting by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from vitrail.evaluation import metrics
from vitrail.evaluation.metrics import BAD, Ints


@st.composite
def answers(draw: st.DrawFn) -> tuple[int, Ints, Ints]:
    """K, labels and predictions; often some class never occurs."""
    classes = draw(st.integers(1, 7))
    size = draw(st.integers(1, 40))
    one = st.lists(st.integers(0, classes - 1), min_size=size, max_size=size)
    return classes, np.array(draw(one), np.int64), np.array(draw(one), np.int64)


@settings(max_examples=60, deadline=None)
@given(answers())
def test_equals_scikit_learn(case: tuple[int, Ints, Ints]) -> None:
    classes, labels, predictions = case
    every = list(range(classes))
    scores = metrics.class_scores(labels, predictions, classes)
    theirs = oracle.precision_recall_fscore_support(labels, predictions, labels=every, zero_division=0)
    for ours, column in zip((scores.precision, scores.recall, scores.f1, scores.support), theirs, strict=True):
        np.testing.assert_allclose(ours, column, rtol=0, atol=1e-15)
    assert metrics.macro_f1(scores) == pytest.approx(
        oracle.f1_score(labels, predictions, average="macro", zero_division=0), abs=1e-14
    )
    matrix = metrics.confusion_matrix(labels, predictions, classes)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # scikit-learn warns of single classes, and of predicted ones that are never true
        assert (matrix == oracle.confusion_matrix(labels, predictions, labels=every)).all()
        theirs_balanced = oracle.balanced_accuracy_score(labels, predictions)
    assert metrics.balanced_accuracy(scores) == pytest.approx(theirs_balanced, abs=1e-14)


@pytest.mark.parametrize(("classes", "k"), [(3, 2), (10, 1), (10, 5), (10, 9)])
def test_ranks_equal_top_k_of_scikit_learn(classes: int, k: int) -> None:
    stream = np.random.Generator(np.random.PCG64(5))
    logits = stream.normal(size=(300, classes))
    labels = stream.integers(0, classes, 300)
    ours = float((metrics.ranks(logits, labels) < k).mean())
    assert ours == pytest.approx(oracle.top_k_accuracy_score(labels, logits, k=k, labels=range(classes)), abs=1e-15)


@settings(deadline=None)
@given(st.integers(1, 6).flatmap(lambda k: st.lists(st.lists(st.integers(0, 2), min_size=k, max_size=k), min_size=1)))
def test_of_equal_logits_the_lower_class_comes_first(table: list[list[int]]) -> None:
    logits = np.array(table, np.float64)
    order = np.argsort(-logits, axis=1, kind="stable")
    for label in range(logits.shape[1]):
        ranks = metrics.ranks(logits, np.full(len(logits), label))
        assert (np.take_along_axis(order, ranks[:, None], axis=1)[:, 0] == label).all()
    assert (metrics.ranks(logits, logits.argmax(axis=1)) == 0).all()


def test_an_unread_picture_is_wrong_and_nobodys_prediction() -> None:
    labels = np.array([0, 0, 1])
    predictions = np.array([0, BAD, BAD])
    scores = metrics.class_scores(labels, predictions, 2)
    assert scores.support.tolist() == [2, 1]
    assert scores.predicted.tolist() == [1, 0]
    assert scores.precision.tolist() == [1.0, 0.0]
    assert scores.recall.tolist() == [0.5, 0.0]
    assert scores.f1.tolist() == [pytest.approx(2 / 3), 0.0]
    assert metrics.confusion_matrix(labels, predictions, 2).tolist() == [[1, 0], [0, 0]]
    assert metrics.balanced_accuracy(scores) == 0.25


def test_log_softmax_survives_large_logits_and_sums_to_one() -> None:
    logits = np.array([[1e4, 0.0, -1e4], [-700.0, -701.0, -702.0]])
    out = metrics.log_softmax(logits)
    np.testing.assert_allclose(np.exp(out).sum(axis=1), 1.0, rtol=1e-15)
    assert out[0].tolist() == [0.0, -1e4, -2e4]
