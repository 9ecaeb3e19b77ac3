"""`vitrail data prepare`"""

from __future__ import annotations

from pathlib import Path

import click

from vitrail.cli.options import AS_JSON

WHAT = ("imagenet", "cifar10", "cifar100", "archive")


@click.command("prepare", short_help="Bring a published data set into the layout that opens.")
@click.argument("what", metavar="imagenet|cifar10|cifar100|archive", type=click.Choice(WHAT))
@click.argument("places", metavar="[SRC] DST", nargs=-1, required=True, type=click.Path(path_type=Path))
@AS_JSON
def command(what: str, places: tuple[Path, ...], as_json: bool) -> None:
    """Make the folder DST out of a data set as it is published.

    \b
    imagenet SRC DST   from the folder with ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and the devkit
    cifar10 DST        fetched from its official address, and checked (cifar100 alike)
    archive SRC DST    a zip or tar, compressed or not, unpacked so that nothing reaches outside DST

    Run again after a stop it goes on where it was.
    """
    from vitrail.cli.progress import Counter
    from vitrail.cli.render import result, say
    from vitrail.verbs.data_prepare import data_prepare

    if len(places) > 2:
        raise click.UsageError(f"SRC and DST are two places, {len(places)} are given")
    with Counter(what, bytes=True) as progress:
        done = data_prepare(what, places[-1], src=places[0] if len(places) == 2 else None, progress=progress)
    for note in done.notes:
        say(note)
    result([str(done.path)], done.to_json(), as_json=as_json)
