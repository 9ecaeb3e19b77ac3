"""`vitrail evaluate`"""

from __future__ import annotations

from pathlib import Path

import click

from vitrail.cli.options import AS_JSON, DEVICE, ENGINE, MODEL, batch
from vitrail.errors import UsageError


@click.command("evaluate")
@MODEL
@click.argument("settings", metavar="[data.key=value ...]", nargs=-1)
@click.option("--data", metavar="DATA", help="Labelled pictures.  [default: a run's own held-out ones]")
@click.option(
    "--part",
    type=click.Choice(["auto", "all", "held-out", "train"]),
    default="auto",
    show_default=True,
    help="Which pictures of DATA; auto: the held-out ones, or all where DATA has no split.",
)
@batch(64)
@ENGINE
@DEVICE
@click.option("--out", type=click.Path(path_type=Path), help="Write a CSV file with one row a picture.")
@AS_JSON
def command(
    model: str,
    settings: tuple[str, ...],
    data: str | None,
    part: str,
    batch: int,
    engine: str,
    device: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure MODEL on labelled pictures: top-1 and top-5 with a 95 % interval, every picture exactly once."""
    from vitrail.cli.progress import Counter
    from vitrail.cli.render import percent, quality, result, say, table
    from vitrail.recipe.read import data_settings
    from vitrail.verbs.evaluate import evaluate

    if settings and data is None:
        raise UsageError("V001", f"`{settings[0]}` is a setting of --data, which is absent", hint="give --data DATA")
    wanted = data_settings(data, settings) if data is not None and settings else data
    with Counter("evaluate") as counter:
        done = evaluate(model, wanted, part=part, batch=batch, engine=engine, device=device, progress=counter)  # type: ignore[arg-type]
    if out is not None:
        done.write_rows(out)
    for note in done.source.notes:
        say(note)
    values = done.to_json()
    lines = [f"{done.place}, part: {done.part}", *quality(values)]
    rows = sorted(done.evaluation.per_class, key=lambda row: row.f1)
    if len(rows) > 20:
        rows = [*rows[:10], *rows[-5:]]
        lines += ["", f"the 10 worst and 5 best of {len(done.evaluation.classes)} classes by F1:"]
    cells = [[row.name, str(row.support), percent(row.precision), percent(row.recall), f"{row.f1:.4f}"] for row in rows]
    lines += ["", *table(cells, head=["class", "pictures", "precision", "recall", "F1"], right=[1, 2, 3, 4])]
    if out is not None:
        lines += ["", f"one row a picture in {out}"]
    result(lines, values, as_json=as_json)
