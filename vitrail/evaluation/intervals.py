"""How far a share of right answers may lie from the truth, given how many pictures were asked; and which of two models
is the better one.
"""

from __future__ import annotations

from math import exp, fsum, lgamma, log, sqrt
from statistics import NormalDist


def wilson(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval (low, high) of a share: `correct` right answers of `total`.

    Unlike the textbook `p +- z s` it stays inside [0, 1] and is honest at 0, at `total` and for few pictures; of no
    picture at all it says (0, 1). Source: E. B. Wilson, JASA 22 (1927) 209; no continuity correction.

    >>> low, high = wilson(9653, 10000)
    >>> f"{low:.4f} to {high:.4f}"
    '0.9615 to 0.9687'
    """
    assert 0 <= correct <= total, (correct, total)
    assert 0.0 < confidence < 1.0, confidence
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    spread = correct * (total - correct) / total if total else 0.0
    middle = (correct + z * z / 2) / (total + z * z)
    half = z * sqrt(spread + z * z / 4) / (total + z * z)
    low = 0.0 if correct == 0 else max(0.0, middle - half)  # exact at both ends, where rounding would leave a trace
    high = 1.0 if correct == total else min(1.0, middle + half)
    return low, high


def mcnemar(one: int, other: int) -> float:
    """The probability of a split at least as uneven as `one` to `other` by chance alone: McNemar's exact test.

    one, other: pictures that one of two models alone names rightly; those that both or neither do say nothing.
    Source: Q. McNemar, Psychometrika 12 (1947) 153; the two-sided binomial test with a half.

    >>> f"{mcnemar(5, 15):.4f}"
    '0.0414'
    """
    assert one >= 0 and other >= 0, (one, other)
    count, fewer = one + other, min(one, other)
    terms = (lgamma(count + 1) - lgamma(i + 1) - lgamma(count - i + 1) - count * log(2) for i in range(fewer + 1))
    return min(1.0, 2 * fsum(map(exp, terms)))


def paired_loss(lost: int, won: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds (low, high) of the share that a second model names rightly less often than a first, on the same pictures.

    lost, won: pictures that the first alone and the second alone names rightly, of `total`. The two pictures' answers
    are paired, so the bounds are far closer than those of two separate shares; they hold for few and for no changes.
    Source: T. Tango, Statistics in Medicine 17 (1998) 891: the score test inverted.

    >>> low, high = paired_loss(60, 50, 10_000)
    >>> f"{100 * low:.2f} to {100 * high:.2f} points"
    '-0.11 to 0.31 points'
    """
    assert lost >= 0 and won >= 0 and lost + won <= total, (lost, won, total)
    assert 0.0 < confidence < 1.0, confidence
    if total == 0:
        return -1.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    return -_highest(won, lost, total, z), _highest(lost, won, total, z)


def _highest(lost: int, won: int, total: int, z: float) -> float:
    """The largest difference that the score test does not yet refuse; found by halving, as the score falls with it."""
    low, high = (lost - won) / total, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _score(lost, won, total, middle) > -z else (low, middle)
    return high


def _score(lost: int, won: int, total: int, difference: float) -> float:
    """How many standard deviations what was counted lies above a difference, were that the true one."""
    linear = -lost - won + (2 * total - lost + won) * difference
    constant = -won * difference * (1 - difference)
    likely = (sqrt(max(0.0, linear * linear - 8 * total * constant)) - linear) / (4 * total)  # the share won alone
    variance = total * (2 * likely + difference * (1 - difference))
    return (lost - won - total * difference) / sqrt(variance) if variance > 0 else float("-inf")
