"""The story of bad pictures from the scan to the page, with every choice of data.on_bad."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.verbs.small import small
from vitrail.cli.main import run
from vitrail.errors import DataError
from vitrail.training.journal import read
from vitrail.verbs.train import train


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, list[str], str]:
    """A source, the names of the bad pictures to train on, and the name of the bad one held out."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 24), ("val", 8)):
        for name in ("cat", "dog"):
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    bad = ["train/cat/3.png", "train/dog/7.png"]
    for name in (*bad, "val/cat/1.png"):
        (tmp_path / "data" / name).write_bytes(b"\x89PNG\r\n\x1a\n no more")
    return tmp_path / "data", bad, "val/cat/1.png"


def settings(root: Path, on_bad: str) -> list[str]:
    given = {"data.source": "folder", "data.root": str(root), "data.batch": "8", "schedule.epochs": "2"}
    given |= {"data.on_bad": on_bad, "data.bad_limit": "0.05", "augment.crop": "{name: none}", "mix": "null"}
    return [f"{key}={value}" for key, value in given.items()]


def test_B01_the_default_refuses_with_all_names(pictures: tuple[Path, list[str], str], tmp_path: Path) -> None:
    root, bad, held_out = pictures
    with pytest.raises(DataError) as caught:
        train(small(*settings(root, "error")), out=tmp_path / "run")
    assert caught.value.code == "V406"
    assert all(any(name in line for line in caught.value.evidence) for name in (*bad, held_out))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("on_bad", ["skip", "replace"])
def test_B01_bad_pictures_are_told_everywhere(
    on_bad: str, pictures: tuple[Path, list[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, bad, held_out = pictures
    folder = tmp_path / "run"
    notes: list[str] = []
    train(
        small(*settings(root, on_bad)),
        out=folder,
        listener=lambda row: notes.append(str(row.get("text", ""))) if row["event"] == "note" else None,
    )
    assert sum("cannot be read" in note for note in notes) == 3  # before the first step
    rows = [row for row in read(folder / "journal.jsonl") if row["event"] == "bad"]
    assert {row["name"] for row in rows} == {*bad} and {row["code"] for row in rows} == {"V302"}
    log = (folder / "train.log").read_text()
    assert all(f"name={name}" in log for name in bad)

    page = (folder / "report.html").read_text()
    assert "2 pictures to train on could not be read" in page and "Unread pictures to train on (2)" in page
    assert "1 picture could not be read" in page and "Unread pictures (1)" in page
    assert all(page.count(name) >= 1 for name in (*bad, held_out))
    assert ("others were drawn" if on_bad == "replace" else "they were left out") in page
    summary = json.loads((folder / "evaluation.json").read_text())
    assert summary["pictures"] == 16 and [one["name"] for one in summary["bad"]] == [held_out]

    assert run(["evaluate", str(folder), "--data", str(root), "--out", str(tmp_path / "rows.csv")]) == 0
    with open(tmp_path / "rows.csv") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 16
    assert [(row["name"], row["error"], row["correct"]) for row in table if row["error"]] == [
        (held_out, "V302", "False")
    ]
    assert f"{held_out}" in capsys.readouterr().out

    assert run(["predict", str(folder), str(root / "val"), "--csv"]) == 2
    answers = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len({row["picture"] for row in answers}) == 16
    assert [row["error"] for row in answers if row["error"]] == ["V302"]


def test_a_second_start_decodes_nothing_again(
    pictures: tuple[Path, list[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _, _ = pictures
    monkeypatch.setattr("vitrail.data.kept.FRESH_NS", 0)
    with pytest.raises(DataError) as first:
        train(small(*settings(root, "error")), out=tmp_path / "run")
    monkeypatch.setattr("vitrail.data.looks.read_bytes", None)  # neither read nor decoded
    with pytest.raises(DataError) as again:
        train(small(*settings(root, "error")), out=tmp_path / "run")
    assert str(again.value) == str(first.value)


def test_pictures_held_out_do_not_count_against_the_limit(
    pictures: tuple[Path, list[str], str], tmp_path: Path
) -> None:
    root, bad, _ = pictures
    with pytest.raises(DataError, match="2 of"):
        train(small(*settings(root, "skip"), "data.bad_limit=0.02"), out=tmp_path / "run")
    (root / bad[0]).unlink()
    train(small(*settings(root, "skip"), "data.bad_limit=0.02", "schedule.epochs=1"), out=tmp_path / "run")
