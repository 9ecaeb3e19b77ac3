"""The page of a run, and what it is made of: kept in the run folder, so that a later export can add its proof."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail import __version__
from vitrail.data.batches import BadPicture
from vitrail.data.sources import Source
from vitrail.disk import write_file
from vitrail.errors import PictureError, RunError, read_fault
from vitrail.evaluation.evaluate import LARGEST_DENSE, Evaluation
from vitrail.formats import safetensors
from vitrail.formats.stored import Stored
from vitrail.machine import cores, cpu_name
from vitrail.models.count import macs, parameters
from vitrail.recipe import Recipe
from vitrail.recipe.write import to_yaml

if TYPE_CHECKING:
    from vitrail.reports.tiles import Tile

SUMMARY, ARRAYS = "evaluation.json", "evaluation.safetensors"
COLUMNS = ("indices", "labels", "predictions", "probabilities", "true_probabilities", "ranks", "losses")
SHOWN = 12  # best and worst pictures on the page


def save_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Keep an evaluation in a run folder: its figures as JSON, a row a picture as arrays."""
    values = json.dumps(evaluation.to_json(), indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_file(folder / SUMMARY, values.encode())
    tensors = {name: Stored.of(getattr(evaluation, name)) for name in COLUMNS}
    safetensors.write(folder / ARRAYS, tensors)


def load_evaluation(folder: Path, classes: tuple[str, ...]) -> Evaluation:
    """The evaluation that a run folder keeps; RunError V607 when it keeps none."""
    if not (folder / ARRAYS).is_file():
        raise RunError("V607", f"`{folder}` holds no evaluation", hint=f"vitrail train --resume --out {folder}")
    tensors, _ = safetensors.read(folder / ARRAYS)
    try:
        bad = json.loads((folder / SUMMARY).read_text())["bad"]
    except OSError as error:
        raise read_fault(error, folder / SUMMARY) from error
    columns = {name: tensors[name].array() for name in COLUMNS}
    pictures = tuple(BadPicture(one["index"], one["name"], PictureError(one["code"], one["what"])) for one in bad)
    return Evaluation(classes=classes, bad=pictures, **columns)


def write_page(folder: Path, recipe: Recipe, source: Source, evaluation: Evaluation, *, proof: str = "") -> Path:
    """Draw the run: `report.html`, `curves.png` and `confusion.png` in its folder."""
    from vitrail.reports.html import Page, page
    from vitrail.reports.plots import confusion, curves
    from vitrail.training.journal import JOURNAL, read
    from vitrail.verbs.feeding import waiting

    rows = read(folder / JOURNAL)
    few = len(evaluation.classes) <= LARGEST_DENSE
    content = Page(
        title=recipe.name,
        subtitle=f"{recipe.variant}, {parameters(recipe.config):,} parameters, {len(source.classes)} classes",
        evaluation=evaluation,
        split="held out, none of them trained on",
        untrained=_untrained(rows),
        on_bad=recipe.data.on_bad,
        facts=(
            *_facts(recipe, source),
            *_went(rows),
            *_told(rows, recipe),
            ("waiting for data", waiting(folder, recipe)),
        ),
        curves=curves(rows, folder / "curves.png"),
        confusion=confusion(evaluation, folder / "confusion.png") if few else b"",
        best=_tiles(source, evaluation, evaluation.best(SHOWN), good=True),
        worst=_tiles(source, evaluation, evaluation.worst(SHOWN), good=False),
        commands=_commands(folder),
        proof=proof,
        recipe=to_yaml(recipe, version=__version__),
        environment=(("vitrail", __version__), ("processor", f"{cpu_name()}, {cores()} cores"), *_versions()),
        footer=f"made by vitrail {__version__}",
    )
    page(content, folder / "report.html")
    return folder / "report.html"


def _untrained(rows: list[dict[str, object]]) -> tuple[tuple[str, str], ...]:
    """The pictures to train on that could not be read, from the journal: name, and why how often."""
    told = [(str(row["name"]), f"{row.get('code', '')} {row['why']}".strip()) for row in rows if row["event"] == "bad"]
    often = Counter(told)
    return tuple((name, f"{why}, {number:,} times") for (name, why), number in sorted(often.items()))


def _facts(recipe: Recipe, source: Source) -> tuple[tuple[str, str], ...]:
    schedule = recipe.schedule
    length = f"{schedule.epochs:g} epochs" if schedule.epochs is not None else f"{schedule.steps:,} steps"
    average = "averaged (EMA) weights of the last step" if recipe.average else "weights of the last step"
    chosen = "nothing was" if recipe.evaluation.patience is None else "when to end (evaluation.patience) was"
    return (
        ("pictures", source.place),
        ("split", f"{len(source.training):,} trained on, {len(source.held_out):,} held out"),
        ("network", f"{recipe.variant}, {macs(recipe.config) / 1e6:,.0f} million multiply-adds a picture"),
        ("training", f"{length} at batch {recipe.data.batch}, {recipe.precision}, seed {recipe.train.seed}"),
        ("weights", f"{average}; {chosen} chosen on the held-out pictures"),
        *(("note", note) for note in source.notes),
    )


ENDED = {"patience": "no evaluation was better for as long as evaluation.patience says", "time": "its time was over"}


def _went(rows: list[dict[str, object]]) -> tuple[tuple[str, str], ...]:
    """How fast the steps were, and what ended them before the schedule did."""
    from vitrail.training.journal import pace

    speed, last = pace(rows), rows[-1] if rows else {}
    figures = f"{speed['images_per_s']:,.1f} images/s, {speed['sec_per_step']:.4f} sec/step" if speed else ""
    why = ENDED.get(str(last.get("by")), "")
    ended = f"after step {last['step']:,}: {why}" if why else ""
    return tuple((name, value) for name, value in (("speed", figures), ("ended early", ended)) if value)


def _told(rows: list[dict[str, object]], recipe: Recipe) -> list[tuple[str, str]]:
    """What the journal's end says of steps that were left out, and of what changed at a resume."""
    end = next((row for row in reversed(rows) if row["event"] == "end"), {})
    scales = [float(str(row["scale"])) for row in rows if row["event"] in ("step", "overflow") and "scale" in row]
    told = []
    if recipe.train.loss_scale is not None and scales:
        found = f"{end.get('overflows', 0)} of {len(scales):,} steps overflowed and were left out"
        told.append(
            ("loss scale", f"{found}; {scales[0]:g} at first, {scales[-1]:g} at last, {min(scales):g} at least")
        )
    if end.get("broken"):
        told.append(("broken steps", f"{end['broken']} with NaN or Inf were left out"))
    drift = end.get("drift")
    for line in drift if isinstance(drift, list) else []:
        told.append(("not the bits of an unbroken run", str(line)))
    return told


def _tiles(source: Source, evaluation: Evaluation, positions: list[int], *, good: bool) -> tuple[Tile, ...]:
    from vitrail.reports.tiles import Tile

    tiles = []
    for place in positions:
        index = int(evaluation.indices[place])
        said = evaluation.classes[int(evaluation.predictions[place])]
        caption = f"{said}, {100 * float(evaluation.probabilities[place]):.1f} %"
        if not good:
            caption += f"\nis {evaluation.classes[int(evaluation.labels[place])]}"
        tiles.append(Tile(source.read(index), f"{caption}\n{source.title(index)}", good))
    return tuple(tiles)


def _commands(folder: Path) -> tuple[tuple[str, str], ...]:
    return (
        ("Name what is on pictures", f"vitrail predict {folder}/bundle PICTURE.jpg"),
        ("Make it run without torch, with proof", f"vitrail export {folder} --format onnx"),
        ("Prove it again, on any machine", f"vitrail verify {folder}/bundle"),
        ("Run it again", f"vitrail train {folder}/recipe.yaml --out runs/again"),
    )


def _versions() -> tuple[tuple[str, str], ...]:
    from vitrail.bundle.write import tools

    return tuple(tools(("torch", "numpy", "pillow")).items())
