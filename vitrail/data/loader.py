"""Batches from a source: each a pure function of its number, prepared ahead by threads.

Pictures of one size in memory are augmented many at a time; others are decoded, cropped and resized one by one. Each
picture's bytes are the same either way.
Decoding and resizing leave Python's lock, so threads are enough; and as batches are pure functions, any number of
threads gives the same ones.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vitrail.data.augment.draws import Draws
from vitrail.data.augment.erase import erase
from vitrail.data.augment.pictures import augmented_batch, wants_originals
from vitrail.data.batches import BadPicture, EvalBatch, TrainBatch
from vitrail.data.configs import Augment, Data
from vitrail.data.order import Samples, epoch_samples
from vitrail.data.reading import Reading
from vitrail.data.sources import Source
from vitrail.data.threads import PATIENCE, Later, Threads, working_on
from vitrail.errors import DataError, PictureError
from vitrail.pictures import kernels
from vitrail.pictures.decode import from_array
from vitrail.pictures.operations import as_pixels, as_planes
from vitrail.pictures.part import Parts
from vitrail.pictures.policy import Policy

T = TypeVar("T")
VALUES_AT_ONCE = 3 << 20  # bytes of pictures in memory that are augmented together: 1,024 of 32 x 32 x 3
LARGE, SMALL = 2_000, 50_000  # so many pictures from files, or small ones in memory, are worth compiling for


@dataclass(frozen=True)
class TrainLoader:
    """Training batches of a source. The last, smaller batch of an epoch is left out.

    part: the places of each batch that are this rank's; None for all of them.
    """

    source: Source
    policy: Policy
    augment: Augment
    data: Data
    seed: int
    part: NDArray[np.int64] | None = None

    @property
    def steps_per_epoch(self) -> int:
        return len(self.source.training) // self.data.batch

    def iterate(self, start: int, stop: int) -> Iterator[TrainBatch]:
        """Batches number `start` to `stop` - 1, counted over the whole run. Closing the iterator stops the threads."""
        if self.steps_per_epoch == 0:
            raise DataError(
                "V404",
                f"data.batch {self.data.batch} is more than the {len(self.source.training)} pictures to train on",
                hint=f"give data.batch={len(self.source.training)} or less",
            )
        worth_compiling(self.source, (stop - start) * self.data.batch, self.augment)
        fixed = self._fixed_pixels()
        reading = Reading(self.source, self.policy, self.augment, self.data, self.seed, Parts(len(self.source.labels)))
        samples: dict[int, Samples] = {}

        def make(number: int) -> list[TrainBatch]:
            first, last = runs[number]
            epoch, place = divmod(first, self.steps_per_epoch)
            ordered = samples.get(epoch) or self._samples(epoch)
            if epoch not in samples:
                samples.clear()  # only the newest epoch is kept; a late reader of the old one makes it again
                samples[epoch] = ordered
            part = self._places(place, last - first)
            wanted = Samples(ordered.indices[part], ordered.keys[part])
            if self._each == 0:
                return [self._empty(step, epoch) for step in range(first, last)]
            if fixed is None:
                return [self._read(first, epoch, wanted, reading)]
            return self._augmented(first, epoch, wanted, fixed)

        runs = _runs(start, stop, self._steps_at_once(fixed), self.steps_per_epoch)
        return _flat(ahead(make, 0, len(runs), self.data.workers, self.data.patience))

    @property
    def _each(self) -> int:
        """Pictures of a batch that are this rank's."""
        return self.data.batch if self.part is None else len(self.part)

    def _places(self, place: int, steps: int) -> slice | NDArray[np.int64]:
        """Where in an epoch the pictures of so many steps from number `place` stand."""
        if self.part is None:
            return slice(place * self.data.batch, (place + steps) * self.data.batch)
        starts = np.arange(place, place + steps) * self.data.batch
        return (starts[:, None] + self.part).reshape(-1)

    def _empty(self, step: int, epoch: int) -> TrainBatch:
        none = np.empty(0, np.int64)
        return TrainBatch(step, epoch, none, np.empty((0, self.policy.channels, *self.policy.size), np.float32), none)

    def _samples(self, epoch: int) -> Samples:
        return epoch_samples(self.data, self.source.training, self.source.labels, seed=self.seed, epoch=epoch)

    def _fixed_pixels(self) -> NDArray[np.uint8] | None:
        """All pictures as augmentation wants them, where they lie in memory, their channels apart in it."""
        if self.source.memory is None:
            return None
        if wants_originals(self.augment):
            return as_pixels(as_planes(with_channels(self.source.memory, self.policy.channels)))
        return policied(self.source.memory, self.policy)

    def _steps_at_once(self, fixed: NDArray[np.uint8] | None) -> int:
        """Steps whose pictures are augmented together: small ones are worked on faster in large groups."""
        if fixed is None:
            return 1
        height, width = self.policy.size
        return max(1, VALUES_AT_ONCE // (self.data.batch * self.policy.channels * height * width))

    def _read(self, step: int, epoch: int, wanted: Samples, reading: Reading) -> TrainBatch:
        """The batch of one step, its pictures read from files."""
        read, pixels, bad = reading.batch(wanted, epoch)
        return TrainBatch(step, epoch, read.indices, self._input(pixels, read, epoch), self._labels(read), bad)

    def _augmented(self, first: int, epoch: int, samples: Samples, fixed: NDArray[np.uint8]) -> list[TrainBatch]:
        """The batches of several steps, their pictures from memory."""
        draws = Draws(self.seed, epoch, samples.keys)
        images = self._input(augmented_batch(fixed[samples.indices], self.augment, self.policy, draws), samples, epoch)
        labels, each = self._labels(samples), self._each
        parts = [slice(begin, begin + each) for begin in range(0, len(labels), each)]
        return [
            TrainBatch(step, epoch, samples.indices[part], images[part], labels[part])
            for step, part in enumerate(parts, first)
        ]

    def _input(self, pixels: NDArray[np.uint8], samples: Samples, epoch: int) -> NDArray[np.float32]:
        images = self.policy.normalise(pixels)
        if self.augment.erase is None:
            return images
        return erase(images, self.augment.erase, Draws(self.seed, epoch, samples.keys))

    def _labels(self, samples: Samples) -> NDArray[np.int64]:
        return self.source.labels[samples.indices]


def worth_compiling(source: Source, pictures: int, augment: Augment | None = None) -> None:
    """Have the pixel loops compiled, those of an augmentation too, where so many pictures are to come that it pays."""
    if pictures >= (LARGE if source.memory is None else SMALL):
        kernels.ready(augment=augment is not None and (augment.auto is not None or augment.jitter is not None))


def _runs(start: int, stop: int, length: int, per_epoch: int) -> list[tuple[int, int]]:
    """Steps `start` to `stop` - 1 cut into runs (first, after the last) of at most `length`, none across two epochs."""
    runs = []
    while start < stop:
        end = min(stop, start + length, (start // per_epoch + 1) * per_epoch)
        runs.append((start, end))
        start = end
    return runs


def _flat(runs: Generator[list[TrainBatch], None, None]) -> Iterator[TrainBatch]:
    with contextlib.closing(runs):
        for batches in runs:
            yield from batches


def with_channels(memory: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Pictures (N, h, w, c) with as many channels as the policy has."""
    if memory.shape[3] == channels:
        return memory
    return np.stack([from_array(picture, channels=channels) for picture in memory])


def policied(memory: NDArray[np.uint8], policy: Policy) -> NDArray[np.uint8]:
    """Pictures (N, h, w, c) as the policy's pixels (N, H, W, C)."""
    if memory.shape[1:] == (*policy.size, policy.channels) and policy.crop == 1.0:
        return memory
    return np.stack([policy.pixels(picture) for picture in memory])


def evaluation_batches(
    source: Source,
    indices: NDArray[np.int64],
    policy: Policy,
    *,
    batch: int,
    workers: int,
    patience: float = PATIENCE,
    rank: int = 0,
    size: int = 1,
) -> Iterator[EvalBatch]:
    """The pictures `indices` once each, in order, as evaluation sees them. patience: of `ahead`.

    Of several ranks each takes every `size`-th batch: a picture is computed in the same company as by one.
    """
    worth_compiling(source, len(indices))

    def make(turn: int) -> EvalBatch:
        number = rank + turn * size
        mine = indices[number * batch : (number + 1) * batch]
        pixels = np.zeros((len(mine), *policy.size, policy.channels), np.uint8)
        bad = []
        for row, index in enumerate(mine):
            try:
                with working_on(source.title(int(index))):
                    pixels[row] = policy.pixels(source.read(int(index)))
            except PictureError as error:
                bad.append(BadPicture(int(index), source.title(int(index)), error))
        return EvalBatch(mine, policy.normalise(pixels), source.labels[mine], tuple(bad))

    return ahead(make, 0, len(range(rank, -(-len(indices) // batch), size)), workers, patience)


def ahead(
    make: Callable[[int], T], start: int, stop: int, workers: int, patience: float = PATIENCE
) -> Generator[T, None, None]:
    """make(start) to make(stop - 1) in order, up to `workers` of them prepared ahead in threads.

    SystemFault V702 names what is being read when nothing came for `patience` seconds.
    """
    if workers == 0:
        yield from map(make, range(start, stop))
        return
    threads = Threads(workers, patience=patience)
    waiting: deque[Later[T]] = deque()
    try:
        for number in range(start, stop):
            waiting.append(threads.submit(partial(make, number)))
            if len(waiting) > workers:
                yield threads.result(waiting.popleft())
        while waiting:
            yield threads.result(waiting.popleft())
    finally:
        threads.close()


def bad_allowed(source: Source, data: Data) -> int:
    """How many pictures to train on may be bad."""
    return 0 if data.on_bad == "error" else max(1, int(data.bad_limit * len(source.training)))
