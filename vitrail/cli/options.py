"""Options that mean the same in every verb."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from vitrail.errors import UsageError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Size(click.ParamType[tuple[int, int]]):
    """`224` or `224x320`, height first."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        sides = str(value).split("x")
        if len(sides) not in (1, 2) or not all(side.isdecimal() and int(side) for side in sides):
            self.fail(f"`{value}` is no size: 224, or 224x320 with the height first", param, ctx)
        return int(sides[0]), int(sides[-1])


def _models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from vitrail.models.catalog import VARIANTS

    names = [CompletionItem(name) for name in VARIANTS if name.startswith(incomplete)]
    return [*names, CompletionItem(incomplete, type="file")]


def _recipes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from vitrail.recipe import recipe_names

    names = [CompletionItem(name) for name in recipe_names() if name.startswith(incomplete)]
    return [*names, CompletionItem(incomplete, type="file")]


MODEL = click.argument("model", metavar="MODEL", shell_complete=_models)
RECIPE = click.argument("words", metavar="[RECIPE] [dotted.key=value ...]", nargs=-1, shell_complete=_recipes)
AS_JSON: Decorator = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def batch(default: int) -> Decorator:
    """`--batch`"""
    return click.option(
        "--batch", type=click.IntRange(1), default=default, show_default=True, help="Pictures computed at a time."
    )


PART: Decorator = click.option(
    "--part",
    type=click.Choice(["auto", "all", "held-out", "train"]),
    default="auto",
    show_default=True,
    help="Which pictures of DATA; auto: the held-out ones, or all where DATA has no split.",
)
ENGINE: Decorator = click.option(
    "--engine",
    metavar="ENGINE",
    default="auto",
    show_default=True,
    help="What runs a bundle: onnx, openvino, torch ... `openvino-bf16`, or a graph that `show` names.",
)


def _trusting(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from vitrail.engines.trust import trusting

        ctx.with_resource(trusting())


TRUST: Decorator = click.option(
    "--trust",
    is_flag=True,
    expose_value=False,
    callback=_trusting,
    help="Run programs (torchscript, torch-export, aoti) that were made elsewhere.",
)
DEVICE: Decorator = click.option(
    "--device",
    metavar="DEVICE",
    default="auto",
    show_default=True,
    help="cpu, cuda, cuda:3, mps, xpu or npu:0; auto: the accelerator where there is one.",
)


def refuse_unwritable(out: Path) -> None:
    """UsageError V001 before anything is measured: it would be lost with the picture."""
    if out.suffix.lower() != ".png":
        raise UsageError("V001", f"--out is `{out}`, and draws a PNG", hint="name a file that ends in .png")
    if out.is_dir():
        raise UsageError("V001", f"--out is `{out}`, which is a folder", hint="name a file that ends in .png")
    if not out.parent.is_dir():
        raise UsageError("V001", f"--out is `{out}`, and `{out.parent}` is no folder", hint="make the folder first")
