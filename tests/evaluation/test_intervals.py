"""The Wilson interval against scipy, printed values and its own promises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from vitrail.evaluation.intervals import wilson


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    total = draw(st.integers(0, 200_000))
    return draw(st.integers(0, total)), total


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_values(correct: int, total: int, low: float, high: float) -> None:
    assert wilson(correct, total) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
@pytest.mark.parametrize(("correct", "total"), [(0, 1), (1, 1), (0, 50), (50, 50), (7, 50), (9653, 10000)])
def test_equals_scipy(correct: int, total: int, confidence: float) -> None:
    theirs = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    assert wilson(correct, total, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@given(counts(), st.floats(0.01, 0.9999))
def test_contains_the_share_and_stays_inside(case: tuple[int, int], confidence: float) -> None:
    correct, total = case
    low, high = wilson(correct, total, confidence)
    assert 0.0 <= low <= high <= 1.0
    if total:
        assert low <= correct / total <= high
    if correct == 0:
        assert low == 0.0
    if correct == total:
        assert high == 1.0


@given(counts())
def test_rises_with_right_answers_and_tightens_with_pictures(case: tuple[int, int]) -> None:
    correct, total = case
    low, high = wilson(correct, total)
    more_low, more_high = wilson(correct + 1, total + 1)
    assert more_low > low
    assert more_high >= high
    ten_low, ten_high = wilson(10 * correct, 10 * total)
    assert ten_high - ten_low <= high - low


@given(counts(), st.floats(0.5, 0.99))
def test_mirrored_by_wrong_answers(case: tuple[int, int], confidence: float) -> None:
    correct, total = case
    low, high = wilson(correct, total, confidence)
    assert wilson(total - correct, total, confidence) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_nothing_is_known_of_no_picture() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_covers_the_truth_as_often_as_it_says() -> None:
    """Exact, not simulated: of all outcomes of 500 pictures, weighed by their probability."""
    outcomes = range(501)
    intervals = [wilson(correct, 500) for correct in outcomes]
    shares = [i / 100 for i in range(5, 100, 5)]
    covered = [
        sum(binom.pmf(n, 500, p) for n, (low, high) in zip(outcomes, intervals, strict=True) if low <= p <= high)
        for p in shares
    ]
    assert 0.945 < sum(covered) / len(covered) < 0.955
    assert min(covered) > 0.93
