"""The page: well-formed, self-contained, escaped, and its numbers are the evaluation's."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitrail.data.batches import BadPicture
from vitrail.errors import PictureError
from vitrail.evaluation.evaluate import Evaluation
from vitrail.reports.html import Page, page, percent, render
from vitrail.reports.plots import drawing
from vitrail.reports.tiles import Tile, fit, png

Make = Callable[..., Evaluation]
VOID = {"meta", "img", "br"}
HOSTILE = "<script>alert('$x')</script>\"&\n\x00\ud800\u202e"
DIGITS = tuple("0123456789")


class Tree(HTMLParser):
    """Reads a page, insisting that every tag is closed in order."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.cells: list[list[str]] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag == "td":
            self.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if "td" in self.open:
            self.cells[-1][-1] += data

    @property
    def images(self) -> list[bytes]:
        return [
            b64decode(v.split(",")[1], validate=True)
            for tag, name, v in self.attributes
            if (tag, name) == ("img", "src")
        ]


def content(evaluated: Make, *, classes: tuple[str, ...] = DIGITS, total: int = 240, text: str = "plain") -> Page:
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    pairs = ((text, text),)
    return Page(
        title=text,
        subtitle=text,
        evaluation=evaluated(classes, total=total),
        split=text,
        chosen_here=True,
        facts=pairs,
        curves=png(np.zeros((3, 4, 3), np.uint8)),
        confusion=png(np.zeros((4, 3, 3), np.uint8)),
        best=(Tile(image, f"{text}\n{text}", True),),
        worst=(Tile(image, text, False), Tile(np.zeros((300, 400, 3), np.uint8), text, False)),
        commands=pairs,
        proof=text,
        recipe=f"a: 1  # {text}\nb: $b",
        environment=pairs,
        footer=text,
    )


def test_the_page_is_well_formed_and_whole(evaluated: Make) -> None:
    tree = Tree(render(content(evaluated)))
    assert tree.tags.count("h1") == tree.tags.count("title") == tree.tags.count("main") == 1
    for words in (
        "What it was trained on",
        "How the training went",
        "Class by class",
        "What is taken for what",
        "Pictures",
        "How to go on",
        "Proof",
        "Recipe, resolved",
        "Environment",
        "Chosen on these pictures.",
    ):
        assert words in tree.text
    assert "script" not in tree.tags


def test_nothing_is_fetched(evaluated: Make) -> None:
    source = render(content(evaluated))
    tree = Tree(source)
    assert not re.search(r"https?:|url\(|@import|//[a-z]", source)
    assert all(
        value.startswith("data:image/png;base64,") for _, name, value in tree.attributes if name in ("src", "href")
    )
    assert not {"script", "link", "iframe", "object", "form"} & set(tree.tags)
    assert "default-src 'none'" in source


def test_whatever_a_name_holds_it_stays_text(evaluated: Make) -> None:
    classes = (HOSTILE, "</table><script>", *(f"{HOSTILE} {i}" for i in range(48)))
    tree = Tree(render(content(evaluated, classes=classes, text=HOSTILE)))
    assert "script" not in tree.tags
    assert "<script>alert('$x')</script>\"&\\n\\x00\\ud800\\u202e" in tree.text
    assert not any(name.startswith("on") for _, name, _ in tree.attributes)


@given(st.text(max_size=40))
def test_any_text_survives_as_itself(evaluated: Make, text: str) -> None:
    shown = Tree(render(Page(title="t", evaluation=evaluated(("a", "b")), split="s", proof=f"[{text}]"))).text
    if text.isprintable():
        assert f"[{text}]" in shown
    shown.encode("utf-8")


