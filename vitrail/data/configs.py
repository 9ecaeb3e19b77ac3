"""Where pictures come from and what training does to them, as plain values without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitrail.pictures.policy import Interpolation

SourceName = Literal["auto", "folder", "cifar", "digits"]


@dataclass(frozen=True, kw_only=True)
class Data:
    """The source of pictures and how batches are made of it."""

    source: SourceName = "auto"  # `auto` looks at what lies under root
    root: str | None = None
    val: str | None = None  # another place for the held-out pictures
    holdout: float = 0.2  # part of each class held out when the source has no validation split
    batch: int = 128  # of all devices together
    # How training reads a crop of a JPEG. exact: from the whole picture. fast: no more of it than needed, at a smaller
    # scale where the crop is at least twice as large as the network's picture, else the same pixels.
    decode: Literal["fast", "exact"] = "fast"
    workers: int = 2  # threads that prepare batches; any number gives the same batches
    # A picture that cannot be read ends training, is left out of its batch, or gives its place to another one.
    on_bad: Literal["error", "skip", "replace"] = "error"
    bad_limit: float = 0.001  # part of the pictures to train on that may be bad; at least one may


@dataclass(frozen=True, kw_only=True)
class RandomResizedCrop:
    """A crop of random area and aspect, resized to the policy's size (arXiv 1409.4842)."""

    name: Literal["random_resized"] = "random_resized"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (0.75, 1.3333333333333333)
    interpolation: Interpolation = "bicubic"


@dataclass(frozen=True, kw_only=True)
class PadCrop:
    """The policy's picture, padded by black, then cropped back at random."""

    name: Literal["pad"] = "pad"
    padding: int = 4


@dataclass(frozen=True, kw_only=True)
class NoCrop:
    """The policy's picture as evaluation sees it."""

    name: Literal["none"] = "none"


Crop = RandomResizedCrop | PadCrop | NoCrop


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What is drawn anew for each picture and epoch."""

    crop: Crop = NoCrop()
    flip: float = 0.0  # probability of a horizontal flip


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Mixup (arXiv 1710.09412) and cutmix (arXiv 1905.04899), one draw a batch; picture i mixes with B - 1 - i."""

    mixup: float = 0.0  # alpha of its Beta; 0: off
    cutmix: float = 0.0
    probability: float = 1.0
    switch: float = 0.5  # probability of cutmix where both are on
    off_epoch: int | None = None  # no mixing from this epoch on
