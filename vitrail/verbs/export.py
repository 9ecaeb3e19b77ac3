"""`export`: a bundle with an engine in it, and the proof that it gives the same answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitrail.data.configs import Data
from vitrail.data.sources import Source
from vitrail.errors import DataError, PictureError, UsageError
from vitrail.opening import classifier, kind_of
from vitrail.proof.measure import CheckPicture
from vitrail.proof.prove import Proof
from vitrail.verbs.evaluate import chosen_source, matched, run_data

if TYPE_CHECKING:
    from vitrail.models.classifier import Classifier

CHECKED = 512  # labelled pictures that a proof takes, spread evenly over the held-out ones


@dataclass(frozen=True)
class ExportResult:
    """The bundle, the engine that is in it now, the proof it passed, and how much faster than torch it is here."""

    folder: Path
    engine: str
    proof: Proof
    faster: float

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
    data: str | Path | None = None,
) -> ExportResult:
    """Write `model` for an engine into a bundle, after the proof has passed; OutsideBound V801 leaves nothing behind.

    out: a new folder, or a bundle of the same weights; for a run or a bundle itself by default. data: labelled
    pictures for the proof beside the generated ones; for a run its own held-out ones by default.
    """
    from vitrail.engines import open_bundle
    from vitrail.proof.export import export as write
    from vitrail.proof.measure import speed

    source_model = classifier(model) if isinstance(model, (str, Path)) else model
    place = Path(out) if out is not None else _own_bundle(model)
    pictures = _pictures(model, source_model, data)
    done = write(source_model, place, format=format, pictures=pictures)
    if isinstance(model, (str, Path)) and kind_of(model) == "run":
        _draw_again(Path(model), done.proof)
    return ExportResult(place, done.engine, done.proof, speed(source_model, open_bundle(place, engine=format)))


def _own_bundle(model: object) -> Path:
    if isinstance(model, (str, Path)):
        kind = kind_of(model)
        if kind == "bundle":
            return Path(model)
        if kind == "run":
            return Path(model) / "bundle"
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
    """Up to `count` held-out pictures of a source, spread evenly; DataError V406 when one cannot be read."""
    held_out = source.held_out
    chosen = held_out[np.linspace(0, len(held_out) - 1, min(count, len(held_out))).astype(np.int64)]
    pictures = []
    for index in chosen.tolist():
        try:
            pictures.append(CheckPicture(source.read(index), int(source.labels[index])))
        except PictureError as error:
            raise DataError(
                "V406",
                f"`{source.title(index)}` cannot be read, so it proves nothing",
                evidence=[error.what],
                hint="repair or remove it, or give other pictures with --data",
            ) from error
    return pictures


def _draw_again(run: Path, proof: Proof) -> None:
    """The run's page, now with the proof."""
    from vitrail.data.sources import open_source
    from vitrail.engines.table import need
    from vitrail.recipe import load_recipe
    from vitrail.verbs.page import load_evaluation, write_page

    need("matplotlib", "train")
    recipe = load_recipe(run / "recipe.yaml")
    source = open_source(recipe.data, seed=recipe.train.seed)
    write_page(run, recipe, source, load_evaluation(run, source.classes), proof=proof.line())
