"""`vitrail evaluate`"""

from __future__ import annotations

from pathlib import Path

import click

from vitrail.cli.options import AS_JSON, DEVICE, ENGINE, MODEL, PART, TRUST, batch
from vitrail.errors import UsageError


@click.command("evaluate")
@MODEL
@click.argument("settings", metavar="[data.key=value policy.key=value ...]", nargs=-1)
@click.option("--data", metavar="DATA", help="Labelled pictures.  [default: a run's own held-out ones]")
@PART
@click.option("--knn", type=click.IntRange(1), metavar="K", help="Ask the K nearest training pictures, by features.")
@click.option("--resize-mode", type=click.Choice(["crop", "squash"]), help="As `policy.mode`: keep the ratio, or not.")
@click.option(
    "--every", type=click.IntRange(1), metavar="N", help="Print `top1 is ...` each N batches, and at the end."
)
@batch(64)
@ENGINE
@TRUST
@DEVICE
@click.option("--out", type=click.Path(path_type=Path), help="Write a CSV file with one row a picture.")
@AS_JSON
def command(
    model: str,
    settings: tuple[str, ...],
    data: str | None,
    part: str,
    knn: int | None,
    resize_mode: str | None,
    every: int | None,
    batch: int,
    engine: str,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure MODEL on labelled pictures: top-1 and top-5 with a 95 % interval, every picture exactly once.

    MODEL may be an evaluation recipe: a YAML file, or the name of a shipped one.

    \b
    vitrail evaluate runs/photos
    vitrail evaluate imagenet/evaluate/vit_base_patch8_224 --data DIR
    vitrail evaluate FILE policy.mode=squash data.class_order=natural --data DIR
    """
    from vitrail.cli.progress import Counter, Every
    from vitrail.cli.render import percent, quality, result, say, table
    from vitrail.recipe.evaluating import evaluation_recipe
    from vitrail.verbs.evaluate import evaluate_as
    from vitrail.verbs.knn import evaluate_knn_as

    if data is None and (of_data := [one for one in settings if one.startswith("data.")]):
        raise UsageError("V001", f"`{of_data[0]}` is a setting of --data, which is absent", hint="give --data DATA")
    if resize_mode is not None:
        settings = _with_mode(settings, resize_mode)
    if every is not None and knn is not None:
        raise UsageError("V001", "--every is of a network's answers, --knn asks neighbours", hint="leave one out")
    wanted = evaluation_recipe(model, data, settings)
    if knn is not None and engine not in ("auto", "torch"):
        raise UsageError("V007", f"engine {engine} gives no features", hint="leave --engine out beside --knn")
    told = None if every is None else Every(every, talk=as_json)
    with Counter("evaluate") as counter:
        if knn is not None:
            done = evaluate_knn_as(wanted, k=knn, part=part, batch=batch, device=device, progress=counter)  # type: ignore[arg-type]
        else:
            done = evaluate_as(
                wanted, part=part, batch=batch, engine=engine, device=device,  # type: ignore[arg-type]
                progress=None if told else counter, running=told,
            )  # fmt: skip
    if told is not None:
        told.end()
    if out is not None:
        done.write_rows(out)
    for note in done.source.notes:
        say(note)
    values = done.to_json()
    lines = [f"{done.place}, part: {done.part}", *quality(values)]
    if done.knn is not None:
        lines[1:1] = [f"by the {knn} nearest of {done.knn['bank']:,} training pictures, by their features"]
    rows = sorted(done.evaluation.per_class, key=lambda row: row.f1)
    if len(rows) > 20:
        rows = [*rows[:10], *rows[-5:]]
        lines += ["", f"the 10 worst and 5 best of {len(done.evaluation.classes)} classes by F1:"]
    cells = [[row.name, str(row.support), percent(row.precision), percent(row.recall), f"{row.f1:.4f}"] for row in rows]
    lines += ["", *table(cells, head=["class", "pictures", "precision", "recall", "F1"], right=[1, 2, 3, 4])]
    if out is not None:
        lines += ["", f"one row a picture in {out}"]
    result(lines, values, as_json=as_json)


def _with_mode(settings: tuple[str, ...], mode: str) -> tuple[str, ...]:
    if any(setting.partition("=")[0].strip() == "policy.mode" for setting in settings):
        raise UsageError("V001", "--resize-mode and policy.mode say the same", hint="give one of them")
    return (*settings, f"policy.mode={mode}")
