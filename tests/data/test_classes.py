"""Class order, given names, mapping, and where labels meet a model: by name, never by index (B9)."""

from __future__ import annotations

import random
import string
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.data.layouts import class_folders, png
from vitrail.class_names import class_names, in_words, wnids
from vitrail.class_names.numbered import numbered
from vitrail.data.configs import Data
from vitrail.data.sources import Source, from_arrays, open_source
from vitrail.data.sources.classes import natural
from vitrail.errors import DataError, RecipeError
from vitrail.recipe.evaluating import evaluation_recipe
from vitrail.recipe.read import parse_recipe
from vitrail.recipe.settle import settle
from vitrail.recipe.write import fingerprint, to_plain, to_yaml
from vitrail.verbs.evaluate import matched


def opened(root: Path | str, **settings_: object) -> Source:
    return open_source(Data(root=str(root), **settings_))  # type: ignore[arg-type]


def refused(code: str, call: object, *arguments: object, **settings_: object) -> DataError:
    with pytest.raises(DataError) as caught:
        call(*arguments, **settings_)  # type: ignore[operator]
    assert caught.value.code == code, caught.value
    return caught.value


def names_of(source: Source) -> dict[str, str]:
    """title -> name of its class: what must never change."""
    return {source.title(at): source.classes[label] for at, label in enumerate(source.labels.tolist())}


NUMBERS = {str(number): 2 for number in range(100)}


def test_B09_folders_0_to_99_in_the_order_of_bytes_and_of_numbers(tmp_path: Path) -> None:
    class_folders(tmp_path, NUMBERS)
    by_bytes, by_number = opened(tmp_path), opened(tmp_path, class_order="natural")
    assert by_bytes.classes == tuple(sorted(NUMBERS)) and by_bytes.classes[:4] == ("0", "1", "10", "11")
    assert by_number.classes == tuple(map(str, range(100)))
    assert names_of(by_bytes) == names_of(by_number)
    assert (by_bytes.labels != by_number.labels).sum() > 100
    assert by_bytes.fingerprint == by_number.fingerprint  # the same pictures of the same classes
    assert by_bytes.open_order and not by_number.open_order and not opened(tmp_path, class_order="bytes").open_order
    assert any("by the bytes of the names: 0, 1, 10" in note for note in by_bytes.notes)


def test_B09_a_model_with_names_gets_its_own_order(tmp_path: Path) -> None:
    source = opened(class_folders(tmp_path, NUMBERS))
    by_number = tuple(map(str, range(100)))
    moved = matched(source, by_number)
    assert moved.classes == by_number and names_of(moved) == names_of(source)
    assert "another order alone" in moved.notes[-1]


def test_B09_a_model_without_names_is_not_guessed_at(tmp_path: Path) -> None:
    source = opened(class_folders(tmp_path, NUMBERS))
    error = refused("V403", matched, source, numbered(100))
    assert error.evidence[0] == "class 2: `10` by bytes, `2` by numbers" and len(error.evidence) == 6
    assert "another order alone" in error.evidence[-1] and "data.class_order=natural" in error.hint
    for order in ("bytes", "natural"):
        assert matched(opened(tmp_path, class_order=order), numbered(100)).labels.max() == 99
    plain = opened(class_folders(tmp_path / "x", {"cat": 2, "dog": 2}))
    assert "taken in the data's order" in matched(plain, numbered(2)).notes[-1]


DIFFERING = {
    "missing in val": ({"a": 2, "b": 2, "c": 2}, {"a": 1, "b": 1}, ["missing in val: c"]),
    "extra in val": ({"a": 2, "b": 2}, {"a": 1, "b": 1, "c": 1}, ["only in val: c"]),
    "both": ({"cat": 2, "dog": 2}, {"cats": 1, "dog": 1}, ["missing in val: cat", "only in val: cats"]),
    "ten more": ({"a": 2}, dict.fromkeys("abcdefghijk", 1), [f"only in val: {name}" for name in "bcdef"]),
    "by case": ({"cat": 2, "dog": 2}, {"Cat": 1, "dog": 1}, ["missing in val: cat", "only in val: Cat"]),
    "numbers filled up": ({"1": 2, "2": 2}, {"01": 1, "02": 1}, ["missing in val: 1", "only in val: 01"]),
}


@pytest.mark.parametrize("name", DIFFERING)
def test_B09_train_and_val_must_have_the_same_classes(tmp_path: Path, name: str) -> None:
    training, held_out, expected = DIFFERING[name]
    class_folders(tmp_path / "train", training)
    class_folders(tmp_path / "val", held_out)
    error = refused("V403", opened, tmp_path)
    assert set(expected) <= set(error.evidence)
    if name == "both":
        assert 'data.rename={"cats": "cat"}' in error.hint
        assert names_of(opened(tmp_path, rename={"cats": "cat"}))["val/cats/cats_0.png"] == "cat"


