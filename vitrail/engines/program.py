"""A bare TorchScript file as a model: the program itself runs, so it is opened for those who trust its maker."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitrail.bundle.formats import MAX_BATCH, TAKES, Takes
from vitrail.class_names.numbered import numbered
from vitrail.disk import read_file, sha256_bytes, sha256_file
from vitrail.engines import trust
from vitrail.engines.graphs import TOLD, in_batches
from vitrail.engines.table import Runner
from vitrail.errors import BundleError, WeightsError
from vitrail.formats.bounds import FILE_BYTES
from vitrail.pictures.decode import Picture
from vitrail.pictures.policy import HALF, Policy
from vitrail.pictures.predict import Failed, Prediction, given, predict

if TYPE_CHECKING:
    from vitrail.engines.opened import Bundle
    from vitrail.models.classifier import Classifier

LOG = logging.getLogger("vitrail")
_SIDES = (224, 384, 256, 32, 64, 448, 512)  # of pictures, tried where nothing says which a program takes
_HINT = "write it with `vitrail export MODEL --format torchscript`, which puts into it what it takes"


@dataclass(frozen=True)
class Program:
    """A TorchScript file that is ready to answer. sha256: of the file. provenance: what is known of its weights."""

    path: Path
    sha256: str
    policy: Policy
    classes: tuple[str, ...]
    runner: Runner
    takes: Takes = "images"
    provenance: Mapping[str, object] = field(default_factory=dict)

    def logits(self, batch: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (B, K) of normalised pictures (B, C, H, W), or of pixels (B, H, W, C) of 8 bits."""
        return self.runner.logits(given(batch, self.takes, self.policy))

    def predict(self, pictures: Iterable[Picture], *, top: int = 5, batch: int = 32) -> Iterator[Prediction | Failed]:
        """The `top` best classes of each picture, in order; a picture that cannot be read gives a `Failed`."""
        return predict(self, pictures, top=top, batch=batch)


def open_program(path: Path) -> Program:
    """The program in a file, with the policy and the classes that travel in it.

    One that was made elsewhere brings none: they are those of the weights in it where these are known, else what it
    takes is tried out and a plain policy assumed; a line says which. BundleError V509 for a program that is not
    trusted, V505 for one that cannot be opened, or gives no logits.
    """
    from vitrail.engines import torchscript

    data = read_file(path, limit=FILE_BYTES)
    sha256 = sha256_bytes(data)
    trust.check(
        str(path), sha256, otherwise="take its weights without running it, if it is not frozen: `vitrail convert`"
    )
    module, about = torchscript.load(data)
    run = torchscript.Anyones(module, path, several=about.get("top") is not None)
    if about:
        try:
            policy, classes, takes, batch = told(about)
        except ValueError as error:
            raise torchscript.refused(f"what `{path.name}` says of itself is not understood: {error}", "") from error
        runner = in_batches(run, batch)
    else:
        (policy, classes), takes, runner = _found(path, run), "images", run
    origin = about.get("provenance")
    source = {key: origin[key] for key in TOLD if key in origin} if isinstance(origin, dict) else {}
    program = Program(path, sha256, policy, classes, runner, takes, {"weights": "trained", **source, "file": path.name})
    black = program.logits(np.zeros((1, *policy.size, policy.channels), np.uint8))
    if black.shape[1] != len(classes):
        raise torchscript.refused(f"it gives {black.shape[1]} logits for {len(classes)} classes", "")
    if not about and (black >= 0).all() and abs(float(black.sum()) - 1) < 1e-3:
        LOG.warning("%s: what it gives looks like probabilities; they are taken for logits all the same", path)
    if sha256_file(path) != sha256:
        raise torchscript.refused(f"`{path}` changed while it was opened", "")
    return program


class Told(NamedTuple):
    """What `export` puts into a program."""

    policy: Policy
    classes: tuple[str, ...]
    takes: Takes
    batch: int | None


def told(about: Mapping[str, Any]) -> Told:
    """The same, of what a file holds; ValueError for all else."""
    classes, takes, batch = about.get("classes"), about.get("takes"), about.get("batch")
    names = tuple(name for name in classes if isinstance(name, str)) if isinstance(classes, list) else ()
    named = len(names) > 0 and len(names) == len(classes or ())
    counted = batch is None or (type(batch) is int and 0 < batch <= MAX_BATCH)
    if not named or takes not in TAKES or not counted or not isinstance(about.get("policy"), dict):
        raise ValueError("classes, takes, batch or policy are none")
    return Told(Policy.from_json(about["policy"]), names, takes, batch)


def _found(path: Path, run: Runner) -> tuple[Policy, tuple[str, ...]]:
    """Policy and classes of a program that says nothing of itself."""
    from vitrail.engines.torchscript import refused
    from vitrail.weights import load

    try:
        loaded = load(path)
    except WeightsError as error:
        LOG.info("%s: nothing is known of its weights: %s", path, error.what)
    else:
        for line in loaded.report:
            assumed = "policy" in line and not loaded.policy_stated
            LOG.log(logging.WARNING if assumed else logging.INFO, "%s: %s", path, line)
        return loaded.classifier.policy, loaded.classifier.classes
    for side in _SIDES:
        try:
            columns = run.logits(np.zeros((1, 3, side, side), np.float32)).shape[1]
        except BundleError:
            continue
        LOG.warning(
            "%s: policy assumed, the program states none: %d x %d, bicubic, whole picture, mean 0.5, std 0.5",
            path, side, side,
        )  # fmt: skip
        return Policy(size=(side, side), mean=HALF.mean, std=HALF.std), numbered(columns)
    tried = ", ".join(map(str, _SIDES))
    raise refused(f"it takes no three-channel pictures of {tried} pixels a side", _HINT)


if TYPE_CHECKING:
    Answering = Classifier | Bundle | Program  # what `vitrail.open` gives
