"""docs/guides/training.md: every schedule and override that it shows is taken by a recipe."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

from vitrail.recipe.read import parse_recipe
from vitrail.training.lines import TABLE

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "training.md").read_text()
JOURNAL = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "journal.md").read_text()
MINIMAL = "model: {variant: vit_tiny_patch16_224}\nschedule: {name: cosine, epochs: 200, lr: 1.0e-3}\n"


@pytest.mark.parametrize("text", re.findall(r"`(\{name: (?:cosine|ema|swa)[^`]*\})`", PAGE))
def test_parts_are_taken(text: str) -> None:
    key = "schedule" if "cosine" in text else "average"
    parse_recipe(MINIMAL, "the page", [f"{key}={text}"])


@pytest.mark.parametrize("text", re.findall(r"`((?:optimizer|train|precision)[\w.]*=[^`]*)`", PAGE))
def test_overrides_are_taken(text: str) -> None:
    needed = {
        "optimizer.layer_decay_grouping": ["optimizer.layer_decay=0.9"],
        "train.loss_scale": ["precision=fp16"],
        "train.fp32": ["precision=bf16"],
    }
    parse_recipe(MINIMAL, "the page", [*needed.get(text.partition("=")[0], []), text])


@pytest.mark.parametrize("text", re.findall(r"`((?:journal|evaluation|checkpoint|train)\.\w+=[^`]*)`", JOURNAL))
def test_what_the_page_of_the_journal_sets_is_taken(text: str) -> None:
    parse_recipe(MINIMAL, "the page", text.split() if "[" not in text else [text])


def test_the_lines_that_the_page_shows_are_those_of_the_table() -> None:
    rows = dict(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (.*) \|$", JOURNAL.partition("## The lines")[2], re.MULTILINE))
    assert {name for names in rows for name in re.findall(r"`(\w+)`", names)} == TABLE.keys()
    for names, shown in rows.items():
        templates = [line for name in re.findall(r"`(\w+)`", names) for part in TABLE[name].values() for line in part]
        parts = [list(Formatter().parse(line)) for line in templates]
        patterns = ["".join(re.escape(text) + (".+" if name else "") for text, name, *_ in one) for one in parts]
        for line in re.findall(r"`([^`]+)`", shown):
            assert any(re.fullmatch(pattern, line) for pattern in patterns), line
