"""docs/guides/training.md: every schedule and override that it shows is taken by a recipe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vitrail.recipe.read import parse_recipe

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "training.md").read_text()
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
