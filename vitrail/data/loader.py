"""Batches from a source: each a pure function of its number, prepared ahead by threads.

Pictures of one size in memory are augmented many at a time; others are decoded, cropped and resized one by one. Each
picture's bytes are the same either way.
Decoding and resizing leave Python's lock, so threads are enough; and as batches are pure functions, any number of
threads gives the same ones.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vitrail.data.augment.draws import Draws
from vitrail.data.augment.erase import erase
from vitrail.data.augment.pictures import augmented, augmented_batch, wants_originals
from vitrail.data.batches import BadPicture, EvalBatch, TrainBatch
from vitrail.data.configs import Augment, Data
from vitrail.data.order import Samples, epoch_samples
from vitrail.data.sources import Source
from vitrail.errors import DataError, PictureError
from vitrail.machine import keep_freed_memory
from vitrail.pictures.decode import from_array
from vitrail.pictures.operations import as_pixels, as_planes
from vitrail.pictures.policy import Policy
from vitrail.randomness import words

T = TypeVar("T")
VALUES_AT_ONCE = 3 << 20  # bytes of pictures in memory that are augmented together: 1,024 of 32 x 32 x 3
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
        keep_freed_memory()
        fixed = self._fixed_pixels()
        samples: dict[int, Samples] = {}

        def make(number: int) -> list[TrainBatch]:
            first, last = runs[number]
            epoch, place = divmod(first, self.steps_per_epoch)
            ordered = samples.get(epoch) or self._samples(epoch)
            if epoch not in samples:
                samples.clear()  # only the newest epoch is kept; a late reader of the old one makes it again
                samples[epoch] = ordered
            part = slice(place * self.data.batch, (place + last - first) * self.data.batch)
            return self._make(first, epoch, Samples(ordered.indices[part], ordered.keys[part]), fixed)

        runs = _runs(start, stop, self._steps_at_once(fixed), self.steps_per_epoch)
        return _flat(ahead(make, 0, len(runs), self.data.workers))

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

    def _make(self, first: int, epoch: int, samples: Samples, fixed: NDArray[np.uint8] | None) -> list[TrainBatch]:
        bad: list[BadPicture] = []
        if fixed is not None:
            pixels = augmented_batch(
                fixed[samples.indices], self.augment, self.policy, Draws(self.seed, epoch, samples.keys)
            )
        else:
            samples, pixels = self._readable(samples, epoch, bad)
        images = self.policy.normalise(pixels)
        if self.augment.erase is not None:
            images = erase(images, self.augment.erase, Draws(self.seed, epoch, samples.keys))
        indices, labels, each = samples.indices, self.source.labels[samples.indices], self.data.batch
        if fixed is None:
            return [TrainBatch(first, epoch, indices, images, labels, tuple(bad))]
        parts = [slice(begin, begin + each) for begin in range(0, len(indices), each)]
        return [
            TrainBatch(step, epoch, indices[part], images[part], labels[part]) for step, part in enumerate(parts, first)
        ]

    def _readable(self, samples: Samples, epoch: int, bad: list[BadPicture]) -> tuple[Samples, NDArray[np.uint8]]:
        """The pictures of a batch that can be read, by `data.on_bad`, and which they are; `bad` takes the others."""
        wanted = zip(samples.indices.tolist(), samples.keys.tolist(), strict=True)
        rows = [row for index, key in wanted if (row := self._row(index, key, epoch, bad)) is not None]
        if not rows:
            raise unreadable(bad, len(samples.indices), self.source.place)
        indices, keys, pixels = zip(*rows, strict=True)
        return Samples(np.array(indices, np.int64), np.array(keys, np.int64)), np.stack(pixels)

    def _row(
        self, index: int, key: int, epoch: int, bad: list[BadPicture]
    ) -> tuple[int, int, NDArray[np.uint8]] | None:
        """Picture `index` or, where it is bad and `data.on_bad` says so, one drawn in its place, or None; its key."""
        others = self.source.training
        draws = words(self.seed, "replace", epoch, np.array([key]), REPLACEMENTS)[0] % np.uint64(len(others))
        for candidate in (index, *others[draws.astype(np.int64)].tolist()):
            its_key = key - index + candidate
            try:
                return candidate, its_key, self._one(candidate, its_key, epoch)
            except PictureError as error:
                if self.data.on_bad == "error":
                    raise
                bad.append(BadPicture(candidate, self.source.title(candidate), error))
                if self.data.on_bad == "skip":
                    return None
        return None

    def _one(self, index: int, key: int, epoch: int) -> NDArray[np.uint8]:
        picture = from_array(self.source.read(index), channels=self.policy.channels)
        return augmented(picture, self.augment, self.policy, Draws(self.seed, epoch, np.array([key])))


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
    source: Source, indices: NDArray[np.int64], policy: Policy, *, batch: int, workers: int
) -> Iterator[EvalBatch]:
    """The pictures `indices` once each, in order, as evaluation sees them."""

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


def ahead(make: Callable[[int], T], start: int, stop: int, workers: int) -> Generator[T, None, None]:
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


def unreadable(bad: Sequence[BadPicture], of: int, place: str) -> DataError:
    """V406 with the names of the first ten."""
    return DataError(
        "V406",
        f"{len(bad)} of {of:,} pictures in `{place}` cannot be read",
        evidence=[f"{one.name}: {one.error.what} ({one.error.code})" for one in bad[:10]]
        + ([f"and {len(bad) - 10} more"] if len(bad) > 10 else []),
        hint="repair or remove them, or give data.on_bad=skip with a data.bad_limit that they keep",
    )
