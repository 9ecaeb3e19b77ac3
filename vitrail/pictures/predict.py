"""From pictures to named classes: decode, prepare, run in batches, softmax."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vitrail.errors import NumbersBroke, PictureError, UsageError
from vitrail.pictures.decode import Picture, Pixels, name_of
from vitrail.pictures.policy import Policy

__all__ = [
    "Failed", "Model", "Picture", "Prediction", "Waiting", "answers", "given", "logits_of", "predict", "probabilities",
    "taken",
]  # fmt: skip

Waiting = Sequence[tuple[str, Pixels | PictureError]]  # names, with the policy's pixels (H, W, C) or what is wrong


class Model(Protocol):
    """What prediction needs of a model; a classifier, a bundle and an engine session all have it."""

    @property
    def policy(self) -> Policy: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    def logits(self, batch: Any, /) -> NDArray[np.float32]:
        """Logits (B, classes) of a normalised batch (B, C, H, W); where `takes` is `pixels`, of (B, H, W, C) also."""
        ...


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one picture, best first."""

    name: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Failed:
    """A picture that could not be read; the others are predicted all the same."""

    name: str
    error: PictureError


def predict(
    model: Model, pictures: Iterable[Picture], *, top: int = 5, batch: int = 32
) -> Iterator[Prediction | Failed]:
    """One answer per picture, in order, `batch` at a time; `pictures` is read no further than the answers asked for.

    top: how many classes an answer names (at most all). UsageError V007 when top or batch is below 1, NumbersBroke
    V811 when a logit is NaN or Inf.
    """
    if isinstance(pictures, str | bytes | os.PathLike):
        raise UsageError("V007", "pictures is one picture, a sequence of them is meant", hint='give ["a.jpg"]')
    for word, value in (("top", top), ("batch", batch)):
        if value < 1:
            raise UsageError("V007", f"{word} {value} is below 1", hint=f"give {word} 1 or more")
    return _answers(model, pictures, top, batch)


def _answers(model: Model, pictures: Iterable[Picture], top: int, batch: int) -> Iterator[Prediction | Failed]:
    policy = model.policy
    waiting: list[tuple[str, Pixels | PictureError]] = []
    for picture in pictures:
        waiting.append((_plain_name(picture), _prepared(policy, picture)))
        if len(waiting) == batch:
            yield from answers(model, waiting, top)
            waiting = []
    yield from answers(model, waiting, top)


def _plain_name(picture: Picture) -> str:
    return name_of(picture).strip("`")


def _prepared(policy: Policy, picture: Picture) -> Pixels | PictureError:
    try:
        return policy.pixels(picture)
    except PictureError as error:
        return error


def answers(model: Model, waiting: Waiting, top: int) -> Iterator[Prediction | Failed]:
    """One answer for each of `waiting`, in order, from one call of the model; none where no picture can be read.

    NumbersBroke V811 when a logit is NaN or Inf.
    """
    good = [pixels for _, pixels in waiting if not isinstance(pixels, PictureError)]
    names = [name for name, pixels in waiting if not isinstance(pixels, PictureError)]
    rows = iter(probabilities(_logits(model, np.stack(good), names))) if good else iter(())
    for name, pixels in waiting:
        if isinstance(pixels, PictureError):
            yield Failed(name, pixels)
        else:
            yield _best(name, next(rows), model.classes, top)


def _logits(model: Model, pixels: Pixels, names: list[str]) -> NDArray[np.float32]:
    logits = logits_of(model, pixels)
    assert logits.shape == (len(pixels), len(model.classes)), f"{logits.shape} logits, {len(model.classes)} classes"
    broken = ~np.isfinite(logits).all(axis=1)
    if broken.any():
        raise NumbersBroke(
            "V811",
            f"{int(broken.sum())} of {len(names)} pictures have NaN or Inf among their logits",
            evidence=[names[int(index)] for index in np.flatnonzero(broken)[:5]],
            hint="check the weights and the precision",
        )
    return logits


def taken(model: Model, pixels: Pixels) -> NDArray[np.generic]:
    """Pixels (B, H, W, C) as the model takes them: as they are where its graph normalises, else normalised."""
    return pixels if getattr(model, "takes", "images") == "pixels" else model.policy.normalise(pixels)


def logits_of(model: Model, pixels: Pixels) -> NDArray[np.float32]:
    """Logits (B, classes) of pixels (B, H, W, C)."""
    return model.logits(taken(model, pixels))


def given(batch: NDArray[np.generic], takes: str, policy: Policy) -> NDArray[np.generic]:
    """A batch as a graph takes it: normalised images (B, C, H, W), or the pixels (B, H, W, C) that they came from.

    UsageError V007 for another shape, and for images that no pixels of 8 bits give.

    >>> policy = Policy(size=(1, 1), mean=(0.5,), std=(0.5,))
    >>> given(np.full((1, 1, 1, 1), -1.0, np.float32), "pixels", policy).tolist()
    [[[[0]]]]
    """
    rows = (*policy.size, policy.channels) if batch.dtype == np.uint8 else (policy.channels, *policy.size)
    if batch.shape[1:] != rows:
        raise UsageError(
            "V007",
            f"a batch of the shape {batch.shape}, the model takes (B, {', '.join(map(str, rows))})",
            hint="prepare pictures by the model's policy",
        )
    if batch.dtype == np.uint8:
        return batch if takes == "pixels" else policy.normalise(np.asarray(batch, np.uint8))
    images = np.asarray(batch, np.float32)
    if takes == "images":
        return images
    pixels = policy.levels(images)
    if pixels is None:
        raise UsageError(
            "V007",
            "the graph takes pixels of 8 bits, and these images are of none",
            hint="give pixels (B, H, W, C), or export the model with --input images",
        )
    return pixels


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Softmax of each row of logits (B, classes), in float64.

    >>> probabilities(np.array([[0.0, 0.0]], np.float32)).tolist()
    [[0.5, 0.5]]
    """
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _best(name: str, row: NDArray[np.float64], classes: tuple[str, ...], top: int) -> Prediction:
    order = np.argsort(-row, kind="stable")[:top]  # of equals the first class, on every platform
    return Prediction(name, tuple(classes[i] for i in order), tuple(float(row[i]) for i in order))
