"""From a classifier to a bundle with an engine: write the graph, open it, prove it, and only then touch the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrail import __version__
from vitrail.bundle.formats import FORMATS, INPUT, OUTPUT, Form, Takes, check_form
from vitrail.bundle.manifest import NAME, WEIGHTS, Engine, Licences, Manifest, weights_hash
from vitrail.bundle.read import read_manifest
from vitrail.bundle.write import add_engine, tools, write_bundle
from vitrail.disk import sha256_bytes
from vitrail.engines import graphs, trust
from vitrail.engines.table import ENGINES, Runner, Said
from vitrail.errors import BundleError, UsageError
from vitrail.evaluation.answers import CheckPicture
from vitrail.formats.safetensors import dumps
from vitrail.formats.stored import Tensors
from vitrail.pictures.policy import Policy
from vitrail.pictures.predict import given
from vitrail.proof.prove import Proof, in_float32, prove

if TYPE_CHECKING:
    from vitrail.models.classifier import Classifier


@dataclass(frozen=True)
class Exported:
    """Where the bundle lies, the graph's name in it, and the proof it passed; the graph itself, open and as bytes."""

    folder: Path
    engine: str
    manifest: Manifest
    proof: Proof
    candidate: Candidate
    program: bytes
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A graph before it is in a bundle, with policy and classes as the manifest will give them back."""

    runner: Runner
    policy: Policy
    classes: tuple[str, ...]
    takes: Takes = "images"

    def logits(self, batch: NDArray[np.generic], /) -> NDArray[np.float32]:
        """Logits (B, K) of normalised pictures, or of pixels."""
        return self.runner.logits(given(batch, self.takes, self.policy))


def export(
    classifier: Classifier,
    out: Path,
    *,
    format: str = "onnx",
    form: Form = Form(),  # noqa: B008
    pictures: Sequence[CheckPicture] = (),
    licences: Licences | None = None,
    with_weights: bool = True,
) -> Exported:
    """A new bundle in `out`, or the engine added to the bundle of the same weights that lies there.

    form: what the graph computes in, takes, and for how many pictures. pictures: of the model's own task, checked
    beside the generated ones. with_weights: a new bundle also holds the weights, so that torch can open it.
    OutsideBound V801 when the proof fails; nothing is then written. BundleError V506 for a bundle of other weights,
    V508 when the network cannot be written; UsageError V006 when `out` is something else, V007 for a format or a form
    that there is not.
    """
    row = check_form(format, form)
    from vitrail.weights import native_tensors

    classifier = in_float32(classifier)
    tensors = native_tensors(classifier.module)
    described = describe(classifier, tensors, licences or Licences())
    _check_place(out, described, graph_name(format, form) if ENGINES[row.engine].native else None)
    written = graphs.write(classifier, format, form)
    name = graph_name(format, form)
    engine = Engine(
        file=f"engines/{name}/{row.file}",
        format=format,
        precision=form.precision,
        opset=written.opset,
        input=INPUT,
        output=OUTPUT,
        facts=written.facts,
        tools=_tools(row.packages),
        takes=form.takes,
        batch=form.batch,
    )
    files = {f"engines/{name}/{file}": data for file, data in written.files.items()}
    candidate, proof = _proven(classifier, Manifest.from_json(described.to_json()), engine, files, pictures)
    program = files[engine.file]
    notes: tuple[str, ...] = ()
    if ENGINES[row.engine].program and not trust.remember(sha256_bytes(program)):
        notes = ("it cannot be noted that the program was made here: opening it will need --trust",)
    files |= {f"proof/{name}/report.json": proof.report(), f"proof/{name}/source.safetensors": proof.logits_file()}
    manifest = _write(out, described, (name, engine), files, tensors if with_weights else None)
    return Exported(out, name, manifest, proof, candidate, program, notes)


def graph_name(format: str, form: Form) -> str:
    """How a bundle calls a graph.

    >>> graph_name("onnx", Form()), graph_name("openvino", Form("bf16", "pixels", 1))
    ('onnx-fp32', 'openvino-bf16-pixels-batch1')
    """
    batch = () if form.batch is None else (f"batch{form.batch}",)
    return "-".join((format, form.precision, *(("pixels",) if form.takes == "pixels" else ()), *batch))


def _proven(
    source: Classifier, read_back: Manifest, engine: Engine, files: dict[str, bytes], pictures: Sequence[CheckPicture]
) -> tuple[Candidate, Proof]:
    """A graph, opened, and its proof; it is opened as it will be from the bundle. OutsideBound V801 when it fails."""
    row = FORMATS[engine.format]
    stored = graphs.Stored(engine, read_back.config, read_back.classes, files.__getitem__)
    runner = graphs.open(stored, row.engine)
    said = Said(dict(engine.facts), read_back.classes)  # to which opening held the graph
    candidate = Candidate(runner, read_back.policy, read_back.classes, stored.form.takes)
    proof = prove(source, candidate, pictures=pictures, precision=stored.form.precision, said=said)
    proof.raise_if_failed()
    return candidate, proof


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


def _check_place(out: Path, described: Manifest, once: str | None) -> None:
    """Refuse before the work what the writing would refuse after it; `once`: a graph that is never written alike."""
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
    if once in there.engines:
        raise BundleError("V506", f"`{out}` holds `{once}` already", hint="export to a new folder")
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
