"""Pictures that lie in files, as training sees them: read and cropped one by one, then augmented as a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrail.data.augment import after_crop, augmented_batch
from vitrail.data.augment.crops import box_draws, box_of
from vitrail.data.batches import BadPicture
from vitrail.data.configs import Augment, Data, RandomResizedCrop
from vitrail.data.sources import Source
from vitrail.errors import DataError, PictureError
from vitrail.pictures.decode import from_array
from vitrail.pictures.part import Parts
from vitrail.pictures.policy import Policy
from vitrail.pictures.resize import resize
from vitrail.randomness import words

Pixels = NDArray[np.uint8]
Drawn = list[list[float]]
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

    def batch(self, indices: NDArray[np.int64], epoch: int) -> tuple[NDArray[np.int64], Pixels, tuple[BadPicture, ...]]:
        """Those of the pictures that can be read, by `data.on_bad`: their indices, their pixels (B, H, W, C) as the
        network will see them, and the bad ones. DataError V406 where none can be read."""
        bad: list[BadPicture] = []
        drawn = box_draws(seed=self.seed, epoch=epoch, indices=indices) if self._crops else [[]] * len(indices)
        pixels = np.empty((len(indices), *self.policy.size, self.policy.channels), np.uint8)
        read: list[int] = []
        for index, own in zip(indices.tolist(), drawn, strict=True):
            if (found := self._readable(index, own, epoch, bad)) is not None:
                pixels[len(read)] = found[1]
                read.append(found[0])
        if not read:
            raise unreadable(bad, len(indices), self.source.place)
        indices, pixels = np.array(read, np.int64), pixels[: len(read)]
        augmented = after_crop if self._crops else augmented_batch
        return indices, augmented(pixels, self.augment, seed=self.seed, epoch=epoch, indices=indices), tuple(bad)

    @property
    def _crops(self) -> bool:
        return isinstance(self.augment.crop, RandomResizedCrop)

    def _readable(self, index: int, drawn: Drawn, epoch: int, bad: list[BadPicture]) -> tuple[int, Pixels] | None:
        """Picture `index` or, where it is bad and `data.on_bad` says so, one drawn in its place, or None."""
        try:
            return index, self._one(index, drawn)
        except PictureError as error:
            if self.data.on_bad == "error":
                raise
            bad.append(BadPicture(index, self.source.title(index), error))
        return self._another(index, epoch, bad) if self.data.on_bad == "replace" else None

    def _another(self, index: int, epoch: int, bad: list[BadPicture]) -> tuple[int, Pixels] | None:
        others = self.source.training
        draws = words(self.seed, "replace", epoch, np.array([index]), REPLACEMENTS)[0] % np.uint64(len(others))
        for candidate in others[draws.astype(np.int64)]:
            try:
                (drawn,) = box_draws(seed=self.seed, epoch=epoch, indices=np.array([candidate]))
                return int(candidate), self._one(int(candidate), drawn)
            except PictureError as error:
                bad.append(BadPicture(int(candidate), self.source.title(int(candidate)), error))
        return None

    def _one(self, index: int, drawn: Drawn) -> Pixels:
        crop = self.augment.crop
        if not isinstance(crop, RandomResizedCrop):
            return self.policy.pixels(self.source.read(index))
        return resize(self._cut(index, crop, drawn), self.policy.size, crop.interpolation)

    def _cut(self, index: int, crop: RandomResizedCrop, drawn: Drawn) -> Pixels:
        channels = self.policy.channels
        stored = self.source.picture(index) if self.data.decode == "fast" else None
        if stored is None or isinstance(stored, np.ndarray):
            picture = from_array(self.source.read(index), channels=channels)
            top, left, height, width = box_of((picture.shape[0], picture.shape[1]), crop, drawn)
            return picture[top : top + height, left : left + width]
        return self.parts.read(
            index,
            stored,
            lambda size: box_of(size, crop, drawn),
            size=self.policy.size,
            channels=channels,
            name=self.source.title(index),
        )


def unreadable(bad: list[BadPicture], of: int, place: str) -> DataError:
    """V406 with the names of the first ten."""
    return DataError(
        "V406",
        f"{len(bad)} of {of:,} pictures in `{place}` cannot be read",
        evidence=[f"{one.name}: {one.error.what} ({one.error.code})" for one in bad[:10]]
        + ([f"and {len(bad) - 10} more"] if len(bad) > 10 else []),
        hint="repair or remove them, or give data.on_bad=skip with a data.bad_limit that they keep",
    )
