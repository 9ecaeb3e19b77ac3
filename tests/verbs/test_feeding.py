"""What a run says about the time it waited for pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pictures.jpegs import jpeg
from vitrail.data.sources import open_source
from vitrail.recipe import load_recipe
from vitrail.verbs import feeding


def journal(folder: Path, wait: float, step: float) -> None:
    rows = [{"event": "start", "step": 0}, {"event": "step", "step": 1, "wait_s": wait, "step_s": step}]
    (folder / "journal.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_little_is_said_of_little(tmp_path: Path) -> None:
    recipe = load_recipe("digits/cct_2_3x2_32")
    journal(tmp_path, 0.1, 9.9)
    assert feeding.waiting(tmp_path, recipe) == "1.0 % of the time of the steps went into waiting for data"


def test_much_comes_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal(tmp_path, 5.0, 5.0)
    monkeypatch.setattr(feeding, "cores", lambda: 8)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    slow = load_recipe("folder/scratch", ["data.root=photos", "data.workers=2", "data.decode=exact"])
    said = feeding.waiting(tmp_path, slow)
    for word in ("50.0 %", "data.workers=8", "data.decode=fast", "vitrail[fast]", "data pack"):
        assert word in said, word
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    best = load_recipe("digits/cct_2_3x2_32", ["data.workers=8"])
    assert feeding.advice(best) == ["the cores are too few for this recipe's augmentation"]


def test_what_reads_crops_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(3):
            (tmp_path / name / f"{index}.jpg").write_bytes(jpeg(16, 16, seed=index))
    recipe = load_recipe("folder/scratch", [f"data.root={tmp_path}"])
    source = open_source(recipe.data)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert feeding.reading(recipe, source) == "crops of JPEGs: decode fast, by simplejpeg and numba and Pillow"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "vitrail[fast]" in (feeding.reading(recipe, source) or "")
    digits = load_recipe("digits/cct_2_3x2_32")
    assert feeding.reading(digits, source) is None
