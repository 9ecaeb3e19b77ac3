"""Batches from a source: each a pure function of its number, prepared ahead by threads.

Pictures of one size in memory are augmented a batch at a time; others are decoded, cropped and resized one by one.
Decoding and resizing leave Python's lock, so threads are enough; and as batches are pure functions, any number of
threads gives the same ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vitrail.data.augment import augmented_batch, wants_originals
from vitrail.data.batches import BadPicture, EvalBatch, TrainBatch
from vitrail.data.configs import Augment, Data
from vitrail.data.order import epoch_order
from vitrail.data.reading import Reading
from vitrail.data.sources import Source
from vitrail.errors import DataError, PictureError
from vitrail.pictures import kernels
from vitrail.pictures.part import Parts
from vitrail.pictures.policy import Policy

T = TypeVar("T")
LARGE, SMALL = 2_000, 50_000  # so many pictures from files, or small ones in memory, are worth compiling for


@dataclass(frozen=True)
class TrainLoader:
    """Training batches of a source. The last, smaller batch of an epoch is left out."""

    source: Source
    policy: Policy
    augment: Augment
    data: Data
    seed: int

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
        fixed = self._fixed_pixels()
        worth_compiling(self.source, (stop - start) * self.data.batch)
        parts = Parts(len(self.source.labels))
        reading = Reading(self.source, self.policy, self.augment, self.data, self.seed, parts)
        order: dict[int, NDArray[np.int64]] = {}

        def make(step: int) -> TrainBatch:
            epoch, place = divmod(step, self.steps_per_epoch)
            if epoch not in order:
                order.clear()  # only the newest epoch is kept; a late reader of the old one makes it again
                order[epoch] = epoch_order(self.source.training, seed=self.seed, epoch=epoch)
            permuted = order.get(epoch)
            if permuted is None:
                permuted = epoch_order(self.source.training, seed=self.seed, epoch=epoch)
            indices = permuted[place * self.data.batch : (place + 1) * self.data.batch]
            return self._make(step, epoch, indices, fixed, reading)

        return ahead(make, start, stop, self.data.workers)

    def _fixed_pixels(self) -> NDArray[np.uint8] | None:
        """All pictures as the policy wants them, where they lie in memory and no crop needs the originals."""
        if self.source.memory is None or wants_originals(self.augment):
            return None
        return policied(self.source.memory, self.policy)

    def _make(
        self, step: int, epoch: int, indices: NDArray[np.int64], fixed: NDArray[np.uint8] | None, reading: Reading
    ) -> TrainBatch:
        bad: tuple[BadPicture, ...] = ()
        if fixed is not None:
            pixels = augmented_batch(fixed[indices], self.augment, seed=self.seed, epoch=epoch, indices=indices)
        else:
            indices, pixels, bad = reading.batch(indices, epoch)
        images = self.policy.normalise(pixels)
        return TrainBatch(step, epoch, indices, images, self.source.labels[indices], bad)


def worth_compiling(source: Source, pictures: int) -> None:
    """Have the pixel loops compiled where so many pictures of the source are to come that it pays."""
    if pictures >= (LARGE if source.memory is None else SMALL):
        kernels.ready()


def policied(memory: NDArray[np.uint8], policy: Policy) -> NDArray[np.uint8]:
    """Pictures (N, h, w, c) as the policy's pixels (N, H, W, C)."""
    if memory.shape[1:] == (*policy.size, policy.channels) and policy.crop == 1.0:
        return memory
    return np.stack([policy.pixels(picture) for picture in memory])


def evaluation_batches(
    source: Source, indices: NDArray[np.int64], policy: Policy, *, batch: int, workers: int
) -> Iterator[EvalBatch]:
    """The pictures `indices` once each, in order, as evaluation sees them."""
    worth_compiling(source, len(indices))

    def make(number: int) -> EvalBatch:
        mine = indices[number * batch : (number + 1) * batch]
        pixels = np.zeros((len(mine), *policy.size, policy.channels), np.uint8)
        bad = []
        for row, index in enumerate(mine):
            try:
                pixels[row] = policy.pixels(source.read(int(index)))
            except PictureError as error:
                bad.append(BadPicture(int(index), source.title(int(index)), error))
        return EvalBatch(mine, policy.normalise(pixels), source.labels[mine], tuple(bad))

    return ahead(make, 0, -(-len(indices) // batch), workers)


def ahead(make: Callable[[int], T], start: int, stop: int, workers: int) -> Iterator[T]:
    """make(start) to make(stop - 1) in order, up to `workers` of them prepared ahead in threads."""
    if workers == 0:
        yield from map(make, range(start, stop))
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="loader")
    waiting: deque[Future[T]] = deque()
    try:
        for number in range(start, stop):
            waiting.append(pool.submit(make, number))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def find_bad(source: Source, *, workers: int) -> list[BadPicture]:
    """Every picture of the source that cannot be read, each decoded whole once."""

    def look(index: int) -> BadPicture | None:
        try:
            source.read(index)
        except PictureError as error:
            return BadPicture(index, source.title(index), error)
        return None

    if source.memory is not None:
        return []
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="scan") as pool:
        return [bad for bad in pool.map(look, range(len(source.labels))) if bad is not None]


def bad_allowed(source: Source, data: Data) -> int:
    """How many pictures to train on may be bad."""
    return 0 if data.on_bad == "error" else max(1, int(data.bad_limit * len(source.training)))
