"""`vitrail compare`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vitrail.cli.options import AS_JSON, ENGINE, PART, TRUST

if TYPE_CHECKING:
    from vitrail.verbs.compare import CompareResult


@click.command("compare")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--data", metavar="DATA", help="Pictures beside the 64 generated ones; of labelled ones also accuracy.")
@PART
@click.option(
    "--bound",
    type=click.FloatRange(0),
    metavar="X",
    help="The greatest difference of a logit that counts as the same.  [default: 0.001]",
)
@ENGINE
@TRUST
@click.option("--engine-b", metavar="ENGINE", help="What runs B.  [default: as --engine]")
@AS_JSON
def command(
    first: str,
    second: str,
    data: str | None,
    part: str,
    bound: float | None,
    engine: str,
    engine_b: str | None,
    as_json: bool,
) -> None:
    """Ask two MODELs of the same pictures: the greatest difference of a logit, the decisions that changed, the accuracy
    of both, and whether chance alone makes one the better (McNemar's exact test). Exit code 5 when they differ.

    \b
    vitrail compare runs/photos runs/photos/bundle --engine-b openvino
    vitrail compare runs/a runs/b --data PHOTOS --bound 100
    """
    from vitrail.cli.progress import Counter
    from vitrail.cli.render import result, say
    from vitrail.evaluation.compare import BOUND
    from vitrail.verbs.compare import compare

    engines = engine, engine_b or engine
    with Counter("compare") as counter:
        done = compare(
            first, second, data=data, part=part, bound=BOUND if bound is None else bound, engines=engines,  # type: ignore[arg-type]
            progress=counter,
        )  # fmt: skip
    for note in done.notes:
        say(note)
    result(_lines(done), done.to_json(), as_json=as_json)
    done.raise_if_differ()


def _lines(done: CompareResult) -> list[str]:
    from vitrail.cli.render import percent, table

    found = done.comparison
    head = ["", "model", "engine", "p50"]
    rows = [
        [letter, side.name, side.engine, f"{1000 * side.p50_s:.1f} ms"]
        for letter, side in zip("AB", done.sides, strict=True)
    ]
    if found.labelled:
        head += ["top-1", "95 % interval", "right alone"]
        for row, correct, (low, high), alone in zip(rows, found.correct, found.intervals, found.alone, strict=True):
            row += [percent(correct / found.labelled), f"{percent(low)} to {percent(high)}", f"{alone:,}"]
    norms = " and ".join(f"{norm:.6f}" for norm in found.norms)
    of_data = "" if done.part is None else f", {done.part}"
    lines = [
        *table(rows, head=head, right=(3, 4, 6)),
        "",
        f"logits     max difference {found.max_dlogit:.1e}, bound {found.bound:.1e}; norms {norms}",
        f"decisions  {len(found.changed):,} of {found.pictures:,} changed "
        f"({done.generated} generated pictures, {found.pictures - done.generated:,} of data{of_data})",
    ]
    if found.labelled:
        lines.append(f"McNemar    p = {found.p_value:.3g} (exact, two-sided)")
    return lines
