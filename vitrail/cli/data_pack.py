"""`vitrail data pack`"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from vitrail.cli.options import AS_JSON


@click.command("pack", short_help="Re-encode pictures once into shards that are quick to read.")
@click.argument("src", metavar="SRC")
@click.argument("dst", metavar="DST", type=click.Path(path_type=Path))
@click.option(
    "--short", default=256, show_default=True, help="Short side in pixels; smaller pictures stay as they are."
)
@click.option("--quality", default=90, show_default=True, help="JPEG quality.")
@click.option("--on-bad", type=click.Choice(["error", "skip"]), default="error", show_default=True)
@click.option("--workers", default=2, show_default=True, help="Threads.")
@AS_JSON
def command(
    src: str, dst: Path, short: int, quality: int, on_bad: Literal["error", "skip"], workers: int, as_json: bool
) -> None:
    """Pack the pictures of SRC, as JPEGs of one short side, into tar shards in the folder DST.

    Training from DST decodes less each epoch. Run again after a stop it goes on where it was.
    """
    from vitrail.cli.progress import Counter
    from vitrail.cli.render import result, say
    from vitrail.verbs.data_pack import data_pack

    with Counter("pack") as progress:
        done = data_pack(src, dst, short=short, quality=quality, on_bad=on_bad, workers=workers, progress=progress)
    for note in done.notes:
        say(note)
    values = done.to_json()
    counts = ", ".join(f"{count:,} {part}" for part, count in done.packed.counts.items())
    lines = [f"{counts} pictures in {dst}, {done.packed.bytes / 1e6:,.1f} MB"]
    if done.packed.source_bytes:
        lines[0] += f" from {done.packed.source_bytes / 1e6:,.1f} MB"
    if done.psnr:
        lines.append(f"re-encoding cost: PSNR {done.psnr[0]:.1f} dB in the median, {done.psnr[1]:.1f} dB at worst")
    lines += [f"left out: {name}" for name in done.packed.bad]
    result([*lines, "", f"vitrail train RECIPE --data {dst}"], values, as_json=as_json)
