"""Timing in turns: who is asked, how often, with what; and what a ratio is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrail.evaluation import speed
from vitrail.pictures.policy import HALF, Policy


class Noted:
    classes = ("a", "b")

    def __init__(self, name: str, calls: list[tuple[str, tuple[int, ...]]], size: int) -> None:
        self.name, self.calls = name, calls
        self.policy = Policy(size=(size, size), mean=HALF.mean, std=HALF.std)

    def logits(self, batch: NDArray[np.float32], /) -> NDArray[np.float32]:
        self.calls.append((self.name, batch.shape))
        return np.zeros((len(batch), 2), np.float32)


def test_each_has_its_turn_in_every_round_and_warms_up() -> None:
    calls: list[tuple[str, tuple[int, ...]]] = []
    taken = speed.in_turns([Noted("x", calls, 4), Noted("y", calls, 8)], batch=3, rounds=5, warm=2)
    assert [len(times) for times in taken] == [5, 5]
    assert calls == 7 * [*2 * [("x", (3, 3, 4, 4))], *2 * [("y", (3, 3, 8, 8))]]
    assert all(seconds > 0 for times in taken for seconds in times)


def test_a_ratio_is_paired_round_by_round() -> None:
    noise = np.random.default_rng(1).uniform(1, 4, 60)  # of the machine: both are slow in the same round
    found = speed.ratio((2 * noise).tolist(), noise.tolist())
    assert found == pytest.approx((2.0, 2.0, 2.0))
    uneven = speed.ratio([1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5)
    assert uneven.median == 3.0 and 1.0 <= uneven.low < 3.0 < uneven.high <= 5.0
