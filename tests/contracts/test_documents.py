"""Documents tell the truth: commands parse, files are there, examples run, transcripts are what is printed."""

from __future__ import annotations

import doctest
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

from vitrail.cli.main import run, vitrail
from vitrail.models import build
from vitrail.models.classifier import Classifier
from vitrail.models.configs import ViTConfig
from vitrail.pictures.policy import HALF, Policy
from vitrail.recipe import recipe_names
from vitrail.recipe.read import evaluation_names, recipe_path
from vitrail.weights import load, native_tensors, save_as
from vitrail.weights.user_dialect import read_dialect

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def _commands() -> Iterator[tuple[str, str]]:
    ours = [path for path in DOCUMENTS if path.parent.name != "adding"]  # those pages' commands come with their diffs
    for path in [*ours, ROOT / "Makefile", *map(recipe_path, (*recipe_names(), *evaluation_names()))]:
        for line in path.read_text().splitlines():
            text = line.strip().strip("|").replace("$(BIN)/", "").replace("@echo", "").strip().strip('"').strip()
            text = text.removeprefix("# ").removeprefix("$ ")
            if text.startswith("vitrail ") and not re.match(r"vitrail [A-Z\[]|vitrail/", text):
                yield path.relative_to(ROOT).as_posix(), re.split(r"\s{3,}|\s#\s", text)[0]
        for text in re.findall(r"`(vitrail [^`]+)`", path.read_text()):
            yield path.relative_to(ROOT).as_posix(), text


@pytest.mark.parametrize(("where", "command"), sorted(set(_commands())))
def test_commands_parse(where: str, command: str) -> None:
    words = shlex.split(command)[1:]
    context = vitrail.make_context("vitrail", list(words), resilient_parsing=True)
    name, verb, rest = vitrail.resolve_command(context, words)
    assert verb is not None, f"{where}: {command}"
    if not rest:
        return  # a verb that is only named
    try:
        verb.make_context(name, rest)
    except click.exceptions.Exit as leaving:  # --help
        assert leaving.exit_code == 0


def test_there_are_commands() -> None:
    assert len(set(_commands())) > 15


def _anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_and_files_exist(path: Path) -> None:
    text = path.read_text()
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
            page = path.parent / target if target else path
            assert not anchor or anchor in _anchors(page), f"{path.name} links to {target}#{anchor}"
    for target in re.findall(r"`((?:docs|tests|vitrail|bench|results)/[\w./-]*)`", text):
        assert (ROOT / target).exists(), f"{path.name} names {target}"


@pytest.mark.parametrize(
    "path", [p for p in DOCUMENTS if ">>> " in p.read_text()], ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_examples_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = doctest.testfile(str(path), module_relative=False, encoding="utf-8")
    assert done.attempted and not done.failed


WEIGHTS = (ROOT / "docs" / "guides" / "weights.md").read_text()


def test_the_transcript_is_what_convert_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (transcript,) = re.findall(r"```text\n(\$ vitrail convert .*?)```", WEIGHTS, re.DOTALL)
    steps = [step.strip().split("\n") for step in transcript.split("$ vitrail ")[1:]]
    assert len(steps) > 4
    for command, *printed in steps:
        assert run(shlex.split(command)) == 0
        told = capsys.readouterr()
        assert (told.err + told.out).splitlines() == printed, command


def test_the_dialect_of_the_guide_holds_in_both_directions(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(name: .*?)```", WEIGHTS, re.DOTALL)
    path = tmp_path / "torchvision.yaml"
    path.write_text(text)
    assert (read_dialect(path).name, len(read_dialect(path).rules)) == ("torchvision", 20)
    config = ViTConfig(image_size=(32, 32), classes=5, dim=24, depth=2, heads=3)
    policy = Policy(size=(32, 32), mean=HALF.mean, std=HALF.std)
    ours = Classifier(build(config), config, policy, tuple("abcde"))
    save_as(ours, tmp_path / "vit.pth", str(path))
    back = load(tmp_path / "vit.pth", config, dialect=str(path)).classifier
    assert native_tensors(back.module) == native_tensors(ours.module)
    pictures = np.ones((1, 3, 32, 32), np.float32)
    assert np.array_equal(back.logits(pictures), ours.logits(pictures))


def test_error_page_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("error_page", ROOT / "docs" / "errors.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "errors.md").read_text() == module.text(), "run: python docs/errors.py > docs/errors.md"


def test_the_house_names_every_room() -> None:
    """docs/house.md draws the tree as it is: every file and folder of the package, and nothing else."""
    text = (ROOT / "docs" / "house.md").read_text()
    drawn = set(re.findall(r"^ {0,6}([\w/]+(?:\.py|/))", text.split("```")[3], re.MULTILINE))
    real = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in (ROOT / "vitrail").iterdir()
        if path.name != "__pycache__" and (path.is_dir() or path.suffix == ".py")
    }
    assert drawn == real