def test_the_numbers_are_the_evaluations(evaluated: Make) -> None:
    seen = evaluated(DIGITS)
    tree = Tree(render(content(evaluated)))
    low, high = seen.interval
    assert f"{100 * seen.top1:.1f}%{seen.correct} of 240 pictures right" in tree.text.replace("\n", "")
    assert f"{100 * low:.1f} to {100 * high:.1f} % with 95 % confidence" in tree.text
    assert f"top-5{100 * seen.top5:.1f} %" in tree.text
    assert f"macro-F1{seen.macro_f1:.3f}" in tree.text
    assert f"balanced accuracy{100 * seen.balanced_accuracy:.1f} %" in tree.text
    assert f"loss{seen.loss:.4f}" in tree.text
    rows = [cells for cells in tree.cells if cells]
    assert [cells[:2] + cells[3:6] for cells in rows] == [
        [row.name, str(row.support), f"{100 * row.recall:.1f} %", f"{100 * row.precision:.1f} %", f"{row.f1:.3f}"]
        for row in seen.per_class
    ]
    for label, cells in enumerate(rows):
        wrong = seen.confusion[label].copy()
        wrong[label] = 0
        name, times = cells[6].split(", ")
        assert wrong[int(name)] == wrong.max() == {"once": 1, "twice": 2}.get(times) or int(times.split()[0])


def test_many_classes_are_folded_and_the_weakest_shown(evaluated: Make) -> None:
    classes = tuple(f"class {i}" for i in range(60))
    tree = Tree(render(content(evaluated, classes=classes, total=1200)))
    rows = [cells for cells in tree.cells if cells]
    assert len(rows) == 12 + 60
    f1 = [float(cells[5]) for cells in rows]
    assert f1[:12] == sorted(f1[12:])[:12]
    assert "All 60 classes" in tree.text


def test_unread_pictures_are_counted_and_listed(evaluated: Make) -> None:
    bad = (BadPicture(3, "a/<b>.jpg", PictureError("V302", "`a/<b>.jpg` is truncated")),)
    tree = Tree(render(replace(content(evaluated), evaluation=evaluated(DIGITS, bad=bad))))
    assert "1 picture could not be read." in tree.text
    assert "V302 `a/<b>.jpg` is truncated" in tree.text
    assert "could not be read" not in Tree(render(content(evaluated))).text


def test_what_is_empty_is_left_out(evaluated: Make) -> None:
    tree = Tree(render(Page(title="t", evaluation=evaluated(("a", "b")), split="all")))
    assert tree.tags.count("h2") == 1
    assert not {"img", "details", "pre"} & set(tree.tags)
    assert "Chosen on these" not in tree.text
    assert "top-5" not in tree.text


def test_pictures_are_inside_small_ones_as_they_are(evaluated: Make) -> None:
    told = content(evaluated)
    images = Tree(render(told)).images
    assert images[:2] == [told.curves, told.confusion]
    with Image.open(BytesIO(images[2])) as small, Image.open(BytesIO(images[3])) as large:
        assert (np.asarray(small) == fit(told.worst[0].image, 8)).all()
        assert large.size == (192, 144)


def test_the_file_is_the_same_bytes_twice(tmp_path: Path, evaluated: Make) -> None:
    page(content(evaluated), tmp_path / "a.html")
    page(content(evaluated), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.html").read_text("utf-8") == render(content(evaluated))


def test_page_and_plots_share_one_palette() -> None:
    css = (files("vitrail.reports") / "page.html").read_text("utf-8")
    light = css[css.index(":root") : css.index("@media")]
    for name, colour in [
        ("ink", drawing.INK), ("muted", drawing.MUTED), ("hair", drawing.HAIR), ("paper", drawing.PAPER),
        ("accent", drawing.ACCENT), ("wrong", drawing.WRONG),
    ]:  # fmt: skip
        assert f"--{name}: {colour};" in light


@pytest.mark.parametrize(
    ("share", "total", "shown"),
    [(0.0, 9, "0"), (1.0, 9, "100"), (0.125, 8, "12"), (59999 / 60000, 60000, "99.998"), (1 / 60000, 60000, "0.002")],
)
def test_only_what_is_whole_is_shown_as_whole(share: float, total: int, shown: str) -> None:
    assert percent(share, total) == shown
