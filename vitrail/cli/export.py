"""`vitrail export`"""

from __future__ import annotations

from pathlib import Path

import click

from vitrail.cli.options import AS_JSON, MODEL


@click.command("export")
@MODEL
@click.option("--format", "format", type=click.Choice(["onnx"]), default="onnx", show_default=True, help="The graph.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Bundle.  [default: that of a run or bundle]"
)
@click.option("--data", metavar="DATA", help="Pictures for the proof.  [default: a run's own held-out ones]")
@AS_JSON
def command(model: str, format: str, out: Path | None, data: str | None, as_json: bool) -> None:
    """Write MODEL for an engine into a bundle, with a measured proof. A failed proof leaves nothing behind."""
    from vitrail.cli.render import result, say
    from vitrail.verbs.export import export

    done = export(model, out, format=format, data=data)
    for note in done.notes:
        say(f"warning: {note}")
    result([f"{done.engine} in {done.folder}", done.line()], done.to_json(), as_json=as_json)
