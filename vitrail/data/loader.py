"""Batches from a source: each a pure function of its number, prepared ahead by threads.

Pictures of one size in memory are augmented a batch at a time; others are decoded, cropped and resized one by one.
Decoding and resizing leave Python's lock, so threads are enough; and as batches are pure functions, any number of
threads gives the same ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vitrail.data.augment.draws import Draws
from vitrail.data.augment.erase import erase
from vitrail.data.augment.pictures import augmented, augmented_batch, wants_originals
from vitrail.data.batches import BadPicture, EvalBatch, TrainBatch
from vitrail.data.configs import Augment, Data
from vitrail.data.order import epoch_order
from vitrail.data.sources import Source
from vitrail.data.threads import PATIENCE, Later, Threads, working_on
from vitrail.errors import DataError, PictureError
from vitrail.pictures.decode import from_array
from vitrail.pictures.policy import Policy
from vitrail.randomness import words

T = TypeVar("T")
REPLACEMENTS = 16  # pictures drawn in the place of a bad one before its row is left out


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
            return self._make(step, epoch, indices, fixed)

        return ahead(make, start, stop, self.data.workers, self.data.patience)

    def _fixed_pixels(self) -> NDArray[np.uint8] | None:
        """All pictures as the policy wants them, where they lie in memory and no crop needs the originals."""
        if self.source.memory is None:
            return None
        if wants_originals(self.augment):
            return with_channels(self.source.memory, self.policy.channels)
        return policied(self.source.memory, self.policy)

    def _make(self, step: int, epoch: int, indices: NDArray[np.int64], fixed: NDArray[np.uint8] | None) -> TrainBatch:
        bad: list[BadPicture] = []
        if fixed is not None:
            pixels = augmented_batch(fixed[indices], self.augment, self.policy, Draws(self.seed, epoch, indices))
        else:
            indices, pixels = self._readable(indices, epoch, bad)
        images = self.policy.normalise(pixels)
        if self.augment.erase is not None:
            images = erase(images, self.augment.erase, Draws(self.seed, epoch, indices))
        return TrainBatch(step, epoch, indices, images, self.source.labels[indices], tuple(bad))

    def _readable(
        self, indices: NDArray[np.int64], epoch: int, bad: list[BadPicture]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """The pictures of a batch that can be read, by `data.on_bad`, and which they are; `bad` takes the others."""
        rows = [row for index in indices if (row := self._row(int(index), epoch, bad)) is not None]
        if not rows:
            raise unreadable(bad, len(indices), self.source.place)
        return np.array([index for index, _ in rows], np.int64), np.stack([pixels for _, pixels in rows])

    def _row(self, index: int, epoch: int, bad: list[BadPicture]) -> tuple[int, NDArray[np.uint8]] | None:
        """Picture `index` or, where it is bad and `data.on_bad` says so, one drawn in its place, or None."""
        others = self.source.training
        draws = words(self.seed, "replace", epoch, np.array([index]), REPLACEMENTS)[0] % np.uint64(len(others))
        for candidate in (index, *others[draws.astype(np.int64)].tolist()):
            try:
                with working_on(self.source.title(candidate)):
                    return candidate, self._one(candidate, epoch)
            except PictureError as error:
                if self.data.on_bad == "error":
                    raise
                bad.append(BadPicture(candidate, self.source.title(candidate), error))
                if self.data.on_bad == "skip":
                    return None
        return None

    def _one(self, index: int, epoch: int) -> NDArray[np.uint8]:
        picture = from_array(self.source.read(index), channels=self.policy.channels)
        return augmented(picture, self.augment, self.policy, Draws(self.seed, epoch, np.array([index])))


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
) -> Iterator[EvalBatch]:
    """The pictures `indices` once each, in order, as evaluation sees them. patience: of `ahead`."""

    def make(number: int) -> EvalBatch:
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

    return ahead(make, 0, -(-len(indices) // batch), workers, patience)


def ahead(make: Callable[[int], T], start: int, stop: int, workers: int, patience: float = PATIENCE) -> Iterator[T]:
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


def unreadable(bad: Sequence[BadPicture], of: int, place: str) -> DataError:
    """V406 with the names of the first ten."""
    return DataError(
        "V406",
        f"{len(bad)} of {of:,} pictures in `{place}` cannot be read",
        evidence=[f"{one.name}: {one.error.what} ({one.error.code})" for one in bad[:10]]
        + ([f"and {len(bad) - 10} more"] if len(bad) > 10 else []),
        hint="repair or remove them, or give data.on_bad=skip with a data.bad_limit that they keep",
    )
