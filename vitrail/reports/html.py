"""One HTML page that tells what was trained, how good it is, and how to go on. It needs nothing but itself."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from vitrail.disk import write_file
from vitrail.errors import printable
from vitrail.evaluation.evaluate import ClassRow, Evaluation
from vitrail.reports.tiles import Tile, fit, png

SHOWN_CLASSES = 40  # more than these are folded away, and the weakest shown
WEAKEST = 12
TILE_SIDE = 192  # pixels of a picture in the page

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the page says. Everything is plain text, escaped here; what is empty is left out.

    facts: what it was trained on, as (name, value): source, counts, split, classes, model. split: the pictures that
    were evaluated, in words. untrained: pictures to train on that could not be read, and why; on_bad: `skip` or
    `replace`, what was done with them. chosen_here: `best` was chosen by its score on these same pictures. curves,
    confusion: PNG bytes. commands: (what it does, command line). proof: one line.
    """

    title: str
    subtitle: str = ""
    evaluation: Evaluation
    split: str
    chosen_here: bool = False
    untrained: Pairs = ()
    on_bad: str = ""
    facts: Pairs = ()
    curves: bytes = b""
    confusion: bytes = b""
    best: tuple[Tile, ...] = ()
    worst: tuple[Tile, ...] = ()
    commands: Pairs = ()
    proof: str = ""
    recipe: str = ""
    environment: Pairs = ()
    footer: str = ""


def page(content: Page, path: Path) -> None:
    """Write the page to `path`: no script, nothing fetched, light and dark, good on a telephone and on paper.

    The same content gives the same bytes. SystemFault V701 when it cannot be written.
    """
    write_file(path, render(content).encode("utf-8"))


def render(content: Page) -> str:
    """The page as text."""
    return filled(content.title, content.subtitle, _result(content), _sections(content), content.footer)


def filled(title: str, subtitle: str, result: str, sections: Iterable[str], footer: str) -> str:
    """The page of that look: result and sections are markup, the rest is plain text."""
    template = Template((files("vitrail.reports") / "page.html").read_text("utf-8"))
    return template.substitute(
        title=text(title),
        subtitle=text(subtitle),
        result=result,
        sections="\n".join(filter(None, sections)),
        footer=text(footer),
    )


def text(value: str) -> str:
    """`value` as it may stand anywhere in the page: on one line, control characters visible, markup escaped.

    >>> text("<script> & 'more'")
    '&lt;script&gt; &amp; &#x27;more&#x27;'
    """
    return escape(printable(value))


def percent(share: float, total: int) -> str:
    """A share of `total` pictures in percent, with as many decimals as they bear; only what is whole is `100`.

    >>> percent(0.5, 10), percent(349 / 360, 360), percent(9999 / 10000, 10000), percent(1.0, 10000)
    ('50', '96.9', '99.99', '100')
    """
    decimals = 0 if total < 100 else 1 if total < 1000 else 2
    while 0.0 < share < 1.0 and float(f"{100 * share:.{decimals}f}") in (0.0, 100.0):
        decimals += 1
    return f"{100 * share:.{decimals}f}" if share not in (0.0, 1.0) else f"{100 * share:.0f}"


def _result(content: Page) -> str:
    seen = content.evaluation
    low, high = (percent(share, max(seen.total, 100)) for share in seen.interval)
    measures = [
        ("top-5", f"{percent(seen.top5, seen.total)} %") if len(seen.classes) > 5 else None,
        ("macro-F1", f"{seen.macro_f1:.3f}"),
        ("balanced accuracy", f"{percent(seen.balanced_accuracy, seen.total)} %"),
        ("loss", f"{seen.loss:.4f}") if seen.loss is not None else None,
    ]
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in filter(None, measures))
    lines = [
        '<section class="result">',
        f'<div class="headline"><b>{percent(seen.top1, seen.total)}<i>%</i></b>',
        f"<span><strong>{seen.correct:,} of {seen.total:,}</strong> pictures right: {text(content.split)}<br>",
        f"<strong>{low} to {high} %</strong> with 95 % confidence (Wilson interval)</span></div>",
        f'<dl class="measures">{items}</dl>',
        "</section>",
    ]
    if content.chosen_here:
        lines.append(
            '<p class="note"><b>Chosen on these pictures.</b> The checkpoint <code>best</code> was picked by its score '
            "on the same pictures that are counted here, so this number is a little too good. "
            "Pictures that played no part in the training give the honest one.</p>"
        )
    if seen.bad:
        lines.append(
            f'<p class="note"><b>{count(len(seen.bad), "picture")} could not be read.</b> '
            "What cannot be read counts as wrong and is listed below.</p>"
        )
    if content.untrained:
        done = "others were drawn in their place" if content.on_bad == "replace" else "they were left out"
        lines.append(
            f'<p class="note"><b>{count(len(content.untrained), "picture")} to train on could not be read:</b> '
            f"{done}. They are listed below.</p>"
        )
    return "\n".join(lines)


