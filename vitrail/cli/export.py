"""`vitrail export`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitrail.bundle.formats import FORMATS, MAX_DROP, PRECISIONS, TAKES, Form, Precision, Takes
from vitrail.cli.options import AS_JSON, MODEL, Size
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.bundle.manifest import Licences
    from vitrail.models.classifier import Classifier


@click.command("export")
@MODEL
@click.option(
    "--format", "format", type=click.Choice([*FORMATS]), default="onnx", show_default=True, help="What is written."
)
@click.option(
    "--precision", type=click.Choice(PRECISIONS), default="fp32", show_default=True, help="What it computes in."
)
@click.option("--batch", metavar="N|free", default="free", show_default=True, help="How many pictures at once.")
@click.option(
    "--input",
    "takes",
    type=click.Choice(TAKES),
    default="images",
    show_default=True,
    help="images: float32, normalised. pixels: 8 bits, normalised inside.",
)
@click.option("--top", type=click.IntRange(1), metavar="K", help="Name the K best classes in the graph, too.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Bundle.  [default: that of a run or bundle]"
)
@click.option("--image-size", type=Size(), metavar="N|HxW", help="Fit the positions to another size of pictures.")
@click.option("--data", metavar="DATA", help="Pictures for the proof.  [default: a run's own held-out ones]")
@click.option(
    "--max-drop",
    type=click.FloatRange(min=0),
    metavar="POINTS",
    help=f"Top-1 that int8 may cost.  [default: {MAX_DROP}]",
)
@click.option(
    "--licence",
    "licences",
    multiple=True,
    metavar="weights=SPDX|data=SPDX",
    help="Terms of use, where the model states none.",
)
@AS_JSON
def command(
    model: str,
    format: str,
    precision: Precision,
    batch: str,
    takes: Takes,
    top: int | None,
    out: Path | None,
    image_size: tuple[int, int] | None,
    data: str | None,
    max_drop: float | None,
    licences: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write MODEL for an engine into a bundle, with a measured proof. A failed proof leaves nothing behind.

    \b
    vitrail export runs/photos --format openvino --precision bf16
    vitrail export runs/photos --format openvino --precision int8 --max-drop 0.5
    vitrail export vit_base_patch16_224 --format onnx --input pixels --batch 1 --out vit
    vitrail export runs/photos --licence weights=MIT --licence data=CC-BY-4.0
    """
    from vitrail.cli.render import result, say
    from vitrail.verbs.export import export, sized

    if batch != "free" and not batch.isdecimal():
        raise UsageError("V001", f"--batch is `{batch}`", hint="give a number, or `free`")
    form = Form(precision, takes, None if batch == "free" else int(batch), top)
    source: str | Classifier = model
    if image_size is not None:
        fitted = sized(model, image_size)
        for line in fitted.report:
            say(line)
        source = fitted.classifier
        if data is None:
            say("a network of another size is proven by generated pictures alone: --data names more")
    done = export(source, out, format=format, form=form, data=data, max_drop=max_drop, licences=_licences(licences))
    for note in done.notes:
        say(note)
    result(done.lines(), done.to_json(), as_json=as_json)


def _licences(given: tuple[str, ...]) -> Licences:
    from vitrail.bundle.manifest import Licences

    told: dict[str, str] = {}
    for text in given:
        part, _, licence = text.partition("=")
        if part not in ("weights", "data") or not licence or part in told:
            raise UsageError("V001", f"--licence is `{text}`", hint="once weights=SPDX, and once data=SPDX")
        told[part] = licence
    return Licences(**told)
