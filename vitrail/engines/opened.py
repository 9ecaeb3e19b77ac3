"""A bundle, opened on an engine: the same words as a torch classifier, without torch unless that is the engine."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from vitrail.bundle.formats import Takes, check_batch
from vitrail.bundle.manifest import UNKNOWN, WEIGHTS, Manifest, weights_hash
from vitrail.bundle.read import Opened, check
from vitrail.bundle.write import tools
from vitrail.engines import graphs
from vitrail.engines.choice import Way, asked, choices
from vitrail.engines.table import ENGINES, Runner, installed, need_engine
from vitrail.errors import BundleError, UsageError, VitrailError
from vitrail.formats import safetensors
from vitrail.formats.stored import Tensors
from vitrail.machine import cores, fastest, remembered
from vitrail.pictures.decode import Picture
from vitrail.pictures.policy import Policy
from vitrail.pictures.predict import Failed, Prediction, given, predict

if TYPE_CHECKING:
    from vitrail.engines.torch import Described
    from vitrail.models.classifier import Classifier

LOG = logging.getLogger("vitrail")


@dataclass(frozen=True)
class Bundle:
    """A bundle that is ready to answer.

    engine: what runs it, a key of `ENGINES`. graph: the name of the bundle's graph, None where the weights run.
    """

    folder: Path
    manifest: Manifest
    engine: str
    graph: str | None
    runner: Runner

    @property
    def policy(self) -> Policy:
        """What is done to a picture before the network."""
        return self.manifest.policy

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.manifest.classes

    @property
    def provenance(self) -> dict[str, object]:
        """Where the weights come from, in plain values."""
        return provenance(self.manifest)

    @property
    def takes(self) -> Takes:
        """What the graph takes: normalised `images`, or `pixels` of 8 bits."""
        return _takes(self.manifest, self.graph)

    def logits(self, batch: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits (B, K) of normalised pictures (B, C, H, W), or of pixels (B, H, W, C) of 8 bits."""
        return self.runner.logits(given(batch, self.takes, self.policy))

    def predict(self, pictures: Iterable[Picture], *, top: int = 5, batch: int = 32) -> Iterator[Prediction | Failed]:
        """The `top` best classes of each picture, in order; a picture that cannot be read gives a `Failed`."""
        return predict(self, pictures, top=top, batch=batch)


def provenance(manifest: Manifest) -> dict[str, object]:
    """The manifest's provenance, with what it says elsewhere about the weights."""
    licences = {part: text for part, text in asdict(manifest.licences).items() if text != UNKNOWN}
    stated = {"licences": licences} if licences else {}
    return {**manifest.provenance, "weights": manifest.weights, "variant": manifest.variant, **stated}


def open_bundle(
    folder: Path,
    *,
    engine: str = "auto",
    threads: int | None = None,
    device: str = "cpu",
    once: bool = False,
    batch: int = 1,
) -> Bundle:
    """The bundle in `folder` on an engine. engine: a key of `ENGINES`, where it should be with a precision
    (`openvino-bf16`), or the name of a graph. Without a precision the most exact one that the bundle holds is taken. Of
    engines that can run it as exactly `auto` takes the fastest on this machine, found once by a short probe.
    device: of torch, to which `auto` goes where an accelerator is named; the other engines run on the processor.
    once: a few answers are wanted: `auto` probes nothing and takes what is ready soonest. batch: how many pictures come
    at a time as a rule: OpenVINO compiles the graph for so many; with one for each core or more, `auto` asks the
    engines for one a core.

    BundleError V501 to V505 for a bundle that cannot be trusted or run, V509 for a program; UsageError V003 naming the
    pip command when the engine's package is absent, V007 for an unknown engine or device, a device for another engine
    than torch, or threads for one of torch's, whose number is the process's own.
    """
    check_batch(batch)
    with check(folder, meanwhile=partial(_load_package, engine)) as opened:
        wanted = asked(engine, opened.manifest)
        elsewhere = device not in ("auto", "cpu")
        if elsewhere and wanted.engine not in ("auto", "torch"):
            raise UsageError(
                "V007", f"{engine} runs on the processor here, not on `{device}`", hint="leave one of the two out"
            )
        ways = choices(opened, wanted._replace(engine="torch") if elsewhere else wanted)
        ways = ways[:1] if once else ways
        for way in ways:
            need_engine(way.engine)
        if threads is not None:
            ways = [way for way in ways if ENGINES[way.engine].package != "torch"]
        if not ways:
            raise UsageError(
                "V007", "torch takes no threads of one bundle's own", hint=f"torch.set_num_threads({threads})"
            )
        ready = partial(_runner, opened, threads=threads, device=device, once=once)
        way = ways[0] if len(ways) == 1 else _soonest(opened, ways, ready, threads, batch)
        return Bundle(folder, opened.manifest, way.engine, way.graph, ready(way, batch=batch))


