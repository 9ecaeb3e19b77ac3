"""The page of an audit: what is wrong, the worst first, each with its pictures. Of the look of a run's page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vitrail.data.audit.findings import Finding
from vitrail.disk import write_file
from vitrail.errors import count
from vitrail.reports.html import Pairs, facts, filled, plot, section, text, tiles
from vitrail.reports.tiles import Tile

LISTED = 60  # cases without pictures


@dataclass(frozen=True, kw_only=True)
class AuditPage:
    """What the page says. findings: in order, each with the pictures of its first cases. plot: PNG of class sizes."""

    title: str
    pictures: int
    classes: int
    findings: tuple[tuple[Finding, tuple[Tile, ...]], ...]
    facts: Pairs
    plot: bytes
    footer: str


def page(content: AuditPage, path: Path) -> None:
    """Write the page to `path`; needs nothing but itself. SystemFault V701 when it cannot be written."""
    about = f"{count(content.pictures, 'picture')} in {count(content.classes, 'class', 'classes')}"
    markup = filled(content.title, about, _result(content), _sections(content), content.footer)
    write_file(path, markup.encode("utf-8"))


def _result(content: AuditPage) -> str:
    if not content.findings:
        return '<section class="result"><div class="headline"><b>0</b><span>Nothing was found.</span></div></section>'
    rows = "\n".join(
        f'<li><b class="is-{one.weight}">{one.weight}</b>'
        f'<span><a href="#{one.kind.replace(" ", "-")}">{text(one.what)}</a></span></li>'
        for one, _ in content.findings
    )
    return f'<ol class="findings">\n{rows}\n</ol>'


def _sections(content: AuditPage) -> Iterator[str]:
    for one, shown in content.findings:
        aside = text(one.what)
        body = f'<p class="hint">&rarr; {text(one.hint)}</p>\n'
        body += tiles("", shown, groups=any(len(row.pictures) > 1 for row in one.rows)) or _cases(one)
        seen = len(shown) or LISTED
        if len(one.rows) > seen:
            body += f'<p class="muted">The first {seen} of {len(one.rows):,}; audit.json has all.</p>'
        yield f'<div id="{one.kind.replace(" ", "-")}">{section(one.heading, body, aside)}</div>'
    yield section("What there is", facts(content.facts) + plot(content.plot, "Pictures of each class", "broad"))


def _cases(finding: Finding) -> str:
    rows = "\n".join(f"<li>{text(row.note)}</li>" for row in finding.rows[:LISTED])
    return f'<ul class="cases">\n{rows}\n</ul>'