def _sections(content: Page) -> Iterable[str]:
    seen = content.evaluation
    if content.facts:
        yield section("What it was trained on", facts(content.facts))
    if content.curves:
        yield section("How the training went", plot(content.curves, "Training loss, learning rate, top-1", "broad"))
    yield section("Class by class", _classes(seen), f"{len(seen.classes):,} classes")
    if content.confusion:
        yield section(
            "What is taken for what",
            plot(content.confusion, "Confusion matrix", "square"),
            "each row is one true class; the colour is its share",
        )
    if content.worst or content.best:
        worst = tiles("Wrong, and furthest from the truth", content.worst)
        yield section("Pictures", worst + tiles("Right, and surest", content.best))
    if content.commands:
        yield section("How to go on", _commands(content.commands))
    if content.proof:
        yield section("Proof", f'<p class="proof">{text(content.proof)}</p>')
    folded = _folded(content)
    if folded:
        yield section("For the record", folded)


def _folded(content: Page) -> str:
    bad = tuple((picture.name, f"{picture.error.code} {picture.error.what}") for picture in content.evaluation.bad)
    recipe = "\n".join(text(line) for line in content.recipe.splitlines())
    return "\n".join(
        f"<details><summary>{title}</summary>\n{body}\n</details>"
        for title, body in (
            (f"Unread pictures ({len(bad)})", facts(bad) if bad else ""),
            (
                f"Unread pictures to train on ({len(content.untrained)})",
                facts(content.untrained) if content.untrained else "",
            ),
            ("Recipe, resolved", f"<pre>{recipe}</pre>" if recipe else ""),
            ("Environment", facts(content.environment) if content.environment else ""),
        )
        if body
    )


def section(title: str, body: str, aside: str = "") -> str:
    """A heading with what stands under it; all markup."""
    small = f" <small>{aside}</small>" if aside else ""
    return f"<section>\n<h2>{title}{small}</h2>\n{body}\n</section>"


def facts(pairs: Pairs) -> str:
    """Names and values in two columns."""
    rows = "\n".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs)
    return f'<dl class="facts">\n{rows}\n</dl>'


def plot(image: bytes, what: str, shape: str) -> str:
    """A PNG in the page; shape: `broad` or `square`."""
    return f'<figure class="plot {shape}"><img alt="{what}" src="{_data(image)}"></figure>'


def _commands(commands: Pairs) -> str:
    rows = "\n".join(f"<p>{text(what)}</p>\n<pre>{text(line)}</pre>" for what, line in commands)
    return f'<div class="commands">\n{rows}\n</div>'


def tiles(title: str, shown: Sequence[Tile], *, groups: bool = False) -> str:
    """Pictures with their captions. groups: each is several side by side, and has the room for it."""
    head = f"<h3>{title}</h3>\n" if title else ""
    body = "".join(_tile(tile, 2 * TILE_SIDE if groups else TILE_SIDE) for tile in shown)
    return f'{head}<div class="tiles{" groups" if groups else ""}">\n{body}</div>\n' if shown else ""


def _tile(tile: Tile, side: int) -> str:
    head, *rest = (text(line) for line in tile.caption.split("\n"))
    mark = "" if tile.good is None else ' class="good"' if tile.good else ' class="wrong"'
    caption = "<br>".join([f"<b{mark}>{head}</b>", *rest])
    small = max(tile.image.shape[:2]) <= side  # the browser enlarges it by whole squares
    image = fit(tile.image, max(tile.image.shape[:2]) if small else side)
    return f'<figure><img alt="{head}" src="{_data(png(image))}"><figcaption>{caption}</figcaption></figure>\n'


def _data(image: bytes) -> str:
    return f"data:image/png;base64,{b64encode(image).decode('ascii')}"


def _classes(seen: Evaluation) -> str:
    mistaken: dict[int, str] = {}  # the most frequent confusion of each class comes first
    for confusion in seen.confusions:
        mistaken.setdefault(confusion.label, f"{seen.classes[confusion.prediction]}, {_times(confusion.count)}")
    rows = [(row, mistaken.get(i, "")) for i, row in enumerate(seen.per_class)]
    if len(rows) <= SHOWN_CLASSES:
        return _table(rows)
    weakest = sorted((pair for pair in rows if pair[0].support), key=lambda pair: pair[0].f1)[:WEAKEST]
    return (
        f"<h3>The {len(weakest)} of lowest F1</h3>\n{_table(weakest)}\n"
        f"<details><summary>All {len(rows):,} classes</summary>\n{_table(rows)}\n</details>"
    )


def _table(rows: list[tuple[ClassRow, str]]) -> str:
    head = (
        '<tr><th>class</th><th>pictures</th><th class="bar"></th><th>recall</th><th>precision</th><th>F1</th>'
        '<th class="left">most often taken for</th></tr>'
    )
    body = "\n".join(_row(row, mistaken) for row, mistaken in rows)
    return f'<div class="wide"><table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _row(row: ClassRow, mistaken: str) -> str:
    low, high = (percent(share, 100) for share in row.interval)
    bar = f'<span><i style="width:{100 * row.recall:.1f}%"></i></span>' if row.support else ""
    recall = f"{100 * row.recall:.1f} %" if row.support else "none"
    return (
        f'<tr><td>{text(row.name)}</td><td>{row.support:,}</td><td class="bar">{bar}</td>'
        f'<td title="{low} to {high} % with 95 % confidence">{recall}</td><td>{100 * row.precision:.1f} %</td>'
        f'<td>{row.f1:.3f}</td><td class="left muted">{text(mistaken)}</td></tr>'
    )


def _times(number: int) -> str:
    return "once" if number == 1 else "twice" if number == 2 else f"{number:,} times"


def count(number: int, noun: str) -> str:
    """`1 picture`, `1,200 pictures`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
