"""`vitrail weights list|pull`"""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from vitrail.cli.options import AS_JSON


def _names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from vitrail.weights.published import names

    return [CompletionItem(name) for name in names() if name.startswith(incomplete)]


@click.group("weights", no_args_is_help=True)
def command() -> None:
    """Published weight files: what there is, and how to get it."""


@command.command("list", short_help="What is published, one line each.")
@click.argument("words", metavar="[WORD ...]", nargs=-1)
@AS_JSON
def listed(words: tuple[str, ...], as_json: bool) -> None:
    """The published weights in whose name, classes, dialect or source every WORD occurs."""
    from vitrail.cli.render import result, table
    from vitrail.verbs.weights import weights_list

    found = weights_list(*words)
    head = ["name", "variant", "classes", "MiB", "top-1", "by", "licence", "cached"]
    cells = []
    for one in found:
        row = one.row
        classes = row.classes if row.head_valid or not row.count else f"{row.classes}, head of zeros"
        size = f"{one.mib:,.0f}" if one.mib_is_listed else f"about {one.mib:,.0f}"
        by = row.measured[0].by if row.measured else ""
        top1 = "" if row.top1 is None else f"{row.top1:.2f}"
        cells.append([row.name, row.variant, classes, size, top1, by, row.licence, "yes" if one.cached else ""])
    lines = [*table(cells, head=head, right=[3, 4]), "", "vitrail weights pull NAME fetches one of them"]
    result(lines, [one.to_json() for one in found], as_json=as_json)


@command.command("pull", short_help="Fetch one of them into the cache.")
@click.argument("name", metavar="NAME|hf:OWNER/NAME|URL", shell_complete=_names)
@click.option("--out", type=click.Path(path_type=Path), help="Put a copy there, a file or a folder.")
@AS_JSON
def pull(name: str, out: Path | None, as_json: bool) -> None:
    """Fetch published weights into the cache, or go on with it; checked against the published or first-seen hash."""
    from vitrail.cli.progress import Counter
    from vitrail.cli.render import result, say
    from vitrail.verbs.weights import weights_pull

    with Counter(name, bytes=True) as progress:
        done = weights_pull(name, out=out, progress=progress)
    for note in done.notes:
        say(note)
    result([str(done.path)], done.to_json(), as_json=as_json)
