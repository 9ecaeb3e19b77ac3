"""A bundle, opened on an engine: the same words as a torch classifier, without torch unless that is the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrail.bundle.manifest import WEIGHTS, Engine, Manifest, weights_hash
from vitrail.bundle.read import Opened, check
from vitrail.engines.facts import DECIDED, classes, facts, wanted
from vitrail.engines.graph import Graph
from vitrail.engines.table import ENGINES, Runner, installed, known, need
from vitrail.errors import BundleError, UsageError
from vitrail.formats import safetensors
from vitrail.formats.stored import Tensors
from vitrail.pictures.decode import Picture
from vitrail.pictures.policy import Policy
from vitrail.pictures.predict import Failed, Prediction, predict

if TYPE_CHECKING:
    from vitrail.engines.torch import Described
    from vitrail.models.classifier import Classifier


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

    def logits(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (B, K) of normalised pictures (B, C, H, W)."""
        return self.runner.logits(batch)

    def predict(self, pictures: Iterable[Picture], *, top: int = 5, batch: int = 32) -> Iterator[Prediction | Failed]:
        """The `top` best classes of each picture, in order; a picture that cannot be read gives a `Failed`."""
        return predict(self, pictures, top=top, batch=batch)


def provenance(manifest: Manifest) -> dict[str, object]:
    """The manifest's provenance, with what it says elsewhere about the weights."""
    return {**manifest.provenance, "weights": manifest.weights, "variant": manifest.variant}


def open_bundle(folder: Path, *, engine: str = "auto", threads: int | None = None, device: str = "cpu") -> Bundle:
    """The bundle in `folder` on an engine. engine: a key of `ENGINES`; `auto` takes the first that can run here.
    device: of torch, to which `auto` goes where an accelerator is named; the other engines run on the processor.

    BundleError V501 to V505 for a bundle that cannot be trusted or run; UsageError V003 naming the pip command when
    the engine's package is absent, V007 for an unknown engine or device, a device for another engine than torch, or
    threads for torch, whose number is the process's own.
    """
    known(engine)
    with check(folder) as opened:
        elsewhere = device not in ("auto", "cpu")
        taken = engine if engine != "auto" else "torch" if elsewhere else _auto(opened)
        if elsewhere and taken != "torch":
            raise UsageError(
                "V007", f"{taken} runs on the processor here, not on `{device}`", hint="leave one of the two out"
            )
        need(ENGINES[taken].package, ENGINES[taken].extra)
        if taken == "torch" and threads is not None:
            raise UsageError(
                "V007", "torch takes no threads of one bundle's own", hint=f"torch.set_num_threads({threads})"
            )
        name = _graph(opened.manifest, taken)
        runner = _of_weights(opened, device) if name is None else _of_graph(opened, name, taken, threads)
        return Bundle(folder, opened.manifest, taken, name, runner)


def bundle_classifier(folder: Path) -> Classifier:
    """The weights of a bundle as a torch classifier; BundleError V504 when it holds none."""
    need(ENGINES["torch"].package, ENGINES["torch"].extra)
    from vitrail.engines.torch import classifier

    with check(folder) as opened:
        if WEIGHTS not in opened.files:
            raise _cannot_run(opened, "torch", "it holds no weights")
        return classifier(_described(opened.manifest), _weights(opened))


def _auto(opened: Opened) -> str:
    fitting = [name for name in ENGINES if _can_run(opened.manifest, name)]
    if not fitting:
        raise _cannot_run(opened, "any engine", "it holds neither a graph nor weights")
    return next((name for name in fitting if installed(name)), fitting[0])


def _can_run(manifest: Manifest, engine: str) -> bool:
    return WEIGHTS in manifest.files if engine == "torch" else bool(_graphs(manifest, engine))


def _graphs(manifest: Manifest, engine: str) -> list[str]:
    """The bundle's graphs that an engine runs, float32 first."""
    fitting = [name for name, entry in manifest.engines.items() if entry.format in ENGINES[engine].formats]
    return sorted(fitting, key=lambda name: (manifest.engines[name].precision != "fp32", name))


def _graph(manifest: Manifest, engine: str) -> str | None:
    if not _can_run(manifest, engine):
        held = ", ".join(manifest.engines) or "weights only"
        raise BundleError(
            "V504",
            f"the bundle holds nothing that `{engine}` can run (it holds: {held})",
            hint="take another engine, or add this one with `vitrail export`",
        )
    return None if engine == "torch" else _graphs(manifest, engine)[0]


def _of_graph(opened: Opened, name: str, engine: str, threads: int | None) -> Runner:
    from vitrail.engines import onnx

    data = opened.read(opened.manifest.engines[name].file)
    checked = onnx.check(data)
    check_facts(opened.manifest, opened.manifest.engines[name], checked)
    if engine == "onnx":
        return onnx.open(data, threads=threads, checked=checked)
    assert engine == "openvino", engine
    from vitrail.engines import openvino

    return openvino.open(data, threads=threads, checked=checked)


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


def check_facts(manifest: Manifest, engine: Engine, graph: Graph) -> None:
    """BundleError V502 unless the graph itself says what the manifest says of it and of the network that it holds:
    classes, GELU, epsilons, opset.
    """
    found = facts(graph)
    wrong = [
        f"{name}: {side} {said.get(name)}, graph {found.get(name)}"
        for side, said, names in (("manifest", engine.facts, found), ("config", wanted(manifest.config), DECIDED))
        for name in names
        if said.get(name) != found.get(name)
    ]
    if classes(graph) != manifest.classes:
        wrong.append(f"classes: {first_difference(manifest.classes, classes(graph))}")
    if wrong:
        raise BundleError(
            "V502", f"`{engine.file}` is not the graph that the manifest describes", evidence=wrong, hint="export again"
        )


def first_difference(ours: tuple[str, ...], theirs: tuple[str, ...]) -> str:
    """Where two lists of classes first part.

    >>> first_difference(("cat", "dog"), ("dog", "cat"))
    'class 0 is `cat` and `dog`'
    """
    if len(ours) != len(theirs):
        return f"{len(ours)} and {len(theirs)} classes"
    place = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), None)
    return "the same" if place is None else f"class {place} is `{ours[place]}` and `{theirs[place]}`"


def _cannot_run(opened: Opened, engine: str, why: str) -> BundleError:
    return BundleError("V504", f"`{opened.folder}` cannot run on {engine}: {why}", hint="export it again, or train it")
