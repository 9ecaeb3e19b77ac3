"""One pass over labelled pictures, and everything that is reported of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitrail.data.batches import BadPicture, EvalBatch
from vitrail.errors import DataError, NumbersBroke
from vitrail.evaluation import metrics
from vitrail.evaluation.intervals import wilson
from vitrail.evaluation.metrics import BAD, Floats, Ints

Found = tuple[list[tuple[NDArray[Any], ...]], list[BadPicture]]  # columns of each batch, and the unread pictures
ROW_FIELDS = ("index", "name", "label", "prediction", "probability", "correct", "error")
LARGEST_DENSE = 1000  # classes: a confusion matrix beyond this is millions of zeros in a JSON file


@dataclass(frozen=True)
class ClassRow:
    """How one class fared. interval: where its recall lies with 95 % confidence."""

    name: str
    support: int
    predicted: int
    correct: int
    precision: float
    recall: float
    f1: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Confusion:
    """How often a class was taken for another."""

    label: int
    prediction: int
    count: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Every picture once, ordered by its index, with what follows from it. All arrays are (N,).

    predictions: -1 for a picture that could not be read. probabilities: of the predicted class; true_probabilities:
    of the true one; both 0 for unread pictures. ranks: how many classes came before the true one, -1 for unread.
    losses: cross-entropy in nats, NaN for unread. bad: the unread pictures; they count as wrong everywhere.
    """

    classes: tuple[str, ...]
    bad: tuple[BadPicture, ...]
    indices: Ints
    labels: Ints
    predictions: Ints
    probabilities: Floats
    true_probabilities: Floats
    ranks: Ints
    losses: Floats

    @property
    def total(self) -> int:
        """Pictures asked, the unread ones included."""
        return len(self.labels)

    @cached_property
    def correct(self) -> int:
        """Pictures answered right."""
        return int((self.predictions == self.labels).sum())

    @property
    def top1(self) -> float:
        """Share of right answers."""
        return self.correct / self.total

    @cached_property
    def top5(self) -> float:
        """Share of pictures whose true class is among the five best (of all, where there are fewer than five)."""
        return int(((self.ranks != BAD) & (self.ranks < 5)).sum()) / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true top-1 lies with 95 % confidence (Wilson)."""
        return wilson(self.correct, self.total)

    @cached_property
    def loss(self) -> float | None:
        """Mean cross-entropy of the pictures that could be read, in nats; None when none could."""
        read = self.predictions != BAD
        return float(self.losses[read].mean()) if read.any() else None

    @cached_property
    def scores(self) -> metrics.ClassScores:
        """Counts and shares of all classes, as arrays."""
        return metrics.class_scores(self.labels, self.predictions, len(self.classes))

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that occur."""
        return metrics.macro_f1(self.scores)

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that occur among the labels."""
        return metrics.balanced_accuracy(self.scores)

    @cached_property
    def per_class(self) -> tuple[ClassRow, ...]:
        """One row per class, in class order."""
        columns = (column.tolist() for column in self.scores)
        return tuple(
            ClassRow(name, support, predicted, correct, precision, recall, f1, wilson(correct, support))
            for name, support, predicted, correct, precision, recall, f1 in zip(self.classes, *columns, strict=True)
        )

    @cached_property
    def confusion(self) -> Ints:
        """Counts (K, K): row = true class, column = predicted class; unread pictures are in no column."""
        return metrics.confusion_matrix(self.labels, self.predictions, len(self.classes))

    @cached_property
    def confusions(self) -> tuple[Confusion, ...]:
        """The wrong answers by pair of classes, most frequent first; ties in class order."""
        wrong = (self.predictions != BAD) & (self.predictions != self.labels)
        pairs = np.stack([self.labels[wrong], self.predictions[wrong]], axis=1)
        cells, counts = np.unique(pairs, axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return tuple(Confusion(int(cells[i, 0]), int(cells[i, 1]), int(counts[i])) for i in order)

    def best(self, count: int) -> list[int]:
        """Positions of the right answers given with most confidence; ties by index."""
        right = np.flatnonzero(self.predictions == self.labels)
        order = np.argsort(-self.true_probabilities[right], kind="stable")
        return [int(i) for i in right[order[:count]]]

    def worst(self, count: int) -> list[int]:
        """Positions of the wrong answers that gave the true class least; ties by index. Not the unread pictures."""
        wrong = np.flatnonzero((self.predictions != self.labels) & (self.predictions != BAD))
        order = np.argsort(self.true_probabilities[wrong], kind="stable")
        return [int(i) for i in wrong[order[:count]]]

    def rows(self, name: Callable[[int], str]) -> Iterator[dict[str, object]]:
        """One row per picture with the keys `ROW_FIELDS`, for predictions.csv. name: what picture `index` is called.

        An unread picture has an empty prediction and probability, and its error code.
        """
        codes = {picture.index: picture.error.code for picture in self.bad}
        columns = (self.indices, self.labels, self.predictions, self.probabilities)
        for index, label, prediction, probability in zip(*(column.tolist() for column in columns), strict=True):
            read = prediction != BAD
            yield {
                "index": index,
                "name": name(index),
                "label": self.classes[label],
                "prediction": self.classes[prediction] if read else "",
                "probability": probability if read else "",
                "correct": prediction == label,
                "error": "" if read else codes[index],
            }

    def to_json(self) -> dict[str, Any]:
        """The summary, the classes, the confusion matrix (None beyond 1000 classes) and the unread pictures."""
        return {
            "pictures": self.total,
            "correct": self.correct,
            "top1": self.top1,
            "top1_interval": list(self.interval),
            "confidence": 0.95,
            "top5": self.top5,
            "macro_f1": self.macro_f1,
            "balanced_accuracy": self.balanced_accuracy,
            "loss": self.loss,
            "classes": [{**vars(row), "interval": list(row.interval)} for row in self.per_class],
            "confusion": self.confusion.tolist() if len(self.classes) <= LARGEST_DENSE else None,
            "bad": [
                {"index": picture.index, "name": picture.name, "code": picture.error.code, "what": picture.error.what}
                for picture in self.bad
            ],
        }


class Running(NamedTuple):
    """How good the answers are so far. step: batches asked; correct, top5: pictures whose label came first, or among
    the first five."""

    step: int
    pictures: int
    correct: int
    top5: int

    def line(self) -> str:
        """As the accuracy script of the model zoo's TorchScript package prints it.

        >>> Running(50000, 50000, 42816, 48882).line()
        'top1 is 85.632, top5 is 97.764, step is 50000'
        """
        top1, top5 = 100 * self.correct / self.pictures, 100 * self.top5 / self.pictures
        return f"top1 is {top1}, top5 is {top5}, step is {self.step}"


def evaluate(
    logits: Callable[[NDArray[np.float32]], NDArray[Any]],
    batches: Iterable[EvalBatch],
    classes: Sequence[str],
    *,
    progress: Callable[[int], None] | None = None,
    running: Callable[[Running], None] | None = None,
    gather: Callable[[Found], list[Found]] = lambda found: [found],
) -> Evaluation:
    """Ask `logits` about every picture of `batches`, once each.

    logits: (B, C, H, W) float32 -> (B, K) with K = len(classes); whatever its precision, all arithmetic here is
    float64. progress is called after each batch with the number of pictures done, running with how good the answers
    were so far, here. gather: what was found here -> what was found everywhere, where several processes share the
    pictures. NumbersBroke V811 at the first logit that is NaN or Inf; DataError V401 when there is no picture.

    >>> batch = EvalBatch(np.array([0, 1]), np.zeros((2, 3, 4, 4), np.float32), np.array([0, 1]))
    >>> result = evaluate(lambda images: np.array([[2.0, 0.0]] * len(images)), [batch], ["cat", "dog"])
    >>> result.top1, result.per_class[1].recall
    (0.5, 0.0)
    """
    parts: list[tuple[NDArray[Any], ...]] = []
    bad: list[BadPicture] = []
    done = Running(0, 0, 0, 0)
    for batch in batches:
        asked = _ask(logits, batch, len(classes))
        parts.append((batch.indices, *asked))
        bad.extend(batch.bad)
        done = _with(done, asked[4])
        if progress is not None:
            progress(done.pictures)
        if running is not None:
            running(done)
    found = gather((parts, bad))
    parts, bad = ([one for here in found for one in here[0]], [one for here in found for one in here[1]])
    if not parts:
        raise DataError("V401", "no pictures to evaluate", hint="give data whose evaluated split holds pictures")
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    assert (np.diff(columns[0][order]) > 0).all(), "a picture came twice"
    bad.sort(key=lambda picture: picture.index)
    return Evaluation(tuple(classes), tuple(bad), *(column[order] for column in columns))


def _with(before: Running, ranks: Ints) -> Running:
    """One batch more, with how many classes came before the true one of each picture."""
    correct, top5 = int((ranks == 0).sum()), int(((ranks != BAD) & (ranks < 5)).sum())
    return Running(before.step + 1, before.pictures + len(ranks), before.correct + correct, before.top5 + top5)


def _ask(
    logits: Callable[[NDArray[np.float32]], NDArray[Any]], batch: EvalBatch, classes: int
) -> tuple[Ints, Ints, Floats, Floats, Ints, Floats]:
    """Of one batch: labels, predictions, probabilities, true_probabilities, ranks, losses."""
    count = len(batch.indices)
    assert batch.images.shape[0] == batch.labels.shape[0] == count
    assert ((batch.labels >= 0) & (batch.labels < classes)).all(), "a label outside the classes"
    unread = np.isin(batch.indices, [picture.index for picture in batch.bad])
    assert unread.sum() == len(batch.bad), "a bad picture that is not in its batch"
    answers = np.array(logits(batch.images), dtype=np.float64)  # a copy: it is written to below
    assert answers.shape == (count, classes), f"logits {answers.shape}, expected {(count, classes)}"
    answers[unread] = 0.0
    _check_finite(answers, batch.indices)

    labels = batch.labels.astype(np.int64)
    log_probabilities = metrics.log_softmax(answers)
    true = log_probabilities[np.arange(count), labels]
    return (
        labels,
        np.where(unread, BAD, answers.argmax(axis=1)).astype(np.int64),
        np.where(unread, 0.0, np.exp(log_probabilities.max(axis=1))),
        np.where(unread, 0.0, np.exp(true)),
        np.where(unread, BAD, metrics.ranks(answers, labels)).astype(np.int64),
        np.where(unread, np.nan, 0.0 - true),
    )


def _check_finite(answers: Floats, indices: NDArray[np.int64]) -> None:
    broken = indices[~np.isfinite(answers).all(axis=1)]
    if len(broken):
        raise NumbersBroke(
            "V811",
            f"the logits of picture {broken[0]} are NaN or Inf",
            evidence=[f"{len(broken)} of {len(indices)} pictures of its batch"],
            hint="the weights are broken, or overflow in their number type: take an earlier checkpoint",
        )
