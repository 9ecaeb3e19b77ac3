"""Where pictures come from and what training does to them, as plain values without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vitrail.pictures.policy import Interpolation

SourceName = Literal[
    "auto", "folder", "imagenet", "table", "flowers102", "arrays", "cifar", "digits",
    "shards", "parquet", "huggingface",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Data:
    """The source of pictures and how batches are made of it."""

    source: SourceName = "auto"  # `auto` looks at what lies under root
    root: str | None = None
    val: str | None = None  # another place for the held-out pictures
    held_out: Literal["val", "test"] = "val"  # which part is held out where a source has both
    holdout: float = 0.2  # part of each class held out when the source has no validation split
    batch: int = 128  # of all devices together
    batch_per_device: int | None = None  # in its place; settled to `batch`, times the devices there are
    sampling: Literal["shuffle", "balanced"] = "shuffle"  # balanced: each class equally often, whatever its size
    repeats: int = 1  # each picture so many times in a row, each time drawn anew; an epoch is as long as before
    # How training reads a crop of a JPEG. exact: from the whole picture. fast: no more of it than needed, at a smaller
    # scale where the crop is at least twice as large as the network's picture, else the same pixels.
    decode: Literal["exact", "fast"] = "fast"
    workers: int = 2  # threads that prepare batches; any number gives the same batches
    # The order of the classes: None is that of the source, or of the bytes of their names.
    class_order: Literal["bytes", "natural"] | None = None
    classes: tuple[str, ...] | str | None = None  # names in their order, a text file of them, or `imagenet1k`
    rename: Mapping[str, str] | None = None  # name in the data -> name of the class
    follow_outside: bool = False  # whether links may lead out of the folder
    # A picture that cannot be read ends training, is left out of its batch, or gives its place to another one.
    on_bad: Literal["error", "skip", "replace"] = "error"
    bad_limit: float = 0.001  # part of the pictures to train on that may be bad; at least one may
    patience: float = 120.0  # seconds without a batch after which the file that is read is named; 0: for ever


@dataclass(frozen=True, kw_only=True)
class RandomResizedCrop:
    """A crop of random area and aspect, resized to the policy's size (arXiv 1409.4842)."""

    name: Literal["random_resized"] = "random_resized"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (0.75, 1.3333333333333333)
    # `random`: bilinear or bicubic, drawn for each picture; what `auto` turns or shears then draws its own
    interpolation: Literal[Interpolation, "random"] = "bicubic"


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
class Jitter:
    """Colours moved at random: factors of 1 - x to 1 + x in an order that is drawn; hue by up to x of a circle."""

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    probability: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Erase:
    """Boxes erased after normalising (arXiv 1708.04896). const: 0, the mean; rand: one normal colour; pixel: noise."""

    probability: float = 0.25
    area: tuple[float, float] = (0.02, 0.3333333333333333)  # of the picture, by the number of boxes
    aspect: tuple[float, float] = (0.3, 3.3333333333333335)  # height by width
    mode: Literal["const", "rand", "pixel"] = "const"
    count: int = 1  # 1 to so many boxes


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What is drawn anew for each picture and epoch, in the order of these lines."""

    crop: Crop = NoCrop()
    flip: float = 0.0  # probability of a horizontal flip
    vertical_flip: float = 0.0
    auto: str | None = None  # such as rand-m9-mstd0.5-inc1, augmix-m3-w3, original, 3a: timm's grammar
    jitter: Jitter | None = None  # beside `auto` only where that is 3-Augment
    erase: Erase | None = None


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Mixup (arXiv 1710.09412) and cutmix (arXiv 1905.04899); picture i mixes with B - 1 - i.

    mode: one draw for the whole `batch`, one for each `pair` or one for each picture (`elem`).
    """

    mixup: float = 0.0  # alpha of its Beta; 0: off
    cutmix: float = 0.0
    cutmix_minmax: tuple[float, float] | None = None  # sides of the box as parts of the picture's, in place of a Beta
    probability: float = 1.0
    switch: float = 0.5  # probability of cutmix where both are on
    mode: Literal["batch", "pair", "elem"] = "batch"
    off_epoch: int | None = None  # no mixing from this epoch on
