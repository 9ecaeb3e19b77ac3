"""`vitrail show`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vitrail.cli.options import AS_JSON


@click.command("show")
@click.argument("subject", metavar="models|recipes|datasets|RECIPE|MODEL|DATA")
@click.option(
    "--pictures",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write some held-out pictures of DATA, or a sheet of pictures as RECIPE augments them.",
)
@click.option("--data", metavar="DATA", help="The pictures that RECIPE augments, where it names none.")
@AS_JSON
def command(subject: str, pictures: Path | None, data: str | None, as_json: bool) -> None:
    """Say what a list, a recipe, a model or a source of pictures holds."""
    from vitrail.cli.render import result
    from vitrail.verbs.show import show, show_pictures

    if pictures is not None:
        written = show_pictures(subject, pictures, data=data)
        result([str(path) for path in written], [str(path) for path in written], as_json=as_json)
        return
    shown = show(subject)
    lines = shown.text.splitlines() if shown.text else _lines(shown.what, shown.values)
    result(lines, shown.values, as_json=as_json)


def _lines(what: str, values: Any) -> list[str]:
    from vitrail.cli.render import table

    if what == "models":
        rows = [
            [
                row["name"],
                row["family"],
                " x ".join(map(str, row["image_size"])),
                str(row["classes"]),
                f"{row['parameters']:,}",
                f"{row['macs'] / 1e6:,.1f} M",
            ]
            for row in values
        ]
        return table(rows, head=["name", "family", "pixels", "classes", "parameters", "MACs"], right=[2, 3, 4, 5])
    if what in ("recipes", "datasets"):
        return table([[row["name"], row["about"]] for row in values], head=["name", "about"])
    if what == "data":
        rows = [[row["name"], str(row["training"]), str(row["held_out"])] for row in values["classes"]]
        return [*values["notes"], "", *table(rows, head=["class", "training", "held out"], right=[1, 2])]
    return _model(values)


def _model(values: dict[str, Any]) -> list[str]:
    lines = []
    for key, value in values.items():
        if value in (None, "", []):
            continue
        if key == "report":
            lines += ["found:", *(f"  {line}" for line in value)]
        elif key == "measured":
            lines += ["measured:", *(f"  top-1 {row['top1']} %, by {row['by']}" for row in value)]
        elif isinstance(value, dict):
            lines.append(f"{key}:")
            lines += [f"  {name}: {inner}" for name, inner in value.items()]
        elif isinstance(value, list) and len(value) > 20:
            lines.append(f"{key}: {', '.join(map(str, value[:20]))} and {len(value) - 20} more (--json lists all)")
        elif isinstance(value, list):
            lines.append(f"{key}: {', '.join(map(str, value))}")
        else:
            number = isinstance(value, int) and not isinstance(value, bool)
            lines.append(f"{key}: {value:,}" if number else f"{key}: {value}")
    return lines
