"""Class names: counts, order, uniqueness, and what other lists say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from vitrail.class_names import COUNTS, EMPTY_SYNSETS, FOLDER, ClassSet, class_names, wnids
from vitrail.class_names.numbered import placeholders
from vitrail.data.sources.cifar import CIFAR10_CLASSES
from vitrail.errors import UsageError

IMAGENETS: tuple[ClassSet, ...] = ("imagenet1k", "imagenet21k", "imagenet22k")


@pytest.mark.parametrize("of", COUNTS)
def test_every_set_has_its_count_and_no_name_twice(of: ClassSet) -> None:
    names = class_names(of)
    assert len(names) == len(set(names)) == COUNTS[of]
    assert all(name == name.strip() and name.isascii() and name.isprintable() and name for name in names)


@pytest.mark.parametrize("of", IMAGENETS)
def test_wordnet_ids(of: ClassSet) -> None:
    ids = wnids(of)
    assert len(ids) == COUNTS[of]
    assert list(ids) == sorted(set(ids))  # all three sets are in the order of the ids
    assert all(re.fullmatch(r"n\d{8}", wnid) for wnid in ids)


def test_some_classes_that_everybody_knows() -> None:
    ids, names = wnids("imagenet1k"), class_names("imagenet1k")
    for index, wnid, name in [
        (0, "n01440764", "tench"), (1, "n01443537", "goldfish"), (207, "n02099601", "golden retriever"),
        (281, "n02123045", "tabby"), (285, "n02124075", "Egyptian cat"), (761, "n04074963", "remote control"),
        (999, "n15075141", "toilet tissue"),
    ]:  # fmt: skip
        assert (ids[index], names[index]) == (wnid, name)
    assert [name for name in names if "(" in name] == [
        "crane (n02012849)", "crane (n03126707)", "maillot (n03710637)", "maillot (n03710721)",
    ]  # fmt: skip


def test_the_sets_fit_each_other() -> None:
    full, fewer = wnids("imagenet21k"), wnids("imagenet22k")
    assert (full[9205], full[15027]) == EMPTY_SYNSETS
    assert fewer == tuple(wnid for wnid in full if wnid not in EMPTY_SYNSETS)
    assert set(wnids("imagenet1k")) - set(full) == {"n04399382"}  # the teddy bear is missing from the large set
    # answers that the converter of BEiT's 22k heads was checked with, on a picture of two cats and remote controls
    assert (class_names("imagenet22k")[2397], class_names("imagenet22k")[2396]) == ("tabby (n02123045)", "kitten")


def test_cifar() -> None:
    assert class_names("cifar10") == CIFAR10_CLASSES
    names = class_names("cifar100")
    assert list(names) == sorted(names) and names[0] == "apple" and names[99] == "worm" and "lawn_mower" in names


def test_what_is_not_known_is_numbered() -> None:
    assert placeholders(class_names("flowers102"))
    assert class_names("none") == ()


def test_real_pictures_are_labelled_with_our_ids(shared: Path) -> None:
    labels = json.loads((shared / "data" / "photos" / "tinyimagenet20_classes.json").read_text())
    found = set(re.findall(r"n\d{8}", json.dumps(labels)))
    assert found and found <= set(wnids("imagenet21k"))


def test_unknown_sets_are_refused() -> None:
    with pytest.raises(UsageError, match="no class set") as caught:
        class_names("imagenet1")  # type: ignore[arg-type]
    assert "imagenet1k" in caught.value.hint
    with pytest.raises(UsageError, match="no WordNet ids"):
        wnids("cifar10")


def test_they_are_small_shipped_and_need_no_torch() -> None:
    paths = [path for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".py"]
    files = sorted(path.name for path in paths)
    assert files == ["NOTICE", "cifar10.txt", "cifar100.txt", "flowers102.txt", "imagenet1k.tsv", "imagenet21k.tsv.gz"]
    assert sum(path.stat().st_size for path in paths) < 1 << 20
    assert (FOLDER / "imagenet21k.tsv.gz").read_bytes()[4:8] == bytes(4)  # no time: made again, it is the same
    settings = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())
    assert "class_names/*" in settings["tool"]["setuptools"]["package-data"]["vitrail"]
    code = "import sys; from vitrail.class_names import wnids; wnids('imagenet21k'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
