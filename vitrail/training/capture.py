"""One broken step kept whole, in one safetensors file: what `vitrail replay` needs to repeat it anywhere.

weights/NAME              every tensor of the network before the step, which is also after it: nothing was updated
batch/images ...          the pictures as the loader gave them, before mixing, with their labels and places
class_weights             of the loss, where it has any
metadata `format`, `version`, `state` (canonical JSON), `digest`: SHA-256 over the state and the hash of each tensor
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitrail import disk
from vitrail.data.batches import TrainBatch
from vitrail.errors import RunError, WeightsError
from vitrail.formats import json, safetensors
from vitrail.formats.stored import Stored, Tensors
from vitrail.training.loss_scale import Scale

FORMAT, VERSION = "vitrail capture", "1.0"
FOLDER = "captures"
_WEIGHTS = "weights/"
_BATCH = {"batch/images": ("F32", 4), "batch/labels": ("I64", 1), "batch/indices": ("I64", 1)}  # type, axes


@dataclass(frozen=True)
class Facts:
    """What is known of the step besides its tensors. recipe: the resolved one, as YAML.

    The batch is that of one rank of `ranks`, a part of `whole` pictures. loss, norm and scale are exact; lr is that of
    the step that was not taken. environment: see `drift.environment`.
    """

    step: int  # counted from 0
    epoch: int
    seed: int
    rank: int
    ranks: int
    whole: int
    lr: float
    loss: float
    norm: float
    scale: Scale | None
    recipe: str
    classes: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Capture:
    """A step as it was kept."""

    facts: Facts
    weights: Tensors
    batch: TrainBatch
    class_weights: tuple[float, ...] | None


def write(folder: Path, capture: Capture) -> Path:
    """Keep a step in `captures/` of a run folder, whole or not at all. SystemFault V701 when the disk refuses."""
    facts, batch = capture.facts, capture.batch
    tensors = {f"{_WEIGHTS}{name}": tensor for name, tensor in capture.weights.items()}
    for name, array in zip(_BATCH, (batch.images, batch.labels, batch.indices), strict=True):
        tensors[name] = Stored.of(np.ascontiguousarray(array))
    if capture.class_weights is not None:
        tensors["class_weights"] = Stored.of(np.array(capture.class_weights, np.float64))
    plain = {**asdict(facts), **{key: getattr(facts, key).hex() for key in ("lr", "loss", "norm")}}
    state = json.dumps(plain).decode()
    metadata = {"format": FORMAT, "version": VERSION, "state": state, "digest": _digest(state, tensors)}
    disk.make_folder(folder / FOLDER)
    path = folder / FOLDER / name_of(facts.step, facts.rank)
    safetensors.write(path, tensors, metadata)
    return path


def name_of(step: int, rank: int) -> str:
    """The file of a step, which people count from 1."""
    return f"step-{step + 1:08d}-rank-{rank}.safetensors"


def kept(folder: Path, rank: int) -> list[Path]:
    """The steps of this rank that are kept in a run folder."""
    return sorted((folder / FOLDER).glob(f"step-*-rank-{rank}.safetensors"))


def _digest(state: str, tensors: Tensors) -> str:
    hashes = {name: [t.dtype, list(t.shape), disk.sha256_bytes(t.data)] for name, t in tensors.items()}
    return disk.sha256_bytes(json.dumps({"state": state, "tensors": hashes}))


def read(path: Path) -> Capture:
    """A kept step. RunError V604 when a byte of it is not as it was written, V605 for another version, V607 when it is
    no capture; SystemFault V702 when it cannot be read."""
    try:
        tensors, metadata = safetensors.read(path)
    except WeightsError as error:
        raise _damaged(path, error.what.removeprefix(f"`{path}`: ")) from error
    if metadata.get("format") != FORMAT:
        raise RunError(
            "V607", f"`{path}` is no capture of a step", hint="name a file in the `captures/` of a run folder"
        )
    version = metadata.get("version", "?")
    if version.split(".")[0] != VERSION.split(".")[0]:
        raise RunError(
            "V605",
            f"`{path}` is of capture format {version}, this vitrail reads {VERSION}",
            hint="use the vitrail that wrote it, or a newer one",
        )
    state = metadata.get("state", "")
    if metadata.get("digest") != _digest(state, tensors):
        raise _damaged(path, "its digest does not hold")
    weights = {n.removeprefix(_WEIGHTS): t for n, t in tensors.items() if n.startswith(_WEIGHTS)}
    facts = _facts(path, state)
    balanced = tensors.get("class_weights")
    return Capture(
        facts,
        weights,
        _batch(path, tensors, facts),
        None if balanced is None else tuple(balanced.array().reshape(-1).tolist()),
    )


def _facts(path: Path, state: str) -> Facts:
    try:
        values: Any = json.loads(state.encode())
        scale = values["scale"]
        numbers = {key: float.fromhex(values[key]) for key in ("lr", "loss", "norm")}
        counts = {key: values[key] for key in ("step", "epoch", "seed", "rank", "ranks", "whole")}
        facts = Facts(
            step=counts["step"],
            epoch=counts["epoch"],
            seed=counts["seed"],
            rank=counts["rank"],
            ranks=counts["ranks"],
            whole=counts["whole"],
            lr=numbers["lr"],
            loss=numbers["loss"],
            norm=numbers["norm"],
            scale=None if scale is None else Scale(scale["value"], scale["since"]),
            recipe=values["recipe"],
            classes=tuple(values["classes"]),
            environment=dict(values["environment"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"its state makes no sense ({type(error).__name__}: {error})") from error
    counted = all(type(count) is int and count >= 0 for count in counts.values()) and facts.rank < facts.ranks
    factor = 1.0 if facts.scale is None else facts.scale.value
    good_scale = isinstance(factor, float) and math.isfinite(factor) and factor >= 1.0
    if not counted or not good_scale or not all(isinstance(text, str) for text in (facts.recipe, *facts.classes)):
        raise _damaged(path, "its state makes no sense")
    return facts


def _batch(path: Path, tensors: Tensors, facts: Facts) -> TrainBatch:
    for name, (dtype, axes) in _BATCH.items():
        found = tensors.get(name)
        if found is None or found.dtype != dtype or len(found.shape) != axes:
            raise _damaged(path, f"`{name}` is missing or of another kind")
    images, labels, indices = (tensors[name].array().copy() for name in _BATCH)
    if not facts.whole >= len(images) == len(labels) == len(indices) > 0:
        raise _damaged(path, f"{len(images)} pictures with {len(labels)} labels and {len(indices)} places")
    return TrainBatch(facts.step, facts.epoch, indices, images, labels, whole=facts.whole if facts.ranks > 1 else None)


def _damaged(path: Path, what: str) -> RunError:
    return RunError(
        "V604",
        f"`{path}` is damaged: {what}",
        hint="name a file of a run's `captures/`; of a damaged one take another copy",
    )
