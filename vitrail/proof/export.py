"""From a classifier to a bundle with an engine: write the graph, open it, prove it, and only then touch the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrail import __version__
from vitrail.bundle.manifest import NAME, WEIGHTS, Engine, Licences, Manifest, weights_hash
from vitrail.bundle.read import read_manifest
from vitrail.bundle.write import add_engine, tools, write_bundle
from vitrail.engines import onnx
from vitrail.engines.facts import facts as facts_of
from vitrail.engines.table import Runner
from vitrail.errors import BundleError, UsageError, nearest
from vitrail.evaluation.answers import CheckPicture
from vitrail.formats.safetensors import dumps
from vitrail.formats.stored import Tensors
from vitrail.pictures.policy import Policy
from vitrail.proof.prove import Proof, in_float32, prove

if TYPE_CHECKING:
    from vitrail.models.classifier import Classifier

FORMATS = ("onnx",)


@dataclass(frozen=True)
class Exported:
    """Where the bundle lies, the engine's name in it, and the proof it passed."""

    folder: Path
    engine: str
    manifest: Manifest
    proof: Proof


@dataclass(frozen=True)
class Candidate:
    """A graph before it is in a bundle, with policy and classes as the manifest will give them back."""

    runner: Runner
    policy: Policy
    classes: tuple[str, ...]

    def logits(self, batch: NDArray[np.float32], /) -> NDArray[np.float32]:
        """Logits (B, K) of normalised pictures."""
        return self.runner.logits(batch)


def export(
    classifier: Classifier,
    out: Path,
    *,
    format: str = "onnx",
    pictures: Sequence[CheckPicture] = (),
    licences: Licences | None = None,
    with_weights: bool = True,
) -> Exported:
    """A new bundle in `out`, or the engine added to the bundle of the same weights that lies there; all in float32.

    pictures: of the model's own task, checked beside the generated ones. with_weights: a new bundle also holds the
    weights, so that torch can open it.
    OutsideBound V801 when the proof fails; nothing is then written. BundleError V506 for a bundle of other weights,
    V508 when the network cannot be written; UsageError V006 when `out` is something else.
    """
    if format not in FORMATS:
        raise UsageError("V007", f"no export is called `{format}`", hint=nearest(format, FORMATS))
    from vitrail.weights import native_tensors

    classifier = in_float32(classifier)
    tensors = native_tensors(classifier.module)
    described = describe(classifier, tensors, licences or Licences())
    _check_place(out, described)
    image = (classifier.policy.channels, *classifier.policy.size)
    data = onnx.write(classifier.module, classes=classifier.classes, image=image)
    read_back = Manifest.from_json(described.to_json())
    graph = onnx.check(data)
    candidate = Candidate(onnx.open(data, checked=graph), read_back.policy, read_back.classes)
    proof = prove(classifier, candidate, pictures=pictures, graph=graph)
    proof.raise_if_failed()
    name = f"{format}-{proof.precision}"
    engine = Engine(
        file=f"engines/{name}/model.onnx",
        format=format,
        precision=proof.precision,
        opset=graph.opset,
        input=onnx.INPUT,
        output=onnx.OUTPUT,
        facts=facts_of(graph),
        tools=_tools(("torch", "onnx", "onnxscript", "onnxruntime")),
    )
    files = {
        engine.file: data,
        f"proof/{name}/report.json": proof.report(),
        f"proof/{name}/source.safetensors": proof.logits_file(),
    }
    manifest = _write(out, described, (name, engine), files, tensors if with_weights else None)
    return Exported(out, name, manifest, proof)


def describe(classifier: Classifier, tensors: Tensors, licences: Licences) -> Manifest:
    """The manifest of a classifier, without files. Its provenance may name `weights` (random) and `variant`."""
    provenance = dict(classifier.provenance)
    weights, variant = provenance.pop("weights", "trained"), provenance.pop("variant", None)
    return Manifest(
        config=classifier.config,
        policy=classifier.policy,
        classes=classifier.classes,
        weights="random" if weights == "random" else "trained",
        weights_sha256=weights_hash(tensors),
        variant=None if variant is None else str(variant),
        provenance=provenance,
        licences=licences,
        tools=_tools(("torch", "numpy", "pillow")),
    )


def _tools(names: Sequence[str]) -> dict[str, str]:
    return {"vitrail": __version__, **tools(names)}


def _check_place(out: Path, described: Manifest) -> None:
    """Refuse before the work what the writing would refuse after it."""
    if not (out / NAME).exists():
        if out.is_symlink() or out.exists():
            raise UsageError("V006", f"`{out}` exists and is no bundle", hint="give another folder, or remove it first")
        return
    there = read_manifest(out)
    differences = [
        name
        for name in ("weights_sha256", "config", "policy", "classes")
        if getattr(there, name) != getattr(described, name)
    ]
    if differences:
        raise BundleError(
            "V506",
            f"`{out}` is the bundle of another model",
            evidence=[f"different: {', '.join(differences)}"],
            hint="export to a new folder",
        )


def _write(
    out: Path, described: Manifest, engine: tuple[str, Engine], files: dict[str, bytes], tensors: Tensors | None
) -> Manifest:
    name, entry = engine
    if (out / NAME).exists():
        return add_engine(out, name, engine=entry, files=files, weights_sha256=described.weights_sha256)
    weights = {} if tensors is None else {WEIGHTS: dumps(tensors)}
    return write_bundle(out, described, {**files, **weights}, engines={name: entry})
