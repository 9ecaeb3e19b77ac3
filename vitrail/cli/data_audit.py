"""`vitrail data audit`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitrail.cli.options import AS_JSON, TRUST

if TYPE_CHECKING:
    from vitrail.data.audit import Audit
    from vitrail.pictures.policy import Policy

SHOWN = 5  # cases of a finding on screen


@click.command("audit", short_help="Say what is wrong with pictures and labels.")
@click.argument("data", metavar="DATA")
@click.option("--val", metavar="DATA", help="Another place for the held-out pictures.")
@click.option("--model", metavar="MODEL", help="Also name pictures that this model says are mislabelled.")
@click.option("--policy-from", metavar="MODEL", help="Hold sizes against what this model does to pictures.")
@click.option("--size", type=click.IntRange(1), help="... or against this many pixels a side.  [default: 224]")
@click.option("--mode", type=click.Choice(["crop", "squash", "pad"]), help="... and this resize mode.  [default: crop]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for audit.html, audit.json, contact sheets.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Threads that read pictures.")
@TRUST
@AS_JSON
def command(
    data: str,
    val: str | None,
    model: str | None,
    policy_from: str | None,
    size: int | None,
    mode: str | None,
    out: Path | None,
    workers: int,
    as_json: bool,
) -> int:
    """Look at every picture of DATA and say what is wrong, the worst first: broken, leaked into the held-out part,
    under two labels, doubled, blank, cut apart by the resize mode. Unchanged files are not read again.

    The exit code is 2 when pictures cannot be read, else 0.
    """
    from vitrail.cli.progress import Counter
    from vitrail.cli.render import result, say
    from vitrail.verbs.data_audit import data_audit, write_audit
    from vitrail.verbs.outside import refuse_inside

    if out is not None:
        refuse_inside(out, data, val)
    policy = _policy(policy_from, size, mode)
    with Counter("audit") as counter:
        done = data_audit(data, val=val, model=model, policy=policy, workers=workers, progress=counter)
    for note in done.source.notes:
        say(note)
    lines = _lines(done)
    if out is not None:
        lines += ["", f"page  {write_audit(done, out)}"]
    result(lines, done.to_json(), as_json=as_json)
    return 2 if done.of("broken") else 0


def _policy(policy_from: str | None, size: int | None, mode: str | None) -> Policy | None:
    from vitrail.errors import UsageError
    from vitrail.verbs.data_audit import SIZE, plain_policy, policy_of

    if policy_from is not None and (size, mode) != (None, None):
        raise UsageError("V001", "--policy-from excludes --size and --mode", hint="give one or the other")
    if policy_from is not None:
        return policy_of(policy_from)
    return None if (size, mode) == (None, None) else plain_policy(size or SIZE, mode or "crop")  # type: ignore[arg-type]


def _lines(done: Audit) -> list[str]:
    lines = []
    for one in done.findings:
        lines.append(f"{one.weight:7}  {one.what}")
        for row in one.rows[:SHOWN]:
            names = [done.source.title(index) for index in row.pictures[:3]]
            more = [f"and {len(row.pictures) - 3} more"] if len(row.pictures) > 3 else []
            told = [row.note] if one.kind == "broken" else [", ".join([*names, *more]), row.note]
            lines.append(f"           {': '.join(filter(None, told))}")
        if len(one.rows) > SHOWN:
            lines.append(f"           and {len(one.rows) - SHOWN:,} more (--json and --out list all)")
        lines += [f"         -> {one.hint}", ""]
    if not done.findings:
        lines += ["nothing wrong was found", ""]
    width = max(len(name) for name, _ in done.facts)
    return lines + [f"{name.ljust(width)}  {value}" for name, value in done.facts]