def test_B09_model_and_data_differ(tmp_path: Path) -> None:
    names = ("cats", "dog", "x1", "x2", "x3", "x4", "x5", "x6")
    source = opened(class_folders(tmp_path, dict.fromkeys(names, 2)))
    error = refused("V403", matched, source, ("zebra", "dog", "cat"))
    assert list(error.evidence) == [
        *(f"only in the data: {name}" for name in ("cats", "x1", "x2", "x3", "x4")),
        "only in the model: zebra",
        "only in the model: cat",
    ]
    assert 'data.rename={"cats": "cat"}' in error.hint
    assert refused("V405", matched, source, ("cats", "cats")).code == "V405"


def test_B09_renaming(tmp_path: Path) -> None:
    class_folders(tmp_path, {"kitty": 2, "dog": 2})
    source = opened(tmp_path, rename={"kitty": "cat"})
    assert source.classes == ("cat", "dog") and names_of(source)["kitty/kitty_0.png"] == "cat"
    assert matched(source, ("dog", "cat")).labels.tolist() == [0, 0, 1, 1]
    assert "did you mean `kitty`?" in refused("V403", opened, tmp_path, rename={"kity": "cat"}).evidence[0]
    assert "two classes" in refused("V405", opened, tmp_path, rename={"kitty": "dog"}).what


def test_B09_a_given_list(tmp_path: Path) -> None:
    class_folders(tmp_path / "p", {"cat": 2, "dog": 2})
    given_ = tmp_path / "names.txt"
    given_.write_bytes("\ufeffdog\r\nfox\r\ncat\r\n".encode())
    for classes in (("dog", "fox", "cat"), str(given_)):
        source = opened(tmp_path / "p", classes=classes)
        assert source.classes == ("dog", "fox", "cat") and names_of(source) == names_of(opened(tmp_path / "p"))
    error = refused("V403", opened, tmp_path / "p", classes=("dog", "cats"))
    assert "only in the data: cat" in error.evidence and 'rename={"cat": "cats"}' in error.hint
    for wrong in (("dog", "dog", "cat"), ("dog", "", "cat")):
        refused("V405", opened, tmp_path / "p", classes=wrong)


def test_B09_sources_that_number_their_classes_keep_that_order() -> None:
    pictures = np.zeros((22, 4, 4), np.uint8)
    source = from_arrays(pictures, np.arange(22) % 11)
    assert source.classes[10] == "10" and not source.open_order
    refused("V402", opened, "digits", class_order="natural")
    assert opened("digits", classes=tuple("9876543210")).classes == tuple("9876543210")


def test_B09_synsets_and_their_words_are_the_same_names(tmp_path: Path) -> None:
    ids = wnids("imagenet1k")
    source = opened(class_folders(tmp_path, dict.fromkeys((ids[281], ids[7], ids[134]), 2)))
    words = class_names("imagenet1k")
    assert source.classes == (words[7], words[134], words[281]) and "crane (n02012849)" in source.classes
    for model in (words, ids, tuple(reversed(words)), tuple(reversed(ids))):
        moved = matched(source, model)
        assert [in_words(model)[label] for label in moved.labels] == [source.classes[label] for label in source.labels]
    assert opened(tmp_path, classes="imagenet1k").labels.tolist() == [7, 7, 134, 134, 281, 281]


def a_pair(draw: random.Random) -> tuple[list[str], list[str]]:
    alphabet = [*string.ascii_letters[:8], *"0123456789", "é", " ", "-"]
    pool = sorted({"".join(draw.choices(alphabet, k=draw.randint(1, 4))).strip() or "x" for _ in range(30)})
    unlike: dict[str, str] = {name.casefold(): name for name in pool}
    names = list(unlike.values())
    one = draw.sample(names, draw.randint(2, 8))
    other = list(one)
    for _ in range(draw.randint(0, 2)):
        kind = draw.randrange(3)
        if kind == 0 and len(other) > 1:
            other.pop(draw.randrange(len(other)))
        elif kind == 1:
            other.append(draw.choice(names))
        draw.shuffle(other)
    return one, sorted(set(other))


def check_pair(seed: int) -> None:
    """Data and model of random names: equal sets or a part of them are matched by name, all else is refused."""
    draw = random.Random(seed)
    theirs, ours = a_pair(draw)
    draw.shuffle(ours)
    source = from_arrays(np.zeros((2 * len(theirs), 2, 2), np.uint8), np.arange(2 * len(theirs)) % len(theirs), theirs)
    if set(theirs) <= set(ours):
        moved = matched(source, tuple(ours))
        assert [moved.classes[label] for label in moved.labels] == [theirs[label] for label in source.labels]
    else:
        error = refused("V403", matched, source, tuple(ours))
        lacking = [name for name in theirs if name not in ours]
        assert [line for line in error.evidence if "only in the data" in line] == [
            f"only in the data: {name}" for name in lacking[:5]
        ]


def test_B09_random_pairs_in_short() -> None:
    for seed in range(60):
        check_pair(seed)


@pytest.mark.prove
def test_B09_random_pairs() -> None:
    for seed in range(5_000):
        check_pair(seed)


