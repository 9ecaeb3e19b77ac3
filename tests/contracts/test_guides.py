"""The guides are whole: every key of a recipe and every option of a verb is told, every file of a room is drawn."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.contracts.test_model_zoo import commands, members
from vitrail.cli.main import vitrail
from vitrail.pictures.policy import Policy
from vitrail.recipe.schema import KEYS, PARTS

DOCS = Path(__file__).resolve().parents[2] / "docs"
GUIDES = [DOCS.parent / "README.md", DOCS / "quickstart.md", *sorted((DOCS / "guides").glob("*.md"))]


def _rows() -> dict[str, str]:
    """What the table of docs/guides/recipes.md says of each key, with the guides that the row names."""
    page = DOCS / "guides" / "recipes.md"
    rows = {}
    for line in re.findall(r"^\| `.*$", page.read_text(), re.MULTILINE):
        names = sorted(set(re.findall(r"\]\(([\w-]+\.md)", line)))
        rows[line.split("`")[1]] = "\n".join([line, *((page.parent / name).read_text() for name in names)])
    return rows


def _fields(kind: typing.Any) -> Iterator[str]:
    """The names of all fields of a part, those of its own parts too, as a recipe writes them."""
    for part in members(kind):
        if dataclasses.is_dataclass(part):
            hints = typing.get_type_hints(part)
            for field in dataclasses.fields(part):
                yield field.name.rstrip("_")
                yield from _fields(hints[field.name])


def test_the_table_has_every_key() -> None:
    assert sorted(_rows()) == sorted(KEYS)


@pytest.mark.parametrize(("key", "kind"), [*PARTS.items(), ("policy", Policy)])
def test_every_field_of_a_part_is_told(key: str, kind: object) -> None:
    told = " ".join(re.findall(r"`[^`]+`|```.*?```", _rows()[key], re.DOTALL))
    assert [name for name in dict.fromkeys(_fields(kind)) if not re.search(rf"\b{name}\b", told)] == []


def _all_options() -> list[tuple[str, str]]:
    return [
        (str(command.name), name)
        for command in commands(vitrail)
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
        if name.startswith("--")
    ]


@pytest.mark.parametrize(("verb", "option"), _all_options())
def test_every_option_is_told_where_its_verb_is(verb: str, option: str) -> None:
    told = [page.read_text() for page in GUIDES]
    assert any(re.search(rf"{option}\b", text) and re.search(rf"\b{verb}\b", text) for text in told)


@pytest.mark.parametrize("room", ["data", "pictures", "ranks", "recipe", "remote", "training", "weights"])
def test_the_house_names_every_file_of_these_rooms(room: str) -> None:
    tree = (DOCS / "house.md").read_text().split("```")[3]
    (text,) = re.findall(rf"^  {room}/(.*?)(?=^  \w)", tree, re.MULTILINE | re.DOTALL)
    files = (DOCS.parent / "vitrail" / room).glob("*.py")
    assert [path.stem for path in files if path.stem != "__init__" and not re.search(rf"\b{path.stem}\b", text)] == []
