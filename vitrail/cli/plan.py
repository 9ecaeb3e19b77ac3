"""`vitrail plan`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitrail.cli.options import AS_JSON, DEVICE, RECIPE, refuse_unwritable
from vitrail.cli.words import on_device, recipe_of, shorthand_options
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from vitrail.training.lr_range import LrRange
    from vitrail.verbs.plan import PlanResult

ROWS = 12  # of the table of rates


@click.command("plan")
@RECIPE
@shorthand_options
@click.option("--lr-range", is_flag=True, help="Also try rising learning rates on real batches, and suggest one.")
@click.option("--largest-batch", is_flag=True, help="Also find the largest batch that memory bears.")
@click.option("--out", type=click.Path(path_type=Path), metavar="PNG", help="With --lr-range: draw it.")
@DEVICE
@AS_JSON
def command(
    words: tuple[str, ...],
    model: str | None,
    weights: str | None,
    data: str | None,
    lr_range: bool,
    largest_batch: bool,
    out: Path | None,
    device: str,
    as_json: bool,
) -> None:
    """Say what a run of RECIPE would take: steps, memory, time, disk, and what bounds it. A few steps are measured.

    \b
    vitrail plan digits/cct_2_3x2_32
    vitrail plan cifar10/cct_2_3x2_32 data.root=DIR --lr-range --out rates.png
    vitrail plan --model cct_7_3x1_32 --data PHOTOS --largest-batch
    """
    from vitrail.cli.progress import Counter
    from vitrail.cli.render import result, say
    from vitrail.verbs.plan import plan

    if out is not None and not lr_range:
        raise UsageError("V001", "--out draws the rates of --lr-range, which is absent", hint="give both, or none")
    if out is not None:
        refuse_unwritable(out)
    recipe, overrides = recipe_of(on_device(words, device), model=model, weights=weights, data=data)
    say("a few steps are measured, of a large network for minutes")
    with Counter("rates") as counter:
        done = plan(recipe, overrides, lr_range=lr_range, largest_batch=largest_batch, progress=counter)
    for note in done.notes:
        say(note)
    lines = _lines(done)
    if done.largest_batch is not None:
        lines += ["", _largest(done)]
    if done.lr_range is not None:
        lines += ["", *_rates(done.lr_range)]
        if out is not None:
            from vitrail.reports.plots import rates

            rates([(one.lr, one.loss, one.smoothed) for one in done.lr_range.tried], done.lr_range.suggested, out)
            lines.append(f"drawn in {out}")
    result(lines, done.to_json(), as_json=as_json)


def _lines(done: PlanResult) -> list[str]:
    recipe, size = done.recipe, done.bytes
    attention = f"attention {recipe.train.attention}"
    accumulated = f", in {recipe.train.accumulate} parts" if recipe.train.accumulate > 1 else ""
    per_epoch = "an unknown number" if done.steps_per_epoch is None else f"{done.steps_per_epoch:,}"
    passes = "" if done.epochs is None else f": {done.epochs:g} epochs of {per_epoch}"
    length = "unknown steps" if done.steps is None else f"{done.steps:,} steps"
    teacher = f", teacher {_bytes(size.teacher)}" if size.teacher else ""
    average = f", average {_bytes(size.average)}" if size.average else ""
    data = (
        "not timed: no pictures" if done.data_s is None else f"{_seconds(done.data_s)} a batch, made beside the steps"
    )
    where = "on one device" if " x " in recipe.origins.get("data.batch", "") else "all devices together"
    return [
        f"{recipe.name}: {recipe.variant} on {done.device}, {recipe.precision}, {attention}",
        f"length       {length}{passes}",
        f"batch        {recipe.data.batch:,} pictures a step, {where}{accumulated}",
        f"parameters   {done.trained:,} of {done.parameters:,} are trained",
        f"memory       {_bytes(size.total)} of {_bytes(done.free)} free",
        f"             weights {_bytes(size.weights)}{teacher}, gradients {_bytes(size.gradients)}, "
        f"optimizer {_bytes(size.optimizer)}{average}, activations {_bytes(size.activations)}",
        f"step         {_seconds(done.step_s)}, {_rate(recipe.data.batch / done.step_s)} pictures/s",
        f"data         {data}",
        f"in all       {'unknown' if done.eta_s is None else _seconds(done.eta_s)}, evaluations included",
        f"checkpoints  {_bytes(done.checkpoint_bytes)} each, at most {done.checkpoints} on the disk",
        f"bound by     {done.bound_by}: {'; '.join(done.advice)}",
    ]


def _largest(done: PlanResult) -> str:
    if not done.largest_batch:
        return "largest batch: memory does not bear one picture; choose a smaller variant"
    return (
        f"largest batch: data.batch={done.largest_batch} is the most that goes through at once, by memory "
        "and pictures; the learning rate is to suit it"
    )


def _rates(found: LrRange) -> list[str]:
    from vitrail.cli.render import table

    tried = found.tried
    places = sorted({round(i * (len(tried) - 1) / (ROWS - 1)) for i in range(ROWS)})
    cells = [[f"{tried[i].lr:.2e}", f"{tried[i].loss:.4f}", f"{tried[i].smoothed:.4f}"] for i in places]
    end = f"; the loss burst at {tried[-1].lr:.2e}" if found.burst else ""
    said = "no rate is suggested: the loss did not fall" if found.suggested is None else (
        f"suggested: schedule.lr={found.suggested:.1e}, a tenth of where the smoothed loss was least"
    )  # fmt: skip
    return [*table(cells, head=["rate", "loss", "smoothed"], right=[0, 1, 2]), "", f"{said}{end}"]


def _bytes(count: float) -> str:
    """`1.5 GB`"""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 1000 * size else f"{count / size:,.0f} {unit}"
    return f"{count:.0f} B"


def _rate(count: float) -> str:
    """`1,234`, `0.05`"""
    return f"{count:,.0f}" if count >= 10 else f"{count:.2g}"


def _seconds(count: float) -> str:
    """`12 min 30 s`"""
    if count < 60:
        return f"{count:.2g} s" if count < 1 else f"{count:.1f} s"
    minutes, seconds = divmod(round(count), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min {seconds} s"
