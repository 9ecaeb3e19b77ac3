"""What a text of the package tells the user to type exists: every `--option`, and every verb after `vitrail`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import pytest

from vitrail.cli.main import VERBS, vitrail

PACKAGE = Path(__file__).resolve().parents[2] / "vitrail"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "cli" not in path.relative_to(PACKAGE).parts)


def options(verb: str) -> set[str]:
    command = vitrail.get_command(click.Context(vitrail), verb)
    assert command is not None
    inner = list(command.commands.values()) if isinstance(command, click.Group) else []
    params = [parameter for one in (command, *inner) for parameter in one.params]
    return {word for parameter in params for word in parameter.opts} | {"--help"}


FOREIGN = {
    "--keep", "--sparse",  # of unzstd and tar
    "--nnodes", "--node-rank", "--nproc-per-node", "--master-addr", "--master-port",  # of torchrun
    "--framework", "--output", "--soc",  # of atc, up to the first underscore
}  # fmt: skip
KNOWN = FOREIGN.union(*(options(verb) for verb in VERBS))


def texts(path: Path) -> list[str]:
    """Every string of a file; an f-string as one, with `{}` for what is filled in."""
    tree = ast.parse(path.read_text())
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            found.append(node.value)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_every_option_and_verb_that_a_text_names_exists(path: Path) -> None:
    for text in texts(path):
        unknown = {word for word in re.findall(r"(?<![\w}-])--[a-z][a-z-]*", text) if word not in KNOWN}
        assert not unknown, f"{text!r} names {unknown}"
        for verb, rest in re.findall(r"`vitrail ([a-z]+)\b([^`]*)`", text):
            assert verb in VERBS, f"{text!r} names the verb {verb}"
            wrong = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest)) - options(verb)
            assert not wrong, f"{text!r} gives `vitrail {verb}` {wrong}"
