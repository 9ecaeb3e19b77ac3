"""`vitrail offline`: the noun group of the model zoo's offline flow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vitrail.cli.options import AS_JSON, DEVICE, ENGINE, MODEL, PART, TRUST

DATASET = click.option(
    "--dataset",
    type=click.Choice(["cifar10", "imagenet2012"], case_sensitive=False),
    required=True,
    help="Whose files: records and label files of the ViT package, or the CCT package's table of labels.",
)
SETTINGS = click.argument("settings", metavar="[policy.key=value data.key=value ...]", nargs=-1)
FOLDER = click.Path(path_type=Path)


def over_data(function: Callable[..., None]) -> Callable[..., None]:
    """What is asked of a model that runs over DATA into OUT."""
    data, out = click.argument("data", metavar="DATA"), click.argument("out", metavar="OUT", type=FOLDER)
    for one in (AS_JSON, DEVICE, TRUST, ENGINE, PART, DATASET, SETTINGS, out, data, MODEL):  # the last one stands first
        function = one(function)
    return function


@click.group("offline", no_args_is_help=True)
def command() -> None:
    """Pictures packed into files, a model run over them alone, its answers scored: as the model zoo's 310 scripts."""


@command.command("pack", short_help="Write pictures and labels as an inference program reads them.")
@click.argument("data", metavar="DATA")
@click.argument("out", metavar="OUT", type=FOLDER)
@SETTINGS
@DATASET
@click.option("--model", metavar="MODEL", help="Whose policy and classes; else `policy.size`, `mean` and `std` do.")
@PART
@AS_JSON
def pack(data: str, out: Path, settings: tuple[str, ...], as_json: bool, **words: Any) -> None:
    """Pack the pictures of DATA into the new folder OUT: `img_data` and `label`, or `imagenet_label.json`.

    \b
    vitrail offline pack /dataset/cifar10 preprocess_Result --dataset cifar10 --model vit_bundle
    """
    from vitrail.cli.progress import Counter
    from vitrail.cli.render import result, say
    from vitrail.verbs.offline import offline_pack

    with Counter("pack") as progress:
        done = offline_pack(data, out, settings=settings, progress=progress, **words)
    for note in done.notes:
        say(note)
    bar = "=" * 20
    records = done.packed.dataset == "cifar10"
    line = (
        f"{bar} export bin files finished {bar}" if records else f"[INFO] Completed! Total {done.packed.pictures} data."
    )
    result([line], done.to_json(), as_json=as_json)


@command.command("infer", short_help="Run a model over packed pictures, one by one.")
@over_data
def infer(model: str, data: str, out: Path, settings: tuple[str, ...], as_json: bool, **words: Any) -> None:
    """Write the answers of MODEL to OUT/result_Files, and the mean time of one to OUT/time_Result.

    DATA is a folder of records for cifar10, and the pictures themselves for imagenet2012.
    """
    from vitrail.cli.progress import Counter
    from vitrail.cli.render import result, say
    from vitrail.verbs.offline import offline_infer

    with Counter("infer") as progress:
        done = offline_infer(model, data, out, settings=settings, progress=progress, **words)
    for note in done.notes:
        say(note)
    result([done.inferred.line()], done.to_json(), as_json=as_json)


@command.command("score", short_help="Compare result files with labels.")
@click.argument("results", metavar="RESULT_FILES", type=FOLDER)
@click.argument("labels", metavar="LABELS", type=FOLDER)
@click.option("--out", type=FOLDER, metavar="FILE", help="The log.  [default: acc.log beside RESULT_FILES]")
@AS_JSON
def score(results: Path, labels: Path, out: Path | None, as_json: bool) -> None:
    """Print how many of RESULT_FILES are right, in the packages' words, and write them to `acc.log`.

    LABELS is `imagenet_label.json`, a folder of label files, or the packed folder. Every label needs its result.
    """
    from vitrail.cli.render import result
    from vitrail.verbs.offline import offline_score

    done = offline_score(results, labels, out=out)
    result(done.scored.lines(), done.to_json(), as_json=as_json)


@command.command("run", short_help="Pack, infer and score in one go.")
@over_data
def run(model: str, data: str, out: Path, settings: tuple[str, ...], as_json: bool, **words: Any) -> None:
    """Pack DATA, run MODEL over it and score its answers, all in the folder OUT; the first failing step ends it.

    \b
    vitrail offline run vit_bundle /dataset/cifar10 offline --dataset cifar10
    vitrail offline run cct_bundle data/imagenet/val offline --dataset imagenet2012 policy.crop=0.875
    """
    from vitrail.cli.progress import Counter
    from vitrail.cli.render import result, say
    from vitrail.verbs.offline_run import offline_run

    with Counter("offline") as progress:
        done = offline_run(model, data, out, settings=settings, progress=progress, say=say, **words)
    for note in done.notes:
        say(note)
    result([done.inferred.line(), *done.score.scored.lines()], done.to_json(), as_json=as_json)
