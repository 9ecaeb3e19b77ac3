"""A graph in 8 bits inside a budget: as many layers in int8 as a paired test on labelled pictures allows."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrail.bundle.formats import MAX_DROP, Form
from vitrail.engines.quantize import Layer, Quantizer, layers
from vitrail.engines.table import Written
from vitrail.errors import OutsideBound, UsageError
from vitrail.evaluation.answers import WINDOW, CheckPicture, in_windows
from vitrail.evaluation.intervals import paired_loss, wilson
from vitrail.formats.stored import Tensors
from vitrail.pictures.predict import Model
from vitrail.proof.pictures import generated

LOG = logging.getLogger("vitrail")
DOUBT = 0.05  # probability that a graph beyond the budget is taken for one inside, over all that are tried
RANKED = 32  # calibration pictures on which layers are ranked


@dataclass(frozen=True)
class Budget:
    """What an export in int8 may use and lose.

    calibration: pictures by which ranges are found; the generated ones where there are none. judged: labelled pictures,
    others than those, on which both models are asked; none where the weights are random, which no accuracy is claimed
    of. max_drop: points of top-1.
    """

    calibration: Sequence[CheckPicture] = ()
    judged: Sequence[CheckPicture] = ()
    max_drop: float = MAX_DROP

    def check(self) -> None:
        """UsageError V007 where even two equal models could not be shown to lie inside it with so few pictures."""
        least = 100 * paired_loss(0, 0, len(self.judged), _confidence(1))[1]
        if not self.max_drop >= least:
            raise UsageError(
                "V007",
                f"no loss below {least:.2f} points can be shown with {len(self.judged):,} labelled pictures, "
                f"--max-drop is {self.max_drop:g}",
                hint="give more pictures with --data, or a larger --max-drop",
            )


@dataclass(frozen=True)
class Drop:
    """What a graph in 8 bits names rightly, beside its source.

    lost, won: pictures that the source alone and the graph alone names rightly. low, high: bounds of the loss in
    points, of that confidence.
    """

    source: int
    candidate: int
    pictures: int
    lost: int
    won: int
    low: float
    high: float
    confidence: float

    @classmethod
    def of(cls, ours: NDArray[np.bool_], theirs: NDArray[np.bool_], confidence: float) -> Drop:
        """From which pictures each side named rightly."""
        lost, won, total = int((ours & ~theirs).sum()), int((~ours & theirs).sum()), len(ours)
        low, high = paired_loss(lost, won, total, confidence)
        return cls(int(ours.sum()), int(theirs.sum()), total, lost, won, 100 * low, 100 * high, confidence)

    def line(self) -> str:
        """The accuracy of both, and the loss."""
        shares = []
        for right in (self.source, self.candidate):
            low, high = wilson(right, self.pictures)
            shares.append(f"{100 * right / self.pictures:.2f} % ({100 * low:.2f} to {100 * high:.2f})")
        loss = 100 * (self.source - self.candidate) / self.pictures
        return (
            f"top-1 {shares[0]} in float, {shares[1]} in int8 over {self.pictures:,} pictures; "
            f"loss {loss:.2f} points, bounds {self.low:.2f} to {self.high:.2f} at {100 * self.confidence:.1f} %"
        )


@dataclass(frozen=True)
class Quantized:
    """What was written in 8 bits, and what it costs.

    in_int8, products: layers of the graph that compute in 8 bits, and all. left: those that the search put back to
    float, by their weights. drop: None where no accuracy is claimed. size, float_size: bytes of the graph's files.
    calibration: pictures. tries: graphs that were judged.
    """

    in_int8: int
    products: int
    left: tuple[str, ...]
    max_drop: float
    drop: Drop | None
    tries: int
    calibration: int
    size: int
    float_size: int

    def lines(self) -> list[str]:
        """The figures for a reader."""
        back = f"; put back to float: {', '.join(self.left)}" if self.left else ""
        judged = (
            "the weights are random: no accuracy is claimed"
            if self.drop is None
            else f"{self.drop.line()}; budget {self.max_drop:g}"
        )
        size, plain = self.size / 1e6, self.float_size / 1e6
        return [
            f"int8: {self.in_int8} of {self.products} layers{back}",
            judged,
            f"{size:.2f} MB, {plain:.2f} MB in float32; {self.calibration} calibration pictures, {self.tries} tried",
        ]

    def to_json(self) -> dict[str, object]:
        """The same in plain values."""
        drop = None if self.drop is None else dict(vars(self.drop))
        return {**vars(self), "left": list(self.left), "drop": drop}


@dataclass(frozen=True)
class Task:
    """An ONNX graph of a network in float32, the network's tensors, and what the graph is to become."""

    data: bytes
    tensors: Tensors
    format: str
    form: Form


