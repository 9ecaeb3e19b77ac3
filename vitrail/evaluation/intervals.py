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
