"""From a classifier to a bundle with an engine: write the graph, open it, prove it, and only then touch the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitrail import __version__
from vitrail.bundle.formats import FORMATS, INPUT, OUTPUT, Form, Takes, check_form
from vitrail.bundle.manifest import NAME, WEIGHTS, Engine, Licences, Manifest, weights_hash
from vitrail.bundle.read import read_manifest
from vitrail.bundle.write import add_engine, tools, write_bundle
from vitrail.disk import sha256_bytes
from vitrail.engines import graphs, trust
from vitrail.engines.table import ENGINES, Runner, Said, Written
from vitrail.errors import BundleError, UsageError, count
from vitrail.evaluation.answers import CheckPicture
from vitrail.formats.safetensors import dumps
from vitrail.formats.stored import Tensors
from vitrail.pictures.policy import Policy
from vitrail.pictures.predict import given
from vitrail.proof.prove import Proof, in_float32, prove
from vitrail.proof.quantize import Budget, Quantized, Task, quantize
from vitrail.proof.top import wrong

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
    plain: Candidate | None = None  # for int8: the graph in float32 from which it was made, on the same engine


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
    with_weights: bool = True,
    budget: Budget | None = None,
) -> Exported:
    """A new bundle in `out`, or the engine added to the bundle of the same weights that lies there.

    form: what the graph computes in, takes, and for how many pictures. pictures: of the model's own task, checked
    beside the generated ones. with_weights: a new bundle also holds the weights, so that torch can open it. budget:
    what a graph in int8 may use and lose; needed where the weights are trained.
    OutsideBound V801 when the proof fails; nothing is then written. BundleError V506 for a bundle of other weights,
    V508 when the network cannot be written; UsageError V006 when `out` is something else, V007 for a format or a form
    that there is not.
    """
    row = check_form(format, form)
    if form.top is not None and not 1 <= form.top <= len(classifier.classes):
        raise UsageError(
            "V007", f"top {form.top} of {count(len(classifier.classes), 'class', 'classes')}", hint="name fewer"
        )
    from vitrail.weights import native_tensors

    classifier = in_float32(classifier)
    tensors = native_tensors(classifier.module)
    described = describe(classifier, tensors)
    _check_place(out, described, graph_name(format, form) if ENGINES[row.engine].native else None)
    read_back = Manifest.from_json(described.to_json())
    made = _quantized(classifier, read_back, (format, form), budget or Budget()) if form.precision == "int8" else None
    written = graphs.write(classifier, format, form) if made is None else made.written
    name = graph_name(format, form)
    engine = _entry(name, format, form, written)
    files = {f"engines/{name}/{file}": data for file, data in written.files.items()}
    candidate, said = _opened(read_back, engine, written, row.engine)
    proof = prove(classifier, candidate, pictures=pictures, precision=form.precision, said=said)
    if form.top is not None:
        found = wrong(candidate.runner, candidate.policy, takes=form.takes, top=form.top)
        proof = replace(proof, failures=(*proof.failures, *found))
    proof.raise_if_failed()
    proof = proof if made is None else replace(proof, quantized=made.quantized)
    program = files[engine.file]
    notes: tuple[str, ...] = ()
    if ENGINES[row.engine].program and not trust.remember(sha256_bytes(program)):
        notes = ("it cannot be noted that the program was made here: opening it will need --trust",)
    files |= {f"proof/{name}/report.json": proof.report(), f"proof/{name}/source.safetensors": proof.logits_file()}
    manifest = _write(out, described, (name, engine), files, tensors if with_weights else None)
    plain = None if made is None else made.plain
    return Exported(out, name, manifest, proof, candidate, program, notes, plain)


def graph_name(format: str, form: Form) -> str:
    """How a bundle calls a graph.

    >>> graph_name("onnx", Form()), graph_name("openvino", Form("bf16", "pixels", 1, top=5))
    ('onnx-fp32', 'openvino-bf16-pixels-batch1-top5')
    """
    pixels = ("pixels",) if form.takes == "pixels" else ()
    numbers = (f"{word}{number}" for word, number in (("batch", form.batch), ("top", form.top)) if number is not None)
    return "-".join((format, form.precision, *pixels, *numbers))


class _Made(NamedTuple):
    """A graph in int8, what it costs, and the graph that it was made from."""

    written: Written
    quantized: Quantized
    plain: Candidate


def _quantized(source: Classifier, read_back: Manifest, asked: tuple[str, Form], budget: Budget) -> _Made:
    """A graph in int8 from one in float32, which must pass its own proof first: what int8 costs would hide a fault.

    UsageError V001 for trained weights without labelled pictures, V007 for too few.
    """
    format, form = asked
    if read_back.weights == "trained":
        if not budget.judged:
            raise UsageError("V001", "int8 needs labelled pictures: they say what it costs", hint="give --data DATA")
        budget.check()
    from vitrail.models.folded import folded
    from vitrail.weights import native_tensors

    engine, plain = FORMATS[format].engine, Form("fp32", form.takes, form.batch)
    data = graphs.write_onnx(source, plain)
    written = graphs.as_written(data, plain)
    candidate, said = _opened(read_back, _entry("plain", "onnx", plain, written), written, engine)
    prove(source, candidate, said=said).raise_if_failed()

    def opened(made: Written) -> Candidate:
        return _opened(read_back, _entry("int8", format, form, made), made, engine)[0]

    task = Task(data, native_tensors(folded(source.module)), format, form)  # as they lie in the graph
    return _Made(*quantize(source, task, budget, opened=opened), candidate)


def _entry(name: str, format: str, form: Form, written: Written) -> Engine:
    """What the manifest says of a graph of that name."""
    return Engine(
        file=f"engines/{name}/{FORMATS[format].file}",
        format=format,
        precision=form.precision,
        opset=written.opset,
        input=INPUT,
        output=OUTPUT,
        facts=written.facts,
        tools=_tools((*FORMATS[format].packages, *written.packages)),
        takes=form.takes,
        batch=form.batch,
        top=form.top,
    )


def _opened(read_back: Manifest, entry: Engine, written: Written, engine: str) -> tuple[Candidate, Said]:
    """A graph that is opened as it will be from the bundle, and what it says of itself, to which opening held it."""
    folder = entry.file.rpartition("/")[0]
    files = {f"{folder}/{file}": data for file, data in written.files.items()}
    stored = graphs.Stored(entry, read_back.config, read_back.classes, files.__getitem__)
    runner = graphs.open(stored, engine)
    candidate = Candidate(runner, read_back.policy, read_back.classes, stored.form.takes)
    return candidate, Said(dict(entry.facts), read_back.classes)


def describe(classifier: Classifier, tensors: Tensors) -> Manifest:
    """The manifest of a classifier, without files. Its provenance may name `weights`, `variant` and `licences`."""
    provenance = dict(classifier.provenance)
    weights, variant = provenance.pop("weights", "trained"), provenance.pop("variant", None)
    own: Any = provenance.pop("licences", {})
    return Manifest(
        config=classifier.config,
        policy=classifier.policy,
        classes=classifier.classes,
        weights="random" if weights == "random" else "trained",
        weights_sha256=weights_hash(tensors),
        variant=None if variant is None else str(variant),
        provenance=provenance,
        licences=Licences().with_told(Licences(**own)),
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
    there.licences.with_told(described.licences)
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
        return add_engine(out, name, engine=entry, files=files, described=described)
    weights = {} if tensors is None else {WEIGHTS: dumps(tensors)}
    return write_bundle(out, described, {**files, **weights}, engines={name: entry})
