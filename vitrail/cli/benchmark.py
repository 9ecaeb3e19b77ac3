"""`vitrail benchmark`"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitrail.cli.options import AS_JSON, TRUST, refuse_unwritable

if TYPE_CHECKING:
    from vitrail.verbs.benchmark import BenchmarkResult


Parse = Callable[[Any, click.Parameter | None, click.Context | None], Any]


def _each(parse: Parse) -> Callable[[click.Context, click.Parameter, str], tuple[Any, ...]]:
    """Words, or numbers, with commas between them."""
    return lambda ctx, param, value: tuple(parse(part.strip(), param, ctx) for part in value.split(","))


@click.command("benchmark")
@click.argument("models", metavar="MODEL ...", nargs=-1, required=True)
@click.option(
    "--batch",
    callback=_each(click.IntRange(1).convert),
    metavar="N,N",
    default="1",
    show_default=True,
    help="Batch sizes.",
)
@click.option(
    "--engine",
    callback=_each(click.STRING.convert),
    metavar="NAME,NAME",
    default="auto",
    show_default=True,
    help="What runs a bundle: onnx, openvino, openvino-bf16 ...",
)
@TRUST
@click.option(
    "--optim-level",
    callback=lambda ctx, param, value: (
        None if value is None else _each(click.IntRange(0, 2).convert)(ctx, param, value)
    ),
    metavar="N,N",
    help="0: the engine's optimiser off; 1: graph rewrites; 2: operators and layouts too.",
)
@click.option("--rounds", type=click.IntRange(1), default=100, show_default=True, help="Times that each is timed.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="Of each engine.  [default: every core]")
@click.option("--out", type=click.Path(path_type=Path), metavar="PNG", help="Draw how many times faster each is.")
@AS_JSON
def command(
    models: tuple[str, ...],
    batch: tuple[int, ...],
    engine: tuple[str, ...],
    optim_level: tuple[int, ...] | None,
    rounds: int,
    threads: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Time MODELs on this machine, taking turns: ten rounds to warm up, then 100. Network alone, one batch at a time.

    \b
    vitrail benchmark runs/photos/bundle --engine onnx,openvino --batch 1,8
    vitrail benchmark vit_base_patch16_224 vit_bundle
    """
    from vitrail.cli.render import result
    from vitrail.verbs.benchmark import benchmark

    if out is not None:
        refuse_unwritable(out)
    levels = (None,) if optim_level is None else optim_level
    done = benchmark(models, engines=engine, batches=batch, rounds=rounds, threads=threads, levels=levels)
    lines = _lines(done)
    if out is not None:
        from vitrail.reports.plots import bars

        named = [(f"{row.model} {row.engine}, batch {row.batch}", row.faster) for row in done.rows]
        title = f"Times faster than {done.rows[0].model} on {done.rows[0].engine}, {done.machine['processor']}"
        bars([(name, *found, None) for name, found in named if found is not None], title, out)
        lines.append(f"drawn in {out}")
    result(lines, done.to_json(), as_json=as_json)


def _lines(done: BenchmarkResult) -> list[str]:
    from vitrail.cli.render import table

    rows = [
        [
            row.model,
            row.engine if row.level is None else f"{row.engine} {row.level}",
            str(row.batch),
            *(f"{1000 * seconds:.2f}" for seconds in (row.p50_s, row.p90_s, row.p99_s)),
            f"{row.images_per_s:,.2f}",
            "" if row.faster is None else "{:.2f} ({:.2f} to {:.2f})".format(*row.faster),
            f"{row.first_s:.2f}",
            f"{row.peak_bytes / 1e6:,.0f}",
        ]
        for row in done.rows
    ]
    head = ["model", "engine", "batch", "p50 ms", "p90 ms", "p99 ms", "FPS", "times the first", "first answer s", "MB"]
    versions = ", ".join(f"{name} {version}" for name, version in done.versions.items())
    machine = f"{done.machine['processor']}, {done.machine['threads']} of {done.machine['cores']} cores"
    lines = [*table(rows, head=head, right=(2, 3, 4, 5, 6, 8, 9)), "", f"{done.rounds} rounds; {machine}; {versions}"]
    return [*lines, *(f"level {place}: {meant}" for place, meant in _by_level(done)), *_speeds(done)]


def _by_level(done: BenchmarkResult) -> list[tuple[str, str]]:
    """`0 on onnx`, and what that meant."""
    return [(" on ".join(reversed(place.split(" "))), meant) for place, meant in done.levels.items()]


def _speeds(done: BenchmarkResult) -> list[str]:
    """The lines of the model zoo's speed test, which ran one model at one level: of one row, or of each level."""
    if len(done.rows) > 1 and not done.levels:
        return []
    lines: list[str] = []
    for row in done.rows:
        lines += [] if row.level is None else [f"Using optimization level {row.level}"]
        lines.append(f"FPS: {row.images_per_s:.2f}")
    return lines
