"""`export`: a bundle with an engine in it, and the proof that it gives the same answers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrail.bundle.formats import Form, check_form
from vitrail.bundle.manifest import File
from vitrail.data.configs import Data
from vitrail.data.sources import Source
from vitrail.disk import sha256_bytes, sha256_file, write_file
from vitrail.errors import RunError, UsageError, VitrailError
from vitrail.evaluation.answers import CheckPicture
from vitrail.models.catalog import VARIANTS
from vitrail.opening import classifier, kind_of
from vitrail.proof.prove import Proof
from vitrail.training.configs import RECIPE_FILE
from vitrail.verbs.evaluate import chosen_source, matched, refuse_headless, run_data

if TYPE_CHECKING:
    from vitrail.models.classifier import Classifier
    from vitrail.proof.export import Exported

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

    @property
    def faster(self) -> float:
        """How many times faster than torch the engine is here."""
        return self.p50_s[0] / self.p50_s[1]

    def lines(self) -> list[str]:
        """What is in the bundle now, the proof, the speed of this machine, and what the file is."""
        torch, engine = (f"{1000 * seconds:.2f} ms" for seconds in self.p50_s)
        versions = ", ".join(f"{name} {version}" for name, version in self.tools.items())
        return [
            f"{self.engine} in {self.folder}",
            self.proof.line(),
            f"p50 for one picture here: {engine}, torch {torch}: {self.faster:.1f}x as fast",
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
        }


def export(
    model: str | Path | Classifier,
    out: str | Path | None = None,
    *,
    format: str = "onnx",
    form: Form = Form(),  # noqa: B008
    data: str | Path | None = None,
) -> ExportResult:
    """Write `model` for an engine into a bundle, after the proof has passed; OutsideBound V801 leaves nothing behind.

    out: a new folder, or a bundle of the same weights; for a run or a bundle itself by default. format: a key of
    `bundle.formats.FORMATS`. form: what the graph computes in, takes, and for how many pictures. data: labelled
    pictures for the proof beside the generated ones; for a run its own held-out ones by default.
    """
    check_form(format, form)
    from vitrail.evaluation.speed import in_turns
    from vitrail.proof.export import export as write

    source_model = classifier(model) if isinstance(model, (str, Path)) else model
    refuse_headless(source_model.classes, "prove")
    place = Path(out) if out is not None else _own_bundle(model)
    pictures = _pictures(model, source_model, data)
    done = write(source_model, place, format=format, form=form, pictures=pictures)
    run = _finished_run(model)
    notes = () if run is None else _draw_again(run, done.proof)
    notes += (*done.notes, *_beside(place, done))
    torch, engine = in_turns([source_model, done.candidate])
    entry = done.manifest.engines[done.engine]
    inside = entry.file.rpartition("/")[0]
    files = {name: file for name, file in done.manifest.files.items() if name.startswith(f"{inside}/")}
    p50_s = statistics.median(torch), statistics.median(engine)
    return ExportResult(place, done.engine, done.proof, p50_s, files, entry.tools, notes)


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


def _pictures(model: object, opened: Classifier, data: str | Path | None) -> list[CheckPicture]:
    if data is not None:
        wanted = Data(root=str(data))
    elif isinstance(model, (str, Path)) and kind_of(model) == "run":
        wanted = run_data(Path(model))
    else:
        return []
    source, _ = chosen_source(opened.provenance, wanted, "auto")
    return check_pictures(matched(source, opened.classes), CHECKED)


def check_pictures(source: Source, count: int) -> list[CheckPicture]:
    """Up to `count` held-out pictures of a source, spread evenly; each is decoded when its turn comes."""
    held_out = source.held_out
    return pictures_of(source, held_out[np.linspace(0, len(held_out) - 1, min(count, len(held_out))).astype(np.int64)])


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
    from vitrail.disk import locked
    from vitrail.engines.table import need
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
