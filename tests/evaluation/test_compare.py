"""Two models over the same pictures: every number against one that is worked out by hand or exactly."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vitrail.errors import DataError, NumbersBroke, OutsideBound, UsageError
from vitrail.evaluation.answers import WINDOW, CheckPicture
from vitrail.evaluation.compare import Comparison, compare
from vitrail.evaluation.intervals import mcnemar, wilson
from vitrail.pictures.policy import HALF, Policy

CLASSES = ("cat", "dog", "owl")
POLICY = Policy(size=(4, 4), crop=1.0, mean=HALF.mean, std=HALF.std)


class Table:
    """A model that answers a picture of one shade by a row of a table."""

    def __init__(self, rows: Sequence[Sequence[float]], classes: tuple[str, ...] = CLASSES) -> None:
        self.rows, self.classes, self.policy = np.array(rows, np.float32), classes, POLICY

    def logits(self, batch: NDArray[np.float32], /) -> NDArray[np.float32]:
        shades = np.rint((batch[:, 0, 0, 0] * POLICY.std[0] + POLICY.mean[0]) * 255).astype(int)
        return self.rows[shades]


def pictures(labels: Sequence[int | None]) -> list[CheckPicture]:
    return [CheckPicture.of(np.full((4, 4, 3), shade, np.uint8), label) for shade, label in enumerate(labels)]


@given(one=st.integers(0, 60), other=st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test(one: int, other: int) -> None:
    count, fewer = one + other, min(one, other)
    exact = min(Fraction(1), Fraction(2 * sum(comb(count, i) for i in range(fewer + 1)), 2**count))
    assert mcnemar(one, other) == pytest.approx(float(exact), rel=1e-12)


def test_mcnemar_of_very_many_pictures() -> None:
    assert mcnemar(200_000, 200_000) == 1.0
    assert mcnemar(200_000, 202_000) == pytest.approx(0.00161, rel=0.01)  # z of 1,999 in 402,000 with continuity


def test_every_number_of_a_comparison() -> None:
    first = Table([[3, 0, 0], [0, 3, 0], [0, 0, 3], [3, 0, 0], [1, 0, 0]])
    second = Table([[3, 0, 0], [0, 3, 0.5], [0, 3, 0], [0, 3, 0], [1, 0, 0]])
    found = compare(first, second, pictures([0, 1, 2, 1, None]), bound=0.4)
    assert isinstance(found, Comparison) and not found.same
    assert (found.pictures, found.labelled, found.max_dlogit) == (5, 4, 3.0)
    assert [(one.place, one.classes) for one in found.changed] == [(2, ("owl", "dog")), (3, ("cat", "dog"))]
    assert (found.correct, found.alone) == ((3, 3), (1, 1))
    assert found.norms == pytest.approx((np.sqrt(37), np.sqrt(37.25)))
    assert found.intervals == (wilson(3, 4), wilson(3, 4))
    assert found.p_value == 1.0
    values = found.to_json()
    assert (values["top1"], values["mcnemar_p"]) == ([0.75, 0.75], 1.0)
    with pytest.raises(OutsideBound, match="V804") as caught:
        found.raise_if_differ(lambda place: f"photo {place}")
    assert list(caught.value.evidence) == ["2 of 5 decisions changed", "photo 2: owl, dog", "photo 3: cat, dog"]


def test_the_bound_itself_is_the_same() -> None:
    first, second = Table([[1, 0, 0]]), Table([[1.5, 0, 0]])
    assert compare(first, second, pictures([None]), bound=0.5).same
    assert not compare(first, second, pictures([None]), bound=0.49).same


def test_classes_are_matched_by_name() -> None:
    found = compare(Table([[1, 2, 3]]), Table([[3, 1, 2]], ("owl", "cat", "dog")), pictures([2]))
    assert (found.max_dlogit, found.correct) == (0.0, (1, 1))


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("second", [False, True])
def test_what_is_no_number_is_refused(broken: float, second: bool) -> None:
    models = [Table([[1, 0, 0], [2, 0, 0]]), Table([[1, 0, 0], [2, broken, 0]])]
    with pytest.raises(NumbersBroke, match="V811") as caught:
        compare(*(models if second else models[::-1]), pictures([None, None]))
    assert caught.value.what == f"logits of the {'second' if second else 'first'} model are NaN or Inf, for picture 1"


@pytest.mark.parametrize("bound", [-1.0, np.nan, np.inf])
def test_a_bound_is_a_finite_number(bound: float) -> None:
    with pytest.raises(UsageError, match="V007"):
        compare(Table([[1, 0, 0]]), Table([[1, 0, 0]]), pictures([0]), bound=bound)


def test_names_that_come_twice_are_only_taken_in_one_order() -> None:
    twice = ("crane", "crane", "dog")
    assert compare(Table([[1, 2, 3]], twice), Table([[1, 2, 3]], twice), pictures([0])).same
    with pytest.raises(DataError, match="V405"):
        compare(Table([[1, 2, 3]], twice), Table([[3, 1, 2]], ("dog", "crane", "crane")), pictures([0]))


def test_other_words_for_the_classes_can_be_given() -> None:
    numbered = Table([[3, 1, 2]], ("class_0", "class_1", "class_2"))
    found = compare(Table([[1, 2, 3]]), numbered, pictures([2]), names=(CLASSES, ("owl", "cat", "dog")))
    assert found.max_dlogit == 0.0


def test_more_pictures_than_a_window() -> None:
    count = 2 * WINDOW + 5
    rows = np.eye(3)[np.arange(count) % 3]
    other = rows.copy()
    other[[0, WINDOW, count - 1]] = np.roll(rows[[0, WINDOW, count - 1]], 1, axis=1)
    found = compare(Table(rows), Table(other), pictures([i % 3 for i in range(count)]))
    assert [one.place for one in found.changed] == [0, WINDOW, count - 1]
    assert (found.correct, found.alone) == ((count, count - 3), (3, 0))
    assert found.p_value == pytest.approx(0.25)


def test_other_classes_are_refused() -> None:
    with pytest.raises(UsageError, match="V007") as caught:
        compare(Table([[1, 0, 0]]), Table([[1, 0, 0]], ("cat", "dog", "wolf")), pictures([0]))
    assert list(caught.value.evidence) == ["only in the first: owl", "only in the second: wolf"]


def test_no_picture_is_refused() -> None:
    with pytest.raises(DataError, match="V401"):
        compare(Table([[1, 0, 0]]), Table([[1, 0, 0]]), [])
