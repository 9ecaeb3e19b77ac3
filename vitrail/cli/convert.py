"""`vitrail convert`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vitrail.cli.options import AS_JSON, Size
from vitrail.errors import UsageError

HEADS = ("auto", "zero", "first-k", "keep")


@click.command("convert")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="[DST]", required=False)
@click.option("--model", metavar="NAME", help="The variant that SRC is.  [default: detected]")
@click.option("--dialect", metavar="NAME|YAML", help="The names in SRC, or a file of your own.  [default: detected]")
@click.option("--to", metavar="NAME|YAML", help="The names to write.  [default: the usual ones of DST's suffix]")
@click.option("--classes", type=click.IntRange(0), metavar="N", help="Another number of classes.")
@click.option(
    "--head", type=click.Choice(HEADS), default="auto", show_default=True, help="What the last layer becomes."
)
@click.option("--image-size", type=Size(), metavar="N|HxW", help="Fit the positions to another size of pictures.")
@click.option("--channels", type=click.IntRange(1), metavar="N", help="Fit the first layer to another number.")
@click.option("--base", metavar="MODEL", help="Merge the adapters in SRC into the weights they were trained on.")
@click.option("--suggest", is_flag=True, help="Print a first dialect file for the names in SRC; nothing is written.")
@AS_JSON
def command(
    source: str,
    target: str | None,
    model: str | None,
    dialect: str | None,
    to: str | None,
    classes: int | None,
    head: Any,
    image_size: tuple[int, int] | None,
    channels: int | None,
    base: str | None,
    suggest: bool,
    as_json: bool,
) -> None:
    """Write weights for another world, and prove it: what was written is read back and compared to the bit.

    SRC is any MODEL or weight file. DST's suffix names the container: .safetensors .npz .pth .ckpt .h5 .weights.h5, or
    none for a folder that transformers opens.
    """
    from vitrail.cli.render import result, say
    from vitrail.verbs.convert import Wanted, convert, suggested

    if suggest:
        text = suggested(source, model=model)
        result(text.splitlines(), {"dialect": text}, as_json=as_json)
        return
    if target is None:
        raise UsageError("V001", "DST is missing", hint="`vitrail convert SRC DST`, or `--suggest` without one")
    wanted = Wanted(
        model=model, dialect=dialect, classes=classes, head=head, image_size=image_size, channels=channels, base=base
    )  # fmt: skip
    done = convert(source, Path(target), to=to, wanted=wanted)
    for line in done.read:
        say(line)
    for line in done.lost:
        say(f"warning: {line}")
    result([f"{done.target}", done.line()], done.to_json(), as_json=as_json)
