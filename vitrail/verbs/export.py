"""`export`: a bundle with an engine in it, and the proof that it gives the same answers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrail.bundle.formats import MAX_DROP, Form, check_form
from vitrail.bundle.manifest import MAX_IMAGE, File, Licences
from vitrail.data.configs import Data
from vitrail.data.sources import Source
from vitrail.disk import sha256_bytes, sha256_file, write_file
from vitrail.errors import RunError, UsageError, VitrailError, count
from vitrail.evaluation.answers import CheckPicture
from vitrail.models.catalog import VARIANTS
from vitrail.opening import RECIPE_FILE, classifier, kind_of
from vitrail.proof.prove import Proof
from vitrail.verbs.evaluate import chosen_source, matched, run_data
from vitrail.verbs.refusals import refuse_headless

if TYPE_CHECKING:
    from vitrail.models.classifier import Classifier
    from vitrail.proof.export import Exported
    from vitrail.proof.quantize import Budget
    from vitrail.weights import Loaded

CALIBRATING = 300  # training pictures by which int8 finds its ranges: with few it loses accuracy
FEWEST = 256  # pictures of one's own that a proof should see
CHECKED = 512  # labelled pictures that a proof takes, spread evenly over the held-out ones


@dataclass(frozen=True)
class ExportResult:
    """The bundle, the engine that is in it now, and the proof it passed.

    p50_s: median seconds for one picture on this machine, of torch and of the engine, measured in turns. files: of
    the graph, by their names in the bundle. tools: versions of what wrote it.
    """

    folder: Path
    engine: str
    proof: Proof
    p50_s: tuple[float, float]
    files: Mapping[str, File]
    tools: Mapping[str, str]
    notes: tuple[str, ...] = ()
    than_float: float | None = None  # of a graph in int8: how much faster than the same one in float32 on its engine

    @property
    def faster(self) -> float:
        """How many times faster than torch the engine is here."""
        return self.p50_s[0] / self.p50_s[1]

    def lines(self) -> list[str]:
        """What is in the bundle now, the proof, what int8 costs, the speed of this machine, and what the file is."""
        torch, engine = (f"{1000 * seconds:.2f} ms" for seconds in self.p50_s)
        versions = ", ".join(f"{name} {version}" for name, version in self.tools.items())
        plain = "" if self.than_float is None else f", {self.than_float:.1f}x as the same graph in float32"
        return [
            f"{self.engine} in {self.folder}",
            self.proof.line(),
            *(() if self.proof.quantized is None else self.proof.quantized.lines()),
            f"p50 for one picture here: {engine}, torch {torch}: {self.faster:.1f}x as fast{plain}",
            *(f"{name}: {file.size:,} bytes, SHA-256 {file.sha256}" for name, file in self.files.items()),
            f"written by {versions}",
        ]

    def to_json(self) -> dict[str, object]:
        """The result in plain values."""
        return {
            "bundle": str(self.folder),
            "engine": self.engine,
            "proof": self.proof.line(),
            "max_dlogit": self.proof.max_dlogit,
            "gate": self.proof.gate,
            "decisions_changed": self.proof.decisions_changed,
            "top1": None if self.proof.top1 is None else self.proof.top1.to_json(),
            "p50_s": {"torch": self.p50_s[0], "engine": self.p50_s[1]},
            "faster": self.faster,
            "files": {name: asdict(file) for name, file in self.files.items()},
            "tools": dict(self.tools),
            **self._of_int8(),
        }

    def _of_int8(self) -> dict[str, object]:
        quantized = self.proof.quantized
        return {} if quantized is None else {"int8": quantized.to_json(), "than_float": self.than_float}


def export(
    model: str | Path | Classifier,
    out: str | Path | None = None,
    *,
    format: str = "onnx",
    form: Form = Form(),  # noqa: B008
    data: str | Path | None = None,
    max_drop: float | None = None,
    licences: Licences = Licences(),  # noqa: B008
) -> ExportResult:
    """Write `model` for an engine into a bundle, after the proof has passed; OutsideBound V801 leaves nothing behind.

    out: a new folder, or a bundle of the same weights; for a run or a bundle itself by default. format: a key of
    `bundle.formats.FORMATS`. form: what the graph computes in, takes, and for how many pictures. data: labelled
    pictures for the proof beside the generated ones; for a run its own held-out ones by default. max_drop: points of
    top-1 that int8 may cost on all of the held-out ones (`MAX_DROP`); layers go back to float until a paired test says
    that it is less. licences: of weights and data, where the model states none; published weights state theirs.
    """
    check_form(format, form)
    if max_drop is not None and form.precision != "int8":
        raise UsageError("V001", f"{form.precision} has no budget, --max-drop is {max_drop:g}", hint="leave it out")
    from vitrail.evaluation.speed import in_turns
    from vitrail.proof.export import export as write

    source_model = _licensed(classifier(model) if isinstance(model, (str, Path)) else model, licences)
    refuse_headless(source_model.classes, "prove")
    place = Path(out) if out is not None else _own_bundle(model)
    source = _source(model, source_model, data)
    pictures = [] if source is None else check_pictures(source, CHECKED)
    budget = _budget(source, source_model, MAX_DROP if max_drop is None else max_drop)
    done = write(source_model, place, format=format, form=form, pictures=pictures, budget=budget)
    run = _finished_run(model)
    notes = () if run is None else _draw_again(run, done.proof)
    if data is not None and len(pictures) < FEWEST:
        notes += (f"{count(len(pictures), 'picture')} of `{data}` went into the proof: {FEWEST} or more say more",)
    notes += (*done.notes, *_beside(place, done))
    torch, engine, *plain = in_turns([source_model, done.candidate, *(() if done.plain is None else (done.plain,))])
    entry = done.manifest.engines[done.engine]
    inside = entry.file.rpartition("/")[0]
    files = {name: file for name, file in done.manifest.files.items() if name.startswith(f"{inside}/")}
    p50_s = statistics.median(torch), statistics.median(engine)
    than_float = statistics.median(plain[0]) / p50_s[1] if plain else None
    return ExportResult(place, done.engine, done.proof, p50_s, files, entry.tools, notes, than_float)


def sized(model: str | Path, image_size: tuple[int, int]) -> Loaded:
    """The weights of a MODEL for pictures of another size, and what was fitted; errors as `weights.resized`.

    They are other weights, so their bundle is one of its own.
    """
    from vitrail.weights import resized

    if max(image_size) > MAX_IMAGE:
        raise UsageError(
            "V007", f"pictures of {image_size} pixels", hint=f"a bundle's have at most {MAX_IMAGE:,} a side"
        )
    return resized(classifier(model), image_size)


def _licensed(model: Classifier, given: Licences) -> Classifier:
    """The same, with licences that it did not state itself."""
    own = Licences(**model.provenance.get("licences", {}))  # type: ignore[arg-type]
    return replace(model, provenance={**model.provenance, "licences": asdict(own.with_told(given))})


def _beside(place: Path, done: Exported) -> tuple[str, ...]:
    """A copy of a TorchScript program beside the bundle, where those look for it who know no bundles.

    Named by the variant, if that is one of ours, and by the graph's form; what else lies there is left alone.
    """
    if done.manifest.engines[done.engine].format != "torchscript":
        return ()
    variant, form = done.manifest.variant, done.engine.removeprefix("torchscript-fp32").removeprefix("torchscript")
    copy = place.parent / f"{variant if variant in VARIANTS else place.name}{form}.ts"
    if copy.exists() and sha256_file(copy) != sha256_bytes(done.program):
        return (f"the program alone is not written beside the bundle: `{copy}` is another file",)
    write_file(copy, done.program)
    return (f"the program alone: {copy}",)


def _own_bundle(model: object) -> Path:
    if isinstance(model, (str, Path)):
        kind = kind_of(model)
        if kind == "bundle":
            return Path(model)
        if kind == "run" and (Path(model) / "bundle" / "manifest.json").is_file():
            return Path(model) / "bundle"
        if kind == "run":
            raise RunError(
                "V607",
                f"`{model}` is not finished: it has no bundle yet",
                hint=f"vitrail train --resume --out {model}, or export its newest checkpoint with --out DIR",
            )
    raise UsageError("V001", "it is not said where the bundle goes", hint="give --out DIR")


def _source(model: object, opened: Classifier, data: str | Path | None) -> Source | None:
    if data is not None:
        wanted = Data(root=str(data))
    elif isinstance(model, (str, Path)) and kind_of(model) == "run":
        wanted = run_data(Path(model))
    else:
        return None
    source, _ = chosen_source(opened.provenance, wanted, "auto")
    return matched(source, opened.classes)


def _budget(source: Source | None, opened: Classifier, max_drop: float) -> Budget:
    """Pictures for an export in int8: calibration by training ones, or where there are none by some of the others,
    which are then not judged. Random weights are not judged at all.
    """
    from vitrail.proof.quantize import Budget

    if source is None:
        return Budget(max_drop=max_drop)
    judged, pool = source.held_out, source.training
    if not len(pool):
        pool = _spread(judged, min(CALIBRATING, len(judged) // 4))
        judged = np.setdiff1d(judged, pool)
    calibration = pictures_of(source, _spread(pool, CALIBRATING))
    if opened.provenance.get("weights") == "random":
        return Budget(calibration, (), max_drop)
    return Budget(calibration, pictures_of(source, judged), max_drop)


def check_pictures(source: Source, count: int) -> list[CheckPicture]:
    """Up to `count` held-out pictures of a source, spread evenly; each is decoded when its turn comes."""
    return pictures_of(source, _spread(source.held_out, count))


def _spread(indices: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Up to `count` of them, evenly."""
    return indices[np.linspace(0, len(indices) - 1, min(count, len(indices))).astype(np.int64)]


def pictures_of(source: Source, indices: NDArray[np.int64]) -> list[CheckPicture]:
    """Some pictures of a source; each is decoded when its turn comes."""
    return [CheckPicture(partial(source.read, index), int(source.labels[index])) for index in indices.tolist()]


def _finished_run(model: object) -> Path | None:
    if isinstance(model, (str, Path)) and kind_of(model) == "run" and (Path(model) / "bundle").is_dir():
        return Path(model)
    return None


def _draw_again(run: Path, proof: Proof) -> tuple[str, ...]:
    """The run's page, now with the proof. The export has succeeded by now: what goes wrong here is only noted."""
    from vitrail.data.sources import open_source
    from vitrail.engines.table import need
    from vitrail.locks import locked
    from vitrail.recipe import load_recipe
    from vitrail.verbs.page import load_evaluation, write_page

    try:
        need("matplotlib", "train")
        recipe = load_recipe(run / RECIPE_FILE)
        source = open_source(recipe.data, seed=recipe.train.seed)
        with locked(run):
            write_page(run, recipe, source, load_evaluation(run, source.classes), proof=proof.line())
    except VitrailError as error:
        return (f"the page of the run was not drawn again: {error.what}",)
    return ()
