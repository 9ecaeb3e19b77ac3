"""Every promise has its tests, as many as it says, and every phrase of the hostile lists an item."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Sized
from pathlib import Path

import pytest

from tests.hostile.items import ITEMS
from tests.hostile.mutants import READERS
from tests.hostile.promises import LISTS, PROMISES
from tests.pictures import costs, mutants

RESULTS = Path(__file__).resolve().parents[2] / "results"


def cases(test: object) -> int:
    """How many cases a test has; 0 for one of the long campaigns."""
    marks = getattr(test, "pytestmark", [])
    if any(mark.name == "prove" for mark in marks):
        return 0
    sizes = [mark.args[1] for mark in marks if mark.name == "parametrize"]
    assert all(isinstance(values, Sized) for values in sizes)
    return math.prod(len(values) for values in sizes)


def named(number: str) -> dict[str, int]:
    found = {}
    for name in PROMISES[number].files:
        module = importlib.import_module(name)
        for key, test in vars(module).items():
            if key.startswith("test_") and f"_{number}_" in key and test.__module__ == module.__name__:
                found[f"{name}.{key}"] = cases(test)
    return found


@pytest.mark.parametrize("number", PROMISES)
def test_F1_every_promise_has_its_quick_tests(number: str) -> None:
    found = named(number)
    assert sum(found.values()) >= PROMISES[number].quick, found


@pytest.mark.parametrize("container", LISTS)
def test_F1_every_phrase_of_the_hostile_lists_has_an_item(container: str) -> None:
    missing = [
        (phrase, item)
        for phrase, names in LISTS[container].items()
        for item in names
        if f"{container}: {item}" not in ITEMS
    ]
    assert not missing


def test_F1_the_recorded_run_is_of_these_readers() -> None:
    """Of `make prove`'s campaigns one run is recorded: every reader, no finding, nothing but what was counted."""
    rows = json.loads((RESULTS / "hostile.json").read_text())["readers"]
    assert rows.keys() == READERS.keys()
    for name, row in rows.items():
        assert row["findings"] == [], name
        assert row["promised"] == READERS[name].full
        assert row["mutants"] == row["read_equal"] + row["read_as_another"] + sum(row["refused"].values())


def test_F1_the_recorded_run_of_pictures_is_of_these_readers() -> None:
    """Every mutant is accounted for, and nothing was found."""
    rows = json.loads((RESULTS / "pictures.json").read_text())
    assert rows["mutants"].keys() == mutants.READERS.keys()
    for name, row in rows["mutants"].items():
        assert row["findings"] == [], name
        assert row["promised"] == mutants.READERS[name].full
        assert row["mutants"] == row["read_equal"] + row["read_as_another"] + sum(row["refused"].values())
    assert rows["largest"].keys() == costs.LARGEST.keys()
    assert all(row["verdict"] == "ok" for row in rows["largest"].values())


def test_F1_of_each_promise_about_pictures_and_data_a_long_run_is_recorded() -> None:
    rows = json.loads((RESULTS / "prove.json").read_text())["tests"]
    assert [name for name, row in rows.items() if row.keys() != {"passed", "seconds", "date", "machine"}] == []
    numbers = {part for name in rows for part in name.partition("::")[2].split("_")[1:2]}
    long = {"B01", "B02", "B04", "B05", "B06", "B09", "B10", "B12", "B13", "B14", "B15", "B16", "B18", "B19"}
    assert long - numbers == set()
