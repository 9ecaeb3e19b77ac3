"""The Wilson interval against scipy, printed values and its own promises; bounds of a paired loss by counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom, binomtest, multinomial, norm

from vitrail.evaluation.intervals import paired_loss, wilson


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


def test_a_paired_loss_of_no_change_is_that_of_the_score_test() -> None:
    z = norm.ppf(0.975)
    assert paired_loss(0, 0, 100) == pytest.approx((-(z**2) / (100 + z**2), z**2 / (100 + z**2)), abs=1e-12)
    assert paired_loss(0, 0, 0) == (-1.0, 1.0)


@given(st.integers(1, 400), st.data())
def test_paired_bounds_hold_what_was_counted_and_turn_with_the_sides(total: int, data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, total))
    won = data.draw(st.integers(0, total - lost))
    low, high = paired_loss(lost, won, total)
    assert -1 <= low <= (lost - won) / total <= high <= 1
    assert paired_loss(won, lost, total) == (-high, -low)
    wider = paired_loss(lost, won, total, 0.99)
    assert wider[0] <= low and high <= wider[1]


@pytest.mark.parametrize(("lost", "won", "total"), [(7, 3, 60), (0, 4, 30), (12, 0, 50), (1, 1, 40)])
def test_paired_bounds_are_where_the_likelihood_says(lost: int, won: int, total: int) -> None:
    """At a bound the score with the likeliest share that SciPy finds under that difference is the quantile."""

    def score(difference: float) -> float:
        def unlikely(share: float) -> float:  # of pictures that the second alone names rightly
            cells = (share + difference, share, 1 - 2 * share - difference)
            counts = (lost, won, total - lost - won)
            return -sum(n * math.log(p) for n, p in zip(counts, cells, strict=True) if n)

        ends = (max(0.0, -difference) + 1e-12, (1 - difference) / 2 - 1e-12)
        share = minimize_scalar(unlikely, bounds=ends, method="bounded", options={"xatol": 1e-12}).x
        return (lost - won - total * difference) / math.sqrt(total * (2 * share + difference - difference**2))

    low, high = paired_loss(lost, won, total)
    assert (score(low), score(high)) == pytest.approx((norm.ppf(0.975), norm.ppf(0.025)), abs=2e-3)


@pytest.mark.parametrize(("lost", "won"), [(0.02, 0.02), (0.1, 0.05), (0.01, 0.0), (0.3, 0.2)])
def test_a_paired_bound_is_as_often_wrong_as_it_says(lost: float, won: float) -> None:
    """Over every outcome that is possible, by its probability: the score test is close to its word, and not below it
    by more than it is known to be.
    """
    total = 60
    a, b = (grid.ravel() for grid in np.meshgrid(np.arange(total + 1), np.arange(total + 1)))
    a, b = a[a + b <= total], b[a + b <= total]
    chance = multinomial.pmf(np.stack([a, b, total - a - b], -1), total, [lost, won, 1 - lost - won])
    likely = chance > 1e-7
    missed = [
        lost - won > paired_loss(int(x), int(y), total, 0.9)[1] for x, y in zip(a[likely], b[likely], strict=True)
    ]
    assert chance[likely][missed].sum() <= 0.05 * 1.4
