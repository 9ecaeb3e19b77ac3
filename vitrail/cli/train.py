"""`vitrail train`"""

from __future__ import annotations

import click

from vitrail.cli.options import AS_JSON, DEVICE, RECIPE
from vitrail.cli.words import on_device, recipe_of, shorthand_options
from vitrail.errors import UsageError


@click.command("train")
@RECIPE
@shorthand_options
@click.option("--out", metavar="DIR", help="Run folder, or s3://... to copy it to.  [default: runs/RECIPE-NAME]")
@click.option("--time", "limit", metavar="30m", help="End well when this time has passed: stands for train.time=30m.")
@click.option("--resume", is_flag=True, help="Go on from the newest good checkpoint, to the same bits.")
@click.option("--strict", is_flag=True, help="With --resume: do not pass over a damaged checkpoint.")
@click.option(
    "--allow-drift",
    metavar="FIELD",
    multiple=True,
    help="With --resume: go on where FIELD (torch, machine, train.threads ...) changed, to other bits.",
)
@DEVICE
@AS_JSON
def command(
    words: tuple[str, ...],
    model: str | None,
    weights: str | None,
    data: str | None,
    out: str | None,
    limit: str | None,
    resume: bool,
    strict: bool,
    device: str,
    allow_drift: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train a RECIPE (a shipped name or a file), or a model on a folder of pictures.

    \b
    vitrail train digits/cct_2_3x2_32
    vitrail train cifar10/cct_2_3x2_32 data.root=DIR train.seed=1 --out runs/cifar
    vitrail train --model cct_7_3x1_32 --data PHOTOS --out runs/photos
    vitrail train --model vit_tiny_patch16_224 --weights FILE --data PHOTOS
    vitrail train --resume --out runs/photos
    """
    from vitrail.cli.progress import Progress
    from vitrail.cli.render import quality, result, speed
    from vitrail.ranks import world
    from vitrail.verbs.train import train

    if (strict or allow_drift) and not resume:
        flag = "--strict" if strict else "--allow-drift"
        raise UsageError("V001", f"{flag} is of a resumed run, and --resume is absent", hint="give both, or none")
    asked = on_device(words, device)
    recipe, overrides = recipe_of(asked, model=model, weights=weights, data=data, out=out, resume=resume)
    overrides += [] if limit is None else [f"train.time={limit}"]
    with Progress() as progress:
        done = train(
            recipe, overrides, out=out, resume=resume, strict=strict, allow_drift=allow_drift, listener=progress
        )
    if world().rank:  # of several ranks the first one speaks
        return
    values = done.to_json()
    lines = [
        *quality(done.quality),
        *speed(done.speed),
        f"run     {done.folder}",
        f"bundle  {done.bundle}",
        f"page    {done.page}",
    ]
    result(lines, values, as_json=as_json)