@pytest.mark.prove
def test_B09_random_pairs_of_folders(tmp_path: Path) -> None:
    """500 pairs of train and val on the disk: the same names or a refusal, and never another label."""
    agreed = 0
    for seed in range(500):
        one, other = a_pair(random.Random(seed))
        root = tmp_path / str(seed)
        for part, names in (("train", one), ("val", other)):
            for name in names:
                (root / part / name).mkdir(parents=True)
                (root / part / name / "0.png").write_bytes(b"x")
        if set(one) == set(other):
            source = opened(root)
            agreed += 1
            assert all(title.split("/")[1] == name for title, name in names_of(source).items())
        else:
            refused("V403", opened, root)
    assert 50 < agreed < 450


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet="ab09 -", min_size=1, max_size=5), min_size=1, max_size=8))
def test_natural_order_is_timms(names: list[str]) -> None:
    """Their key is a list of numbers and texts, which cannot always be compared; where it can, ours agrees."""
    import re

    def theirs(text: str) -> list[int | str]:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text.lower())]

    assert sorted(names, key=natural) == sorted(names, key=theirs)  # type: ignore[arg-type]


RECIPE = """
model: {variant: cct_2_3x2_32}
data: {source: folder, root: ROOT, batch: 2}
schedule: {name: constant, lr: 0.1, epochs: 1}
"""


def test_B09_the_choice_is_recorded_and_another_one_is_another_recipe(tmp_path: Path) -> None:
    class_folders(tmp_path, {"1": 2, "2": 2, "10": 2})

    def settled(*overrides: str) -> object:
        recipe = parse_recipe(RECIPE.replace("ROOT", str(tmp_path)), "x.yaml", overrides)
        return settle(recipe, open_source(recipe.data))

    (tmp_path.parent / "names.txt").write_text("10\n2\n1\n")
    ways = {
        "bytes": settled(),
        "natural": settled("data.class_order=natural"),
        "list": settled('data.classes=["10", "2", "1"]'),
        "file": settled(f"data.classes={tmp_path.parent / 'names.txt'}"),
        "names": settled('data.rename={"1": "one: #1", "2": "no"}'),
    }
    data = {name: to_plain(recipe)["data"] for name, recipe in ways.items()}  # type: ignore[arg-type]
    assert data["bytes"]["class_order"] == "bytes" and data["natural"]["class_order"] == "natural"  # type: ignore[index]
    assert data["list"]["classes"] == data["file"]["classes"] == ["10", "2", "1"]  # type: ignore[index]
    prints = {name: fingerprint(recipe) for name, recipe in ways.items()}  # type: ignore[arg-type]
    assert prints["list"] == prints["file"] and len(set(prints.values())) == 4
    for name, recipe in ways.items():
        again = parse_recipe(to_yaml(recipe, version="1"), "again.yaml")  # type: ignore[arg-type]
        assert fingerprint(again) == prints[name] == fingerprint(settle(again, open_source(again.data))), name


ANY = st.text(st.characters(codec="utf-8"), min_size=1, max_size=9)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(ANY, ANY, max_size=4))
@example({"from_": "_"})
def test_any_names_come_back_from_a_resolved_recipe(names: dict[str, str]) -> None:
    recipe = parse_recipe(RECIPE, "x.yaml")
    recipe = replace(recipe, data=replace(recipe.data, rename=names, classes=tuple(names.values())))
    again = parse_recipe(to_yaml(recipe, version="1"), "again.yaml")
    assert again.data.rename == names and again.data.classes == tuple(names.values())


def test_settings_of_data_on_a_command_line() -> None:
    given = ["data.rename={a: b}", "data.classes=[b, c]", "data.class_order=natural"]
    found = evaluation_recipe("MODEL", "p", given).data
    assert found == Data(root="p", rename={"a": "b"}, classes=("b", "c"), class_order="natural")
    assert evaluation_recipe("MODEL", "p", ["data.classes=names.txt"]).data == Data(root="p", classes="names.txt")
    wrong = ["data.class_ordr=natural", "train.seed=1", "data.rename=[1]", "data.classes=[1.5]"]
    with pytest.raises(RecipeError) as caught:
        evaluation_recipe("MODEL", "p", wrong)
    assert len(caught.value.evidence) == 4 and "did you mean `class_order`?" in caught.value.evidence[0]


def test_a_list_of_labels_counts_the_given_classes(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    (tmp_path / "val.txt").write_text("0 2\n1 0\n2 1\n")
    assert opened(tmp_path, classes=("c", "b", "a")).labels.tolist() == [2, 0, 1]


def test_a_file_of_names_that_is_not_there_is_wrong_use_and_no_fault_of_the_disk(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "photos", {"a": 2, "b": 2})
    error = refused("V402", opened, root, classes=str(tmp_path / "names.txt"))
    assert error.exit_code == 2 and "names.txt" in error.what


def test_known_names_are_told_once_where_two_parts_have_them(tmp_path: Path) -> None:
    for part in ("train", "val"):
        class_folders(tmp_path / part, {"cat": 2, "dog": 2})
    error = refused("V403", opened, tmp_path, rename={"zebra": "cat"})
    assert "\n".join(error.evidence).count("dog") <= 1
