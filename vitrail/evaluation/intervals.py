"""How far a share of right answers may lie from the truth, given how many pictures were asked."""

from __future__ import annotations

from math import sqrt
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
