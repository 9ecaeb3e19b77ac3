"""Known mistakes between a picture and the network: what an export may do in place of what its source does.

They are made from the source's policy, so an export need not say anything of itself to be asked about them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrail.pictures.decode import Picture, Pixels, load, name_of
from vitrail.pictures.limits import MAX_PIXELS, beyond
from vitrail.pictures.policy import CIFAR10, CIFAR100, FLOWERS102, HALF, IMAGENET, INTERPOLATIONS, MODES, Policy
from vitrail.pictures.resize import resize

if TYPE_CHECKING:
    from torch import nn

Prepare = Callable[[Picture], NDArray[np.float32]]
Round = Callable[[float], int]

CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
STATISTICS = {
    "ImageNet's": IMAGENET, "0.5": HALF, "CIFAR-10's": CIFAR10, "CIFAR-100's": CIFAR100, "CLIP's": CLIP,
    "those of the Oxford flowers": FLOWERS102,
}  # fmt: skip
CROPS = (1.0, 0.95, 0.9, 0.875)


@dataclass(frozen=True)
class Fault:
    """One mistake. kind: which of the known ones. words: what follows `the export answers as if`.

    prepare: the input (C, H, W) of a picture, None where it is the source's. change: holds while the network is asked,
    None where it is as it was.
    """

    kind: str
    words: str
    prepare: Prepare | None = None
    change: Callable[[nn.Module], AbstractContextManager[None]] | None = None


def prepared(policy: Policy, decode: Callable[[Picture], Pixels] | None = None) -> Prepare:
    """The input that a policy makes of a picture, decoded by its own rule or by another."""

    def prepare(picture: Picture) -> NDArray[np.float32]:
        pixels = policy.pixels(picture if decode is None else decode(picture))
        return _only(policy.normalise(pixels[None]))

    return prepare


def _only(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    (picture,) = batch
    return np.asarray(picture)


def declared(ours: Policy, theirs: Policy) -> Iterator[Fault]:
    """The policy that the export itself names, where it is another one for the same network."""
    a, b = ours.to_json(), theirs.to_json()
    other = [name for name in a if a[name] != b[name]]
    if other and (ours.size, ours.channels) == (theirs.size, theirs.channels):
        kind = "mean and std" if {*other} <= {"mean", "std"} else other[0] if len(other) == 1 else "policy"
        said = " and ".join(f"{name} were {b[name]} in place of {a[name]}" for name in other)
        yield Fault(kind, said, prepared(Policy.from_json(b)))


def of_pixels(policy: Policy) -> list[Fault]:
    """Every known mistake between decoded pixels and the network."""
    makers = (_statistics, _channels, _modes, _roundings)
    return [fault for make in makers for fault in make(policy)]


def _statistics(policy: Policy) -> Iterator[Fault]:
    kind, count, ours = "mean and std", policy.channels, (policy.mean, policy.std)
    for name, (mean, std) in STATISTICS.items():
        if count == 3 or len({*mean, *std}) == 1:
            theirs = mean[:1] * count if count != 3 else mean, std[:1] * count if count != 3 else std
            yield Fault(kind, f"mean and std were {name}", _normalised(policy, *theirs))
            yield Fault(kind, f"mean were {name}", _normalised(policy, theirs[0], ours[1]))
            yield Fault(kind, f"std were {name}", _normalised(policy, ours[0], theirs[1]))
    yield Fault(kind, "mean and std were swapped", _normalised(policy, policy.std, policy.mean))
    yield Fault(kind, "pixels were divided by 255 and no more", _normalised(policy, (0.0,) * count, (1.0,) * count))
    yield Fault(kind, "pixels were not normalised", _normalised(policy, (0.0,) * count, (1 / 255,) * count))
    small = tuple(value / 255 for value in policy.mean), tuple(value / 255 for value in policy.std)
    yield Fault(kind, "pixels were not divided by 255 before mean and std", _normalised(policy, *small))


def _normalised(policy: Policy, mean: tuple[float, ...], std: tuple[float, ...]) -> Prepare:
    """The same pixels, normalised otherwise: what fills the bars of mode `pad` stays as it is."""
    if not all(value > 0 for value in std):
        return prepared(policy)
    other = replace(policy, mean=mean, std=std)
    return lambda picture: _only(other.normalise(policy.pixels(picture)[None]))


def _channels(policy: Policy) -> Iterator[Fault]:
    if policy.channels != 3:
        return
    plain = prepared(policy)
    for order in list(permutations(range(3)))[1:]:
        yield from _reordered(policy, plain, list(order))


def _reordered(policy: Policy, plain: Prepare, order: list[int]) -> Iterator[Fault]:
    words = f"the channels were {''.join('RGB'[place] for place in order)}"

    def after(picture: Picture) -> NDArray[np.float32]:  # other than before only where there are bars
        return _only(policy.normalise(np.ascontiguousarray(policy.pixels(picture)[None][..., order])))

    yield Fault("channel order", words, prepared(policy, lambda picture: load(picture)[:, :, order]))
    if policy.mode == "pad":
        yield Fault("channel order", words, after)
    if len({*policy.mean}) > 1 or len({*policy.std}) > 1:
        yield Fault("channel order", f"{words}, mean and std with them", lambda picture: plain(picture)[order])


def _modes(policy: Policy) -> Iterator[Fault]:
    for mode in MODES:
        if mode != policy.mode:
            words = f"mode were {mode} in place of {policy.mode}"
            yield Fault("mode", words, prepared(replace(policy, mode=mode)))
            if policy.crop != 1:
                yield Fault("mode", f"{words}, with crop 1", prepared(replace(policy, mode=mode, crop=1.0)))
    for crop in CROPS:
        if crop != policy.crop:
            yield Fault("crop", f"crop were {crop} in place of {policy.crop}", prepared(replace(policy, crop=crop)))
    for name in INTERPOLATIONS:
        if name != policy.interpolation:
            words = f"interpolation were {name} in place of {policy.interpolation}"
            yield Fault("interpolation", words, prepared(replace(policy, interpolation=name)))


def _odd(value: float) -> int:
    """To the nearest, a half to the odd one: the other way than the rule's."""
    if value % 1 != 0.5:
        return round(value)
    return math.floor(value) if math.floor(value) % 2 else math.ceil(value)


