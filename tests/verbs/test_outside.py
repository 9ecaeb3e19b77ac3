"""What a verb writes never lands among the pictures it reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.layouts import class_folders
from vitrail.cli.main import run
from vitrail.errors import UsageError
from vitrail.verbs.outside import refuse_inside


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--model", "cct_2_3x2_32", "--data", "{}", "--out"],
        ["train", "folder/scratch", "data.root={}/cat", "data.val={}", "--out"],
        ["data", "audit", "{}", "--out"],
        ["data", "audit", "{}/cat", "--val", "{}", "--out"],
        ["data", "pack", "{}"],
        ["show", "{}", "--pictures"],
        ["show", "folder/scratch", "--data", "{}", "--pictures"],
    ],
)
def test_no_verb_writes_among_the_pictures(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    root = class_folders(tmp_path / "photos", {"cat": 3, "dog": 3})
    before = sorted(path.name for path in root.rglob("*"))
    assert run([*(word.replace("{}", str(root)) for word in words), str(root / "new")]) == 2
    assert "among the pictures" in capsys.readouterr().err
    assert sorted(path.name for path in root.rglob("*")) == before


def test_inside_is_what_a_link_or_dots_lead_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = class_folders(tmp_path / "photos", {"cat": 1})
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(root)
    for out in (Path("run"), tmp_path / "link" / "run", tmp_path / "x" / ".." / "photos", root):
        with pytest.raises(UsageError, match="among the pictures"):
            refuse_inside(out, None, root)
    refuse_inside(tmp_path / "photos2", root)  # no path is taken for one that begins alike
    refuse_inside(tmp_path / "photos.zip.packed", tmp_path / "photos.zip", "digits", None)
