"""One pass over pictures: each once, the unread ones wrong and listed, broken numbers named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as oracle

from vitrail.data.batches import BadPicture, EvalBatch
from vitrail.errors import DataError, NumbersBroke, PictureError
from vitrail.evaluation.evaluate import ROW_FIELDS, Evaluation, evaluate

CLASSES = tuple(f"class {i}" for i in range(7))
TOTAL = 53


def truth() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    stream = np.random.Generator(np.random.PCG64(11))
    labels = stream.integers(0, len(CLASSES), TOTAL)
    logits = stream.normal(size=(TOTAL, len(CLASSES))).astype(np.float32)
    logits[np.arange(TOTAL), labels] += 1.0
    return logits, labels


def batches(size: int, *, order: NDArray[np.int64] | None = None, bad: tuple[int, ...] = ()) -> Iterator[EvalBatch]:
    """Pictures that are their own logits, so that `logits` is a reshape."""
    logits, labels = truth()
    order = np.arange(TOTAL) if order is None else order
    for start in range(0, TOTAL, size):
        some = order[start : start + size]
        unread = tuple(
            BadPicture(i, f"p{i}.jpg", PictureError("V302", f"`p{i}.jpg` is truncated")) for i in bad if i in some
        )
        yield EvalBatch(some, logits[some].reshape(len(some), 1, 1, -1), labels[some], unread)


def answer(images: NDArray[np.float32]) -> NDArray[np.float32]:
    return images.reshape(len(images), -1)


def test_measures_equal_scikit_learn() -> None:
    logits, labels = truth()
    result = evaluate(answer, batches(8), CLASSES)
    predictions = logits.argmax(axis=1)
    assert (result.predictions == predictions).all()
    assert result.top1 == oracle.accuracy_score(labels, predictions)
    assert result.top5 == oracle.top_k_accuracy_score(labels, logits, k=5)
    assert result.macro_f1 == pytest.approx(oracle.f1_score(labels, predictions, average="macro"), abs=1e-14)
    assert result.balanced_accuracy == pytest.approx(oracle.balanced_accuracy_score(labels, predictions), abs=1e-14)
    exp = np.exp(logits.astype(np.float64))
    shares = exp / exp.sum(axis=1, keepdims=True)
    assert result.loss == pytest.approx(oracle.log_loss(labels, shares, labels=range(len(CLASSES))), rel=1e-12)
    np.testing.assert_allclose(result.probabilities, shares.max(axis=1), rtol=1e-12)
    np.testing.assert_allclose(result.true_probabilities, shares[np.arange(TOTAL), labels], rtol=1e-12)
    assert (result.confusion == oracle.confusion_matrix(labels, predictions)).all()


@pytest.mark.parametrize("size", [1, 7, 53, 64])
def test_batches_and_their_order_change_nothing(size: int) -> None:
    whole = evaluate(answer, batches(TOTAL), CLASSES)
    order = np.random.Generator(np.random.PCG64(size)).permutation(TOTAL)
    other = evaluate(answer, batches(size, order=order), CLASSES)
    assert json.dumps(other.to_json()) == json.dumps(whole.to_json())
    assert other.indices.tolist() == list(range(TOTAL))
    for name in ("predictions", "probabilities", "true_probabilities", "ranks", "losses"):
        assert (getattr(other, name) == getattr(whole, name)).all()


def test_unread_pictures_are_wrong_and_listed() -> None:
    clean = evaluate(answer, batches(8), CLASSES)
    right = int(np.flatnonzero(clean.predictions == clean.labels)[0])
    wrong = int(np.flatnonzero(clean.predictions != clean.labels)[0])
    result = evaluate(answer, batches(8, bad=(wrong, right)), CLASSES)
    assert result.total == clean.total
    assert result.correct == clean.correct - 1
    assert [picture.index for picture in result.bad] == sorted([right, wrong])
    assert result.predictions[[right, wrong]].tolist() == [-1, -1]
    assert result.true_probabilities[[right, wrong]].tolist() == [0.0, 0.0]
    assert result.confusion.sum() == TOTAL - 2
    assert sum(row.support for row in result.per_class) == TOTAL
    assert {right, wrong}.isdisjoint(result.best(TOTAL) + result.worst(TOTAL))
    assert result.to_json()["bad"][0]["code"] == "V302"
    row = list(result.rows(lambda index: f"p{index}.jpg"))[right]
    assert (row["name"], row["prediction"], row["correct"], row["error"]) == (f"p{right}.jpg", "", False, "V302")


def test_an_unread_picture_may_give_any_logits() -> None:
    batch = EvalBatch(
        np.array([4, 9]),
        np.zeros((2, 1, 2, 2), np.float32),
        np.array([1, 1]),
        (BadPicture(9, "x", PictureError("V302", "truncated")),),
    )
    result = evaluate(lambda images: np.array([[0.0, 1.0], [np.nan, np.inf]]), [batch], ["a", "b"])
    assert (result.top1, result.top5) == (0.5, 0.5)
    assert result.loss is not None
    assert np.isfinite(result.loss)


def test_nothing_readable_is_zero_right_without_a_loss() -> None:
    bad = BadPicture(0, "x", PictureError("V302", "truncated"))
    batch = EvalBatch(np.array([0]), np.zeros((1, 1, 2, 2), np.float32), np.array([0]), (bad,))
    result = evaluate(lambda images: np.zeros((1, 2)), [batch], ["a", "b"])
    assert (result.top1, result.top5, result.loss, result.macro_f1, result.confusions) == (0.0, 0.0, None, 0.0, ())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_broken_numbers_name_the_picture(value: float) -> None:
    def broken(images: NDArray[np.float32]) -> NDArray[np.float32]:
        out = answer(images).copy()
        out[(images[:, 0, 0, 0] == truth()[0][20, 0]), 3] = value
        return out

    with pytest.raises(NumbersBroke, match="logits of picture 20 ") as caught:
        evaluate(broken, batches(8), CLASSES)
    assert caught.value.code == "V811"


def test_no_picture_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        evaluate(answer, [], CLASSES)
    assert caught.value.code == "V401"


def test_a_picture_that_comes_twice_is_our_bug() -> None:
    with pytest.raises(AssertionError, match="came twice"):
        evaluate(answer, [*batches(8), *batches(TOTAL)], CLASSES)


def test_the_models_own_array_is_not_written_to() -> None:
    kept = np.array([[1.0, 2.0], [3.0, 4.0]])
    bad = BadPicture(1, "x", PictureError("V302", "truncated"))
    batch = EvalBatch(np.array([0, 1]), np.zeros((2, 1, 2, 2), np.float32), np.array([0, 1]), (bad,))
    evaluate(lambda images: kept, [batch], ["a", "b"])
    assert kept.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_progress_counts_pictures() -> None:
    seen: list[int] = []
    evaluate(answer, batches(20), CLASSES, progress=seen.append)
    assert seen == [20, 40, 53]


def test_best_and_worst_are_the_ends_of_the_confidence() -> None:
    result = evaluate(answer, batches(8), CLASSES)
    right = result.predictions == result.labels
    assert result.true_probabilities[result.best(1)[0]] == result.true_probabilities[right].max()
    assert result.true_probabilities[result.worst(1)[0]] == result.true_probabilities[~right].min()
    assert len(result.best(TOTAL)) + len(result.worst(TOTAL)) == TOTAL
    assert result.best(3) == result.best(TOTAL)[:3]


def test_confusions_are_the_wrong_cells() -> None:
    result = evaluate(answer, batches(8), CLASSES)
    counts = [item.count for item in result.confusions]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == TOTAL - result.correct
    assert all(result.confusion[item.label, item.prediction] == item.count for item in result.confusions)


def test_json_and_rows_are_plain_and_complete() -> None:
    result: Evaluation = evaluate(answer, batches(8), CLASSES)
    summary = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert summary["correct"] == sum(row["correct"] for row in summary["classes"]) == result.correct
    assert summary["confusion"] == result.confusion.tolist()
    low, high = summary["top1_interval"]
    assert low < summary["top1"] < high
    rows = list(result.rows(lambda index: f"p{index}"))
    assert all(tuple(row) == ROW_FIELDS for row in rows)
    assert sum(bool(row["correct"]) for row in rows) == result.correct
    assert [row["index"] for row in rows] == list(range(TOTAL))


def test_works_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import vitrail.evaluation.evaluate; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "True\n"
