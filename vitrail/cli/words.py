"""From the words of `train` and `plan` to a recipe and its overrides."""

from __future__ import annotations

from collections.abc import Sequence

import click

from vitrail.cli.options import Decorator
from vitrail.errors import UsageError
from vitrail.opening import RECIPE_FILE

_OPTIONS = (
    click.option("--data", metavar="DATA", help="Pictures: stands for data.root=DATA, the source detected."),
    click.option("--weights", metavar="MODEL", help="Weights to start from: a file, a run, a bundle, a name."),
    click.option("--model", metavar="VARIANT", help="Without a recipe: what to train (`vitrail show models`)."),
)


def shorthand_options(command: Decorator) -> Decorator:
    """`--model`, `--weights` and `--data`, which stand for keys of a recipe."""
    for option in _OPTIONS:
        command = option(command)
    return command


def on_device(words: Sequence[str], device: str) -> list[str]:
    """The words, with what `--device` stands for."""
    return list(words) if device == "auto" else [*words, f"train.device={device}"]


def recipe_of(
    words: Sequence[str],
    *,
    model: str | None,
    weights: str | None,
    data: str | None,
    out: str | None = None,
    resume: bool = False,
) -> tuple[str, list[str]]:
    """The recipe and its overrides that this command line asks for."""
    from vitrail.verbs.mirror import bring_back, local_folder
    from vitrail.verbs.train import no_recipe_given, shorthand

    names = [word for word in words if "=" not in word]
    overrides = [word for word in words if "=" in word]
    if len(names) > 1:
        raise UsageError("V001", f"two recipes are named: `{names[0]}` and `{names[1]}`", hint="overrides hold a `=`")
    given = [*shorthand(model, weights, data), *overrides]
    if names:
        return names[0], given
    if resume and out is not None:
        bring_back(out)
        if (local_folder(out) / RECIPE_FILE).is_file():
            return str(local_folder(out) / RECIPE_FILE), given
    if resume and model is None:
        where = "--resume needs --out" if out is None else f"no run lies in `{out}`"
        raise UsageError("V001", where, hint="name the run folder with --out, or the RECIPE it was started with")
    if model is None or data is None:
        raise no_recipe_given()
    return "folder/finetune" if weights else "folder/scratch", given
