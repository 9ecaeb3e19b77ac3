"""docs/coming-from-the-model-zoo.md: every name of the five packages has its row, and what a row names is there."""

from __future__ import annotations

import ast
import collections
import dataclasses
import inspect
import re
import types
import typing
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

import vitrail as package
from tests.contracts.model_zoo import PACKAGES, TABLES, Package
from vitrail.cli.main import vitrail
from vitrail.errors import CODES
from vitrail.models.catalog import VARIANTS
from vitrail.models.configs import FAMILIES
from vitrail.pictures.policy import Policy
from vitrail.recipe import load_recipe
from vitrail.recipe.precision import MEANT
from vitrail.recipe.read import parse_recipe
from vitrail.recipe.schema import KEYS, PARTS
from vitrail.recipe.write import to_plain
from vitrail.training.lines import TABLE

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "coming-from-the-model-zoo.md").read_text()
DIFFERENCES = "Numbers that differ on purpose"
by_section = pytest.mark.parametrize("zoo", PACKAGES, ids=lambda zoo: zoo.section)


def _sections(text: str, level: str) -> dict[str, str]:
    """The parts of a page below headings of one level, by heading."""
    return dict(part.split("\n", 1) for part in re.split(rf"^{level} ", text, flags=re.MULTILINE)[1:])