def _load_package(engine: str, opened: Opened) -> None:
    """Import what will run the bundle; what is wrong with the wish is said when its files have been found whole."""
    with suppress(VitrailError):
        way = choices(opened, asked(engine, opened.manifest))[0]
        if installed(way.engine):
            importlib.import_module(ENGINES[way.engine].package)


def bundle_classifier(folder: Path) -> Classifier:
    """The weights of a bundle as a torch classifier; BundleError V504 when it holds none."""
    need_engine("torch")
    from vitrail.engines.torch import classifier

    with check(folder) as opened:
        if WEIGHTS not in opened.files:
            raise BundleError(
                "V504",
                f"`{folder}` cannot run on torch: it holds no weights",
                hint="export it again, or train it",
            )
        return classifier(_described(opened.manifest), _weights(opened))


class _Ready(Protocol):
    def __call__(self, way: Way, *, batch: int) -> Runner: ...


def _soonest(opened: Opened, ways: Sequence[Way], ready: _Ready, threads: int | None, batch: int) -> Way:
    """The way that answers soonest on this machine, asked once for each bundle: for one picture, or where batches of
    more are computed for one a core.

    A way that refuses is passed over with a line; the last one's error is raised where all do.
    """
    manifest = opened.manifest
    all_cores = threads or cores()
    count = all_cores if batch >= all_cores else 1
    named = {way.engine: way for way in ways}
    versions = tools(sorted({ENGINES[name].package for name in named}))
    question = f"engine, second calls, {manifest.digest} {sorted(versions.items())} {threads} {count}"
    if (known := remembered(named, question)) is not None:
        return named[known]
    black = np.zeros((count, *manifest.policy.size, manifest.policy.channels), np.uint8)
    questions: dict[str, Callable[[], None]] = {}
    refused: VitrailError | None = None
    for name, way in named.items():
        try:
            asking = partial(
                _answer, ready(way, batch=count), given(black, _takes(manifest, way.graph), manifest.policy)
            )
            asking()
            questions[name] = asking
        except VitrailError as error:
            LOG.warning("%s is passed over: %s", name, error.what)
            refused = error.with_traceback(None)  # whose frames hold what was opened
    if refused is not None and not questions:
        raise refused
    name = fastest(questions, question, spinning=True)
    LOG.info("%s answers soonest of %s on this machine, by batches of %d", name, ", ".join(questions), count)
    return named[name]


def _takes(manifest: Manifest, graph: str | None) -> Takes:
    return "images" if graph is None else graphs.form_of(manifest.engines[graph]).takes


def _answer(runner: Runner, batch: NDArray[np.generic]) -> None:
    runner.logits(batch)


def _runner(opened: Opened, way: Way, *, threads: int | None, device: str, once: bool, batch: int) -> Runner:
    if way.graph is None:
        return _of_weights(opened, device)
    manifest = opened.manifest
    graph = graphs.Stored(manifest.engines[way.graph], manifest.config, manifest.classes, opened.read, opened.file)
    return graphs.open(graph, way.engine, threads=threads, once=once, batch=batch)


def _of_weights(opened: Opened, device: str) -> Runner:
    from vitrail.engines import torch

    return torch.open(_described(opened.manifest), _weights(opened), device=device)


def _described(manifest: Manifest) -> Described:
    from vitrail.engines.torch import Described

    return Described(manifest.config, manifest.policy, manifest.classes, provenance(manifest))


def _weights(opened: Opened) -> Tensors:
    file = opened.file(WEIGHTS)
    tensors, _ = safetensors.read(file.path(), sha256=file.entry.sha256)
    if weights_hash(tensors) != opened.manifest.weights_sha256:
        raise BundleError(
            "V502",
            f"the tensors in `{WEIGHTS}` are not those of the manifest's weights_sha256",
            hint="copy or fetch the bundle again",
        )
    return tensors
