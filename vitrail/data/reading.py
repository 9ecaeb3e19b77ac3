"""Pictures that lie in files, as training sees them: read and cropped one by one, then augmented as a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrail.data.augment.crops import box_in, interpolations, shapes
from vitrail.data.augment.draws import Draws
from vitrail.data.augment.pictures import augmented_batch, cropped_augmented
from vitrail.data.batches import BadPicture
from vitrail.data.configs import Augment, Data, RandomResizedCrop
from vitrail.data.order import Samples
from vitrail.data.sources import Source
from vitrail.data.threads import working_on
from vitrail.errors import DataError, PictureError
from vitrail.pictures.decode import from_array
from vitrail.pictures.part import Parts
from vitrail.pictures.policy import Interpolation, Policy
from vitrail.pictures.resize import resize
from vitrail.randomness import words

Pixels = NDArray[np.uint8]
Drawn = tuple[NDArray[np.float64], Interpolation]  # of one crop: its row of `shapes`, and how it is resized
REPLACEMENTS = 16  # pictures drawn in the place of a bad one before its row is left out


@dataclass(frozen=True)
class Reading:
    """Reads batches of a source; safe to use from several threads."""

    source: Source
    policy: Policy
    augment: Augment
    data: Data
    seed: int
    parts: Parts

    def batch(self, samples: Samples, epoch: int) -> tuple[Samples, Pixels, tuple[BadPicture, ...]]:
        """Those of the samples that can be read, by `data.on_bad`, their pixels (B, H, W, C) as the network will see
        them, and the bad ones. DataError V406 where none can be read."""
        bad: list[BadPicture] = []
        drawn = self._drawn(samples.keys, epoch)
        pixels = np.empty((len(samples.indices), *self.policy.size, self.policy.channels), np.uint8)
        read: list[tuple[int, int]] = []
        for index, key, own in zip(samples.indices.tolist(), samples.keys.tolist(), drawn, strict=True):
            if (found := self._readable(index, key, own, epoch, bad)) is not None:
                pixels[len(read)] = found[2]
                read.append(found[:2])
        if not read:
            raise unreadable(bad, len(samples.indices), self.source.place)
        indices, keys = np.array(read, np.int64).T
        draws, pixels = Draws(self.seed, epoch, keys), pixels[: len(read)]
        augmented = cropped_augmented if self._crop else augmented_batch
        return Samples(indices, keys), augmented(pixels, self.augment, self.policy, draws), tuple(bad)

    @property
    def _crop(self) -> RandomResizedCrop | None:
        return self.augment.crop if isinstance(self.augment.crop, RandomResizedCrop) else None

    def _drawn(self, keys: NDArray[np.int64], epoch: int) -> Sequence[Drawn | None]:
        """What is drawn for the crop of each sample; None where training sees the policy's pixels."""
        if self._crop is None:
            return [None] * len(keys)
        draws = Draws(self.seed, epoch, keys)
        return list(zip(shapes(self._crop, draws), interpolations(self._crop, draws), strict=True))

    def _readable(
        self, index: int, key: int, drawn: Drawn | None, epoch: int, bad: list[BadPicture]
    ) -> tuple[int, int, Pixels] | None:
        """Picture `index` or, where it is bad and `data.on_bad` says so, one drawn in its place, or None; its key."""
        try:
            return index, key, self._one(index, drawn)
        except PictureError as error:
            if self.data.on_bad == "error":
                raise
            bad.append(BadPicture(index, self.source.title(index), error))
        return self._another(index, key, epoch, bad) if self.data.on_bad == "replace" else None

    def _another(self, index: int, key: int, epoch: int, bad: list[BadPicture]) -> tuple[int, int, Pixels] | None:
        others = self.source.training
        draws = words(self.seed, "replace", epoch, np.array([key]), REPLACEMENTS)[0] % np.uint64(len(others))
        for candidate in others[draws.astype(np.int64)].tolist():
            its_key = key - index + candidate
            (drawn,) = self._drawn(np.array([its_key]), epoch)
            try:
                return candidate, its_key, self._one(candidate, drawn)
            except PictureError as error:
                bad.append(BadPicture(candidate, self.source.title(candidate), error))
        return None

    def _one(self, index: int, drawn: Drawn | None) -> Pixels:
        with working_on(self.source.title(index)):
            if drawn is None:
                return self.policy.pixels(self.source.read(index))
            shape, interpolation = drawn
            return resize(self._cut(index, shape), self.policy.size, interpolation)

    def _cut(self, index: int, shape: NDArray[np.float64]) -> Pixels:
        crop, channels = self._crop, self.policy.channels
        assert crop is not None
        stored = self.source.picture(index) if self.data.decode == "fast" else None
        if stored is None or isinstance(stored, np.ndarray):
            picture = from_array(self.source.read(index), channels=channels)
            top, left, height, width = box_in((picture.shape[0], picture.shape[1]), crop, shape)
            return picture[top : top + height, left : left + width]
        return self.parts.read(
            index,
            stored,
            lambda size: box_in(size, crop, shape),
            size=self.policy.size,
            channels=channels,
            name=self.source.title(index),
        )


_SKIP = "data.on_bad=skip with a data.bad_limit that they keep"


def unreadable(bad: Sequence[BadPicture], of: int, place: str, *, way: str = _SKIP) -> DataError:
    """V406 with the names of the first ten. way: the option that leaves them out."""
    return DataError(
        "V406",
        f"{len(bad)} of {of:,} pictures in `{place}` cannot be read",
        evidence=[str(one) for one in bad[:10]] + ([f"and {len(bad) - 10} more"] if len(bad) > 10 else []),
        hint=f"repair or remove them, or give {way}",
    )