def _rows(text: str) -> list[list[str]]:
    """Cells of all tables, without their headings."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row, below in zip(rows, [*rows[1:], [""]], strict=True) if not (_is_rule(row) or _is_rule(below))]


def _is_rule(row: list[str]) -> bool:
    return all(set(cell) == {"-"} for cell in row)


def _names(cell: str) -> list[str]:
    """What a first cell names: the texts in backticks, or else the cell."""
    return re.findall(r"`([^`]+)`", cell) or [cell]


def _tables(zoo: Package) -> dict[str, list[list[str]]]:
    return {heading: _rows(text) for heading, text in _sections(_sections(PAGE, "##")[zoo.section], "###").items()}


@by_section
@pytest.mark.parametrize("table", TABLES)
def test_every_name_has_a_row_and_every_row_is_listed(zoo: Package, table: str) -> None:
    named = [name for row in _tables(zoo)[table] for name in _names(row[0])]
    listed = zoo.tables()[table]
    assert not (missing := [name for name in listed if name not in named]), f"no row for {missing}"
    assert not (more := [name for name in named if name not in listed]), f"rows that no list has: {more}"


@pytest.mark.parametrize("section", [*(zoo.section for zoo in PACKAGES), DIFFERENCES])
def test_rows_are_whole_and_unlike(section: str) -> None:
    rows = _rows(_sections(PAGE, "##")[section])
    assert rows
    for row in rows:
        assert len(row) == 3 and all(row), row
    twice = [name for name, count in Counter(name for row in rows for name in _names(row[0])).items() if count > 1]
    assert not twice


def test_the_page_has_these_sections_and_links_to_them() -> None:
    assert list(_sections(PAGE, "##")) == [*(zoo.section for zoo in PACKAGES), DIFFERENCES]
    anchors = {re.sub(r"[^\w -]", "", name).lower().replace(" ", "-") for name in _sections(PAGE, "##")}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) == anchors


# ---- what the third column names


def _named() -> list[str]:
    cells = [row[2] for text in _sections(PAGE, "##").values() for row in _rows(text)]
    cells += [row[2] for row in _rows(PAGE.split("\n## ")[0])]
    return sorted({text for cell in cells for text in re.findall(r"`([^`]+)`", cell)})


def commands(group: click.Group) -> Iterator[click.Command]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield command
        if isinstance(command, click.Group):
            yield from commands(command)


@cache
def _options() -> frozenset[str]:
    return frozenset(
        name for command in commands(vitrail) for option in command.params for name in option.opts if name[0] == "-"
    ) | {"--help"}


def _kinds(key: str) -> list[typing.Any]:
    """The annotations that a dotted recipe key may have; none when no recipe has it."""
    first, *rest = key.split(".")
    if first not in KEYS:
        return []
    if first == "model" and rest == ["variant"]:
        return [str]
    starts: dict[str, list[typing.Any]] = {"model": list(FAMILIES.values()), "policy": [Policy]}
    kinds = starts.get(first) or [typing.cast(typing.Any, PARTS.get(first, str))]
    for name in rest:
        parts = [part for kind in kinds for part in members(kind) if dataclasses.is_dataclass(part)]
        kinds = [hints[name] for part in parts if name in (hints := typing.get_type_hints(part))]
    return [part for kind in kinds for part in members(kind)]


def members(kind: typing.Any) -> tuple[typing.Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def _takes(kind: typing.Any, value: str) -> bool:
    """Whether a recipe key of `kind` may have the value, as it would be written on the command line."""
    if typing.get_origin(kind) is typing.Literal:
        return value in typing.get_args(kind)
    if kind is type(None):
        return value == "null"
    if kind is bool:
        return value in ("true", "false")
    if kind is int:
        return value.isdigit()
    if kind is float:
        return re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?", value) is not None
    if typing.get_origin(kind) is tuple:
        return isinstance(ast.literal_eval(value), (list, int))
    return kind is str


def _is_recipe_text(text: str) -> bool:
    key, _, value = text.partition("=")
    kinds = _kinds(key)
    if key == "model.variant" and value:
        return value in VARIANTS
    if key == "precision" and value in MEANT:
        return True
    return bool(kinds) and (not value or any(_takes(kind, value) for kind in kinds))


def _is_python(text: str) -> bool:
    """A call of the public names whose keywords are its own: `weights.load(path, head="zero")`."""
    try:
        call = ast.parse(text, mode="eval").body
    except SyntaxError:
        return False
    if not isinstance(call, ast.Call):
        return False
    found: typing.Any = package
    for name in ast.unparse(call.func).removeprefix("vitrail.").split("."):
        found = getattr(found, name)
    known = inspect.signature(found).parameters
    return all(word.arg in known for word in call.keywords) and _head_stands(call, known)


def _head_stands(call: ast.Call, known: typing.Mapping[str, inspect.Parameter]) -> bool:
    given = [word.value for word in call.keywords if word.arg == "head"]
    if not given:
        return True
    from vitrail.weights.heads import Head

    assert isinstance(given[0], ast.Constant)
    return given[0].value in typing.get_args(Head)


def _is_command(text: str) -> bool:
    """One of ours, alone or started by torchrun."""
    words = text.partition(" -m ")[2].split() if text.startswith("torchrun ") else text.split()
    return (
        len(words) > 0
        and words[0] == "vitrail"
        and len(words) > 1
        and words[1] in vitrail.list_commands(click.Context(vitrail))
    )


def _is_built(text: str) -> bool:
    """A target of the Makefile, or a verb of the C++ program."""
    program, _, rest = text.partition(" ")
    if program == "make":
        return f"\n{rest}:" in (ROOT / "Makefile").read_text()
    verbs = re.findall(r'\{"(\w+)", \w+, with_engine', (ROOT / "cpp" / "apps" / "main.cpp").read_text())
    return program == "vitrail-cpp" and rest.split()[0] in verbs


def _is_variable(text: str) -> bool:
    """One of those that torchrun sets."""
    return text.isupper() and f'"{text}"' in (ROOT / "vitrail" / "ranks" / "world.py").read_text()


def _is_file(text: str) -> bool:
    """A file of this repository, or one of a run folder or bundle that the house or a guide describes."""
    guides = [ROOT / "docs" / "house.md", ROOT / "docs" / "quickstart.md", *(ROOT / "docs" / "guides").glob("*.md")]
    described = "\n".join(path.read_text() for path in guides)
    known = re.findall(r"[\w.-]+[/.][\w/.-]*", described)
    return (ROOT / text).exists() or any(text == place or place.startswith(text.rstrip("/") + "/") for place in known)


def _is_else(text: str) -> bool:
    return text in VARIANTS or text in CODES or text in PLAIN or _is_variable(text)


# What is no part of vitrail, or known by another test.
PLAIN = (
    "pip install",
    "make install",
    "vitrail[onnx]",
    "vitrail[openvino]",
    "vitrail[remote]",
    "$XDG_CACHE_HOME/vitrail",
    "checkpoints/best",
    "/Momentum",
    # names of the other columns that a cell points to
    "fusion_switch_file",
    "perf_test.py",
    "--optim_level",
)


@pytest.mark.parametrize("text", _named())
def test_what_a_row_names_is_there(text: str) -> None:
    if text.startswith(("vitrail ", "torchrun ")):
        assert _is_command(text)
    elif text.startswith("--") and text not in PLAIN:
        assert text in _options()
    elif text.startswith(("make ", "vitrail-cpp ")) and text not in PLAIN:
        assert _is_built(text)
    else:
        assert _is_recipe_text(text) or _is_else(text) or _is_python(text) or _is_file(text)


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_the_recipes_are_the_shipped_ones(text: str) -> None:
    """All but the places of pictures and start weights, as they were called there."""
    (name,) = re.findall(r"shipped as `([^`]+)`", PAGE[: PAGE.index(text)])[-1:]
    found, shipped = (
        {key: value for key, value in to_plain(recipe).items() if key != "name"}
        for recipe in (parse_recipe(text, "the page"), load_recipe(name))
    )
    for part, places in (("data", ("source", "root")), ("weights", ("path",))):
        for plain in (found, shipped):
            plain[part] = {key: value for key, value in plain.get(part, {}).items() if key not in places}
    assert found == shipped


def test_the_checks_see_what_is_not_there() -> None:
    assert not _is_recipe_text("train.acumulate") and not _is_recipe_text("precision=fp8")
    assert not _is_recipe_text("optimizer.name=lars") and not _is_recipe_text("model.variant=vit_base_patch17_224")
    assert (
        _is_recipe_text("optimizer.name=sgd") and _is_recipe_text("mix=null") and _is_recipe_text("policy.mode=squash")
    )
    assert _is_command("torchrun --nproc-per-node=8 -m vitrail train x") and not _is_command(
        "torchrun -m vitrail tain x"
    )
    assert _is_variable("LOCAL_RANK") and not _is_variable("RANKS")
    assert not _is_file("checkpoints.tar") and not _is_command("vitrail bench x") and "--nonsense" not in _options()
    assert _is_file("journal.jsonl") and not _is_file("journal")
    assert _is_python("weights.load(path, classes=10)") and not _is_python("weights.load(path, nothing=1)")


# ---- the lists against the packages' own READMEs


def _readme(shared: Path, zoo: Package) -> str:
    (text,) = [text for path in shared.glob("seeds/*.txt") if zoo.readme in (text := path.read_text("utf-8"))]
    return text


def _listed(zoo: Package) -> set[str]:
    return {name for names in zoo.tables().values() for name in names}


@by_section
def test_the_readmes_files_are_listed(shared: Path, zoo: Package) -> None:
    drawn = set(re.findall(r"(?:──|└─|├─|\|--) ?([\w.-]*\w)", _readme(shared, zoo)))
    assert len(drawn) > 3
    unlisted = drawn - {Path(name).name for name in _listed(zoo)} - {"dataset", "cifar10"}  # folders above the data
    assert not unlisted


@by_section
def test_the_readmes_arguments_are_listed(shared: Path, zoo: Package) -> None:
    text = _readme(shared, zoo)
    arguments = set(re.findall(r"(?<![\w|-])--[a-z_]+\b(?!\.)", text)) - {"--install", "--hard"}  # of others' programs
    places = set(re.findall(r"\[[A-Z_]+(?:\(\w+\))?\]", text)) - {"[SUCCESS]"}
    keys = set(re.findall(r"^  +'?([a-zA-Z_]+)'?: ?[^/\s]", text, re.MULTILINE)) - {"epoch", "FPS"}  # logs
    assert arguments
    unlisted = (arguments | places | keys) - _listed(zoo)
    assert not unlisted


SHOWN = r"^ *((?:Load |epoch: |epoch time|\{'acc'|after allreduce|NN inference|Top\d acc|top1 is|FPS:|\[SUCCESS).*)$"


@by_section
def test_the_readmes_logs_are_explained(shared: Path, zoo: Package) -> None:
    patterns = [_pattern(line) for line in zoo.tables()["Logs"]]
    lines = re.findall(SHOWN, _readme(shared, zoo), re.MULTILINE)
    unexplained = [line for line in lines if not any(pattern.fullmatch(line.strip()) for pattern in patterns)]
    assert not unexplained


@by_section
def test_the_same_lines_are_written(zoo: Package) -> None:
    """Each row that promises the same line, against the lines that its `journal.lines` writes."""
    text = _sections(_sections(PAGE, "##")[zoo.section], "###")["Logs"]
    rows = [row for row in _rows(text) if row[2].startswith("the same line")]
    named = re.findall(r"`journal\.lines=(\w+)`", text)
    assert bool(rows) == bool(named)
    written = [line for name in named for lines in TABLE[name].values() for line in lines]
    known = collections.defaultdict(lambda: 1, dynamic="", clip="", loads="")
    known["results"] = {"Loss": 1, "Top1-Acc": 1, "Top5-Acc": 1}
    for name in (name for row in rows for name in _names(row[0])):
        known["targets"] = name.strip("=").removeprefix("Using ")
        assert any(_pattern(name).fullmatch(line.format_map(known)) for line in written), name


def test_log_templates_meet_real_lines() -> None:
    """Lines that the packages printed, by MindSpore's own code or in their published logs."""
    for template, line in (
        ("epoch: N step: N, loss is X", "epoch: 1 step: 1562, loss is 0.12886986"),
        ("Train epoch time: X ms, per step time: X ms", "Train epoch time: 2776.860 ms, per step time: 694.215 ms"),
        ("epoch: N acc: X, best acc is X", "epoch: 30 acc: 0.8469910371318822, best acc is 0.8469910371318822"),
        ("Top1 acc: X", "Top1 acc:  0.80224"),
        ("=> params_num: N", "=> params_num: 22367273"),
        (
            "epoch:N  step: N , loss:  X ,  time: X  acc: X",
            "epoch:1  step: 0 , loss:  0.2134 ,  time: 3.1416  acc: 1.0000",
        ),
        ("learning_rate X", "learning_rate 2.1e-05"),
    ):
        assert _pattern(template).fullmatch(line), template
        assert any(template in zoo.tables()["Logs"] for zoo in PACKAGES), template


def _pattern(template: str) -> re.Pattern[str]:
    """N is a whole number, X a number, T any text; any run of blanks is one."""
    kinds = {"N": r"\d+", "X": r"-?[\d.]+(?:e[+-]?\d+)?", "T": ".+"}
    parts = re.split(r"(\b[NXT]\b|\s+)", template)
    return re.compile("".join(kinds.get(part, r"\s+" if part.isspace() else re.escape(part)) for part in parts))
