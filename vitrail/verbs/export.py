"""`export`: a bundle with an engine in it, and the proof that it gives the same answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrail.bundle.formats import Form, check_form
from vitrail.data.configs import Data
from vitrail.data.sources import Source
from vitrail.disk import write_file
from vitrail.errors import RunError, UsageError, VitrailError
from vitrail.evaluation.answers import CheckPicture
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
    """The bundle, the engine that is in it now, the proof it passed, and how much faster than torch it is here."""

    folder: Path
    engine: str
    proof: Proof
    faster: float
    notes: tuple[str, ...] = ()

    def line(self) -> str:
        """The proof in one line, with the speed of this machine."""
        return f"{self.proof.line()}; {self.faster:.1f}x as fast as torch here"

    def to_json(self) -> dict[str, object]:
        """The result in plain values."""
        return {
            "bundle": str(self.folder),
            "engine": self.engine,
            "proof": self.proof.line(),
            "max_dlogit": self.proof.max_dlogit,
            "gate": self.proof.gate,
            "decisions_changed": self.proof.decisions_changed,
            "faster": self.faster,
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
    `engines.FORMATS`. form: what the graph computes in, takes, and for how many pictures. data: labelled pictures for
    the proof beside the generated ones; for a run its own held-out ones by default.
    """
    check_form(format, form)
    from vitrail.engines import open_bundle
    from vitrail.evaluation.speed import speed
    from vitrail.proof.export import export as write

    source_model = classifier(model) if isinstance(model, (str, Path)) else model
    refuse_headless(source_model.classes, "prove")
    place = Path(out) if out is not None else _own_bundle(model)
    pictures = _pictures(model, source_model, data)
    done = write(source_model, place, format=format, form=form, pictures=pictures)
    run = _finished_run(model)
    notes = () if run is None else _draw_again(run, done.proof)
    notes += _beside(place, done)
    faster = speed(source_model, open_bundle(place, engine=done.engine))
    return ExportResult(place, done.engine, done.proof, faster, notes)


def _beside(place: Path, done: Exported) -> tuple[str, ...]:
    """A copy of a TorchScript program next to the bundle's manifest, where those look for it who know no bundles."""
    entry = done.manifest.engines[done.engine]
    if entry.format != "torchscript":
        return ()
    copy = place.parent / f"{done.manifest.variant or place.name}.ts"
    write_file(copy, (place / entry.file).read_bytes())
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
