"""`--help`, lists and recipes without torch or NumPy; the public names, frozen."""

from __future__ import annotations

import subprocess
import sys

import pytest

import vitrail

HEAVY = ("torch", "numpy", "PIL", "rich", "matplotlib", "onnxruntime", "openvino", "sklearn")


def _loaded(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has imported after `code`."""
    tail = f"\nimport sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.splitlines()[-1].split())


def test_import_costs_nothing() -> None:
    assert _loaded("import vitrail; dir(vitrail)") == set()


@pytest.mark.parametrize(
    "verb",
    [
        "",
        "train",
        "plan",
        "evaluate",
        "predict",
        "export",
        "verify",
        "show",
        "convert",
        "weights",
        "data",
        "replay",
        "compare",
        "benchmark",
        "offline",
    ],
)
def test_help_is_cold(verb: str) -> None:
    code = f"from vitrail.cli import run; assert run([{verb!r}, '--help'] if {verb!r} else ['--help']) == 0"
    assert _loaded(code) == set()


def test_recipes_are_parsed_without_torch() -> None:
    code = "from vitrail.recipe import load_recipe, recipe_names\n[load_recipe(name) for name in recipe_names()]"
    assert _loaded(code) == set()


def test_lists_are_shown_without_torch() -> None:
    code = "from vitrail.cli import run\nfor what in ('models', 'recipes', 'datasets'): assert run(['show', what]) == 0"
    assert "torch" not in _loaded(code)


def test_public_names() -> None:
    assert vitrail.__all__ == sorted(vitrail.__all__)
    assert vitrail.__all__ == [
        "Bundle", "Classifier", "Policy", "Recipe", "VitrailError", "benchmark", "compare", "convert", "create",
        "evaluate", "export", "load_recipe", "names", "open", "predict", "train", "verify", "weights",
    ]  # fmt: skip
    for name in vitrail.__all__:
        assert getattr(vitrail, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        vitrail.nonsense  # noqa: B018