ROUNDINGS: dict[str, Round] = {"to the nearest": round, "up": math.ceil, "down": math.floor}


def _roundings(policy: Policy) -> Iterator[Fault]:
    kind, geometry = "crop rounding", Geometry(policy)
    yield Fault(kind, "the crop's corner were rounded the other way at a half", replace(geometry, corner=_odd))
    for words, rounded in ROUNDINGS.items():
        if words != "to the nearest":
            yield Fault(kind, f"the crop's corner were rounded {words}", replace(geometry, corner=rounded))
        if words != "down":
            yield Fault(kind, f"size / crop were rounded {words}", replace(geometry, short=rounded))
        yield Fault(kind, f"the resized long side were rounded {words}", replace(geometry, long=rounded))


@dataclass(frozen=True)
class Geometry:
    """A policy's resizing and cropping, with each of its roundings free to be another one.

    >>> policy = Policy(size=(8, 8), crop=0.9, mean=HALF.mean, std=HALF.std)
    >>> picture = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    >>> bool((Geometry(policy)(picture) == prepared(policy)(picture)).all())
    True
    """

    policy: Policy
    short: Round = math.floor  # size / crop
    long: Round | None = None  # of the other side; the policy's own else
    corner: Round = round

    def __call__(self, picture: Picture) -> NDArray[np.float32]:
        policy = self.policy
        pixels = load(picture, channels=policy.channels)
        resized = self.resized(pixels.shape[0], pixels.shape[1])
        if max(math.prod(resized), pixels.shape[0] * resized[1]) > MAX_PIXELS:
            raise beyond(name_of(picture), f"{resized[1]} x {resized[0]} pixels, the limit is {MAX_PIXELS}")
        kept = resize(pixels, resized, policy.interpolation)
        framed = np.empty((*policy.size, policy.channels), np.uint8)
        framed[:] = policy.bars
        cuts, places = zip(*(self._place(*sides) for sides in zip(resized, policy.size, strict=True)), strict=True)
        framed[places] = kept[cuts]
        return _only(policy.normalise(framed[None]))

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Size before the crop."""
        tall, wide = (max(self.short(side / self.policy.crop), 1) for side in self.policy.size)
        if self.policy.mode == "squash":
            return tall, wide
        if self.policy.mode == "crop" and tall == wide:
            long = self.long or int
            if height <= width:
                return tall, max(long(tall * width / height), 1)
            return max(long(wide * height / width), 1), wide
        ratio = (max if self.policy.mode == "pad" else min)(height / tall, width / wide)
        long = self.long or round
        return max(long(height / ratio), 1), max(long(width / ratio), 1)

    def _place(self, resized: int, side: int) -> tuple[slice, slice]:
        """Of one axis: what is cut out of the resized picture, and where it goes."""
        if resized > side:
            start = self.corner((resized - side) / 2)
            return slice(start, start + side), slice(0, side)
        start = (side - resized) // 2
        return slice(0, resized), slice(start, start + resized)
