"""From pictures to named classes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vitrail.errors import NumbersBroke, UsageError
from vitrail.pictures.decode import Picture
from vitrail.pictures.policy import HALF, Policy
from vitrail.pictures.predict import Failed, Prediction, predict, probabilities


class ByMean:
    """The logits are the mean of each colour: the strongest colour wins."""

    policy = Policy(size=(8, 8), mean=HALF.mean, std=HALF.std)
    classes = ("red", "green", "blue")

    def __init__(self) -> None:
        self.batches: list[int] = []

    def logits(self, batch: NDArray[np.float32], /) -> NDArray[np.float32]:
        self.batches.append(len(batch))
        return np.asarray(batch.mean(axis=(2, 3)))


def _colour(index: int) -> NDArray[np.uint8]:
    pixels = np.zeros((10, 12, 3), np.uint8)
    pixels[:, :, index] = 255
    return pixels


def test_order_names_and_every_kind_of_picture(tmp_path: Path) -> None:
    Image.fromarray(_colour(1)).save(tmp_path / "green.png")
    file = io.BytesIO()
    Image.fromarray(_colour(2)).save(file, "BMP")
    bad = tmp_path / "bad.jpg"
    bad.write_text("no picture")
    green = tmp_path / "green.png"
    pictures: list[Picture] = [_colour(0), green, str(green), bad, file.getvalue(), Image.fromarray(_colour(0))]
    model = ByMean()
    answers = list(predict(model, pictures, top=2, batch=4))
    assert [a.classes[0] if isinstance(a, Prediction) else a.error.code for a in answers] == [
        "red", "green", "green", "V301", "blue", "red",
    ]  # fmt: skip
    assert answers[1].name == str(tmp_path / "green.png")
    assert isinstance(answers[3], Failed)
    assert answers[3].name == str(bad)
    assert model.batches == [3, 2]  # of four pictures one could not be read
    first = answers[0]
    assert isinstance(first, Prediction)
    assert first.probabilities == tuple(sorted(first.probabilities, reverse=True))
    assert first.probabilities[0] == pytest.approx(np.e / (np.e + 2 / np.e))
    assert len(first.classes) == 2


def test_pictures_are_read_no_further_than_asked() -> None:
    read = []

    def pictures() -> Iterator[Picture]:
        for index in range(100):
            read.append(index)
            yield _colour(index % 3)

    answers = predict(ByMean(), pictures(), batch=4)
    assert read == []
    next(answers)
    assert len(read) == 4


def test_ties_go_to_the_first_class() -> None:
    answer = next(predict(ByMean(), [np.zeros((8, 8, 3), np.uint8)], top=99))
    assert isinstance(answer, Prediction)
    assert answer.classes == ("red", "green", "blue")
    assert answer.probabilities == (1 / 3, 1 / 3, 1 / 3)


def test_nothing_gives_nothing() -> None:
    assert list(predict(ByMean(), [])) == []


def test_softmax_survives_large_logits() -> None:
    assert probabilities(np.array([[1e4, 0.0], [-1e4, -1e4]], np.float32)).tolist() == [[1.0, 0.0], [0.5, 0.5]]


@pytest.mark.parametrize("word", ["top", "batch"])
def test_counts_below_one_are_refused_at_once(word: str) -> None:
    with pytest.raises(UsageError) as caught:
        predict(ByMean(), [], **{word: 0})
    assert caught.value.code == "V007"


def test_nan_is_never_a_class() -> None:
    class Broken(ByMean):
        def logits(self, batch: NDArray[np.float32], /) -> NDArray[np.float32]:
            return super().logits(batch) * np.nan

    with pytest.raises(NumbersBroke, match="1 of 1") as caught:
        list(predict(Broken(), [_colour(0)]))
    assert caught.value.code == "V811"
