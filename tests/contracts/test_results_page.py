"""docs/results.md holds every published figure, and of ours only what was measured; its recipes and overrides stand."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from vitrail.recipe import load_recipe, recipe_names
from vitrail.recipe.evaluating import evaluation_recipe
from vitrail.recipe.read import evaluation_names, recipe_path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "results.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| what")
]
NOT_RUN = "not run at full length"

# each figure of the tables and logs of the five packages' READMEs, as it stands there -> as it stands here
PUBLISHED = {
    "000": {
        "98.99%": "98.99 %", "98.84%": "98.84 %", "98.83%": "98.83 %", "157毫秒": "157 ms", "174毫秒": "174 ms",
        "467毫秒": "467 ms", "469毫秒": "469 ms", "2.48小时": "2.48 h", "12.1小时": "12.1 h", "1.52小时": "1.52 h",
        "98.54%": "98.54 %", "52.2274": "52.2274 ms", "0.92407852": "92.41 %", "0.95973557": "95.97 %",
        "0.98547676": "98.55 %", "185.312 ms": "185.312 ms", "250.899 ms": "250.899 ms", "9854": "9854",
    },
    "001": {"0.8709": "87.09 %", "0.871": "87.1 %"},
    "002": {
        "80.22%": "80.22 %", "94.892%": "94.892 %", "0.8123": "0.8123", "349.577": "349.577 ms",
        "44h35min34s": "44 h 35 min 34 s", "94.92%": "94.92 %", "25.915": "25.915 ms", "38min": "38 min",
        "0.80224": "0.80224", "0.94928": "0.94928",
    },
    "003": {"85.632": "85.632 %", "97.764": "97.764 %", "58.79": "58.79 pictures/s", "59": "about 59"},
    "004": {
        "85.27%": "85.27 %", "97.67%": "97.67 %", "1.502": "1.502", "546.446": "546.446 ms",
        "13h45min03s": "13 h 45 min 03 s",
    },
}  # fmt: skip


@pytest.mark.parametrize("package", PUBLISHED)
def test_every_published_figure_is_there(package: str, shared: Path) -> None:
    (readme,) = (shared / "seeds").glob(f"{package}_*.txt")
    text = readme.read_text("utf-8")
    for theirs, ours in PUBLISHED[package].items():
        assert theirs in text, f"{theirs} is not in the README"
        assert ours in PAGE, f"{theirs}: {ours} is not in docs/results.md"


def test_rows_are_whole() -> None:
    assert len(ROWS) > 40
    for row in ROWS:
        assert len(row) == 4 and all(row), row
        assert re.fullmatch(r"`vitrail [^`]+`", row[3]), row


@pytest.mark.parametrize("row", [row for row in ROWS if row[2] != NOT_RUN], ids=lambda row: row[0])
def test_figures_of_ours_were_measured(row: list[str]) -> None:
    """A percentage stands in the results of its recipe, and its seconds too; the header says the same."""
    name = shlex.split(row[3].strip("`"))[2]
    measured = json.loads((ROOT / "results" / f"{name.replace('/', '-')}.json").read_text())
    top1, seconds = f"{100 * measured['median_top1']:.2f} %", f"{measured['median_training_s']:.0f} s of steps"
    assert top1 in row[2] and seconds in row[2]
    assert ("seed 0" if len(measured["runs"]) == 1 else f"{len(measured['runs'])} seeds") in row[2]
    assert top1 in recipe_path(name).read_text()


@pytest.mark.parametrize("command", sorted({row[3].strip("`") for row in ROWS}))
def test_its_commands_name_what_is_there(command: str) -> None:
    _, verb, name, *rest = shlex.split(command)
    settings = [word for word in rest if "=" in word]
    if verb == "train":
        assert load_recipe(name, settings)
    elif verb == "evaluate" and not name.startswith("runs/"):
        assert evaluation_recipe(name, "DIR", settings)
    elif name.startswith("runs/"):
        assert name.removeprefix("runs/") in {known.replace("/", "-") for known in recipe_names()}


def test_every_recipe_of_a_published_result_is_in_it() -> None:
    for name in (*recipe_names(), *evaluation_names()):
        assert name.startswith("folder/") or name in PAGE, f"{name} is not in docs/results.md"


@pytest.mark.parametrize("name", [*recipe_names(), *evaluation_names()])
def test_recipes_open_with_what_they_give_and_their_command(name: str) -> None:
    head = [line for line in recipe_path(name).read_text().splitlines() if line.startswith("#")]
    verb = "evaluate" if name in evaluation_names() else "train"
    assert any(line.startswith(f"# vitrail {verb} {name}") for line in head), "its command"
    if not name.startswith("folder/"):
        assert any("By us" in line for line in head), "what was measured by us"
    own = ("digits/", "cifar10/cct_2_3x2_32", "folder/", "cifar100/vit")  # of which nothing was published so
    assert any("Published" in line for line in head) or name.startswith(own)