def quantize(
    source: Model, task: Task, budget: Budget, *, opened: Callable[[Written], Model]
) -> tuple[Written, Quantized]:
    """The graph in 8 bits, with the fewest layers put back to float that keep its loss inside the budget.

    All layers are tried first; then the ones that cost most are put back, ever twice as many, until the budget holds,
    and the least of them is found by halving. opened: makes of what was written a model, on the engine that will run
    it. OutsideBound V801 with the figures of every try where none holds, NumbersBroke as `prove`.
    """
    search = _Search(source, task, budget, opened)
    if not budget.judged:
        return search.result(search.written(0), None, 0)
    count = fewest(len(search.layers), search.holds)
    if count is None:
        raise OutsideBound(
            "V801",
            f"no graph in int8 was shown to lose at most {budget.max_drop:g} points of top-1",
            evidence=search.told,
            hint="nothing was written; give more pictures with --data, a larger --max-drop, or take --precision bf16",
        )
    written, drop = search.kept[count]
    return search.result(written, drop, count)


def fewest(count: int, holds: Callable[[int], bool]) -> int | None:
    """The smallest number below `count` at which `holds`, where it holds from some number on; None where nowhere.

    >>> asked = []
    >>> fewest(40, lambda number: asked.append(number) or number >= 5), asked
    (5, [0, 1, 2, 4, 8, 6, 5])
    """
    failed, number = -1, 0
    while count and not holds(number):
        if number == count - 1:
            return None
        failed, number = number, min(max(1, 2 * number), count - 1)
    while number - failed > 1:
        middle = (failed + number) // 2
        failed, number = (failed, middle) if holds(middle) else (middle, number)
    return number if count else None


def right(model: Model, pictures: Sequence[CheckPicture]) -> NDArray[np.bool_]:
    """Which of the labelled pictures a model names rightly, (N,)."""
    parts = in_windows([(model, (WINDOW,))], pictures)
    answers = np.concatenate([part.logits[0][0].argmax(axis=1) for part in parts])
    return np.asarray(answers == np.array([picture.label for picture in pictures]))


def _confidence(number: int) -> float:
    """Of the two-sided bounds in the test of the graph that is tried as `number`, from 1. The doubts of all tests,
    one-sided, sum to `DOUBT` at most, however many there are: the inverse squares sum to pi^2 / 6.
    """
    return 1 - 2 * DOUBT * 6 / (math.pi * number) ** 2


class _Search:
    """The graphs that were tried, and what came of them."""

    def __init__(self, source: Model, task: Task, budget: Budget, opened: Callable[[Written], Model]) -> None:
        self._source = source
        self._task = task
        self._budget = budget
        self._opened = opened
        given = budget.calibration or [CheckPicture.of(pixels) for pixels in generated(source.policy.channels)]
        self._pictures = _Batches(source, task.form, given)
        self._quantizer = Quantizer(task.data, task.format, task.form, self._pictures)
        arrays = {name: tensor.array() for name, tensor in task.tensors.items()}
        self.layers = layers(task.data, arrays)
        self.kept: dict[int, tuple[Written, Drop]] = {}
        self.told: list[str] = []

    @cached_property
    def _ranked(self) -> list[Layer]:
        LOG.info("all layers in int8 are beyond the budget: they are ranked by what each does to the logits")
        return self._quantizer.ranked(self.layers, RANKED)

    @cached_property
    def _ours(self) -> NDArray[np.bool_]:
        return right(self._source, self._budget.judged)

    def _left(self, count: int) -> list[Layer]:
        return self._ranked[:count] if count else []

    def written(self, count: int) -> Written:
        """The graph with the `count` layers in float that cost most."""
        return self._quantizer.written(self.layers, self._left(count))

    def holds(self, count: int) -> bool:
        """Whether that graph's loss is inside the budget, by a test of its own doubt."""
        written = self.written(count)
        theirs = right(self._opened(written), self._budget.judged)
        drop = Drop.of(self._ours, theirs, _confidence(len(self.told) + 1))
        self.told.append(f"{len(self.layers) - count} of {len(self.layers)} layers in int8: {drop.line()}")
        LOG.info("%s", self.told[-1])
        if drop.high > self._budget.max_drop:
            return False
        self.kept[count] = (written, drop)
        return True

    def result(self, written: Written, drop: Drop | None, count: int) -> tuple[Written, Quantized]:
        """What was written with its figures."""
        in_int8 = written.facts.get("int8", 0)
        assert isinstance(in_int8, int)
        return written, Quantized(
            in_int8=in_int8,
            products=len(self.layers),
            left=tuple(layer.weight for layer in self._left(count)),
            max_drop=self._budget.max_drop,
            drop=drop,
            tries=len(self.told),
            calibration=self._pictures.total,
            size=sum(map(len, written.files.values())),
            float_size=len(self._task.data),
        )


class _Batches(Sequence[NDArray[np.generic]]):
    """Pictures as a graph takes them, one at a time or as many as it must have; normalised when their turn comes."""

    def __init__(self, source: Model, form: Form, pictures: Sequence[CheckPicture]) -> None:
        self._pixels = np.stack([source.policy.pixels(picture.read()) for picture in pictures])
        self._policy = source.policy
        self._form = form
        self._size = form.batch or 1
        self.total = len(pictures)

    def __len__(self) -> int:
        return -(-self.total // self._size)

    def __getitem__(self, place: Any) -> Any:
        if not 0 <= place < len(self):
            raise IndexError(place)
        rows = np.arange(place * self._size, (place + 1) * self._size) % self.total
        pixels = self._pixels[rows]
        return pixels if self._form.takes == "pixels" else self._policy.normalise(pixels)
