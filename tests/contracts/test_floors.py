"""The two laws of the house, read from the imports of every file: the floors, and one foreign library one place."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "vitrail"
FILES = sorted(PACKAGE.rglob("*.py"))

# room (file or folder) -> floor; the longest matching path counts
FLOORS = {
    "errors.py": 0, "randomness.py": 0, "disk.py": 0.5, "locks.py": 0.5, "__init__.py": 7, "__main__.py": 8,
    "formats": 1, "pictures": 1, "remote": 1, "class_names": 1,
    # configs and catalogue rows: values without torch, made of what floor 1 offers
    "models/configs.py": 1.5, "models/catalog.py": 1.5, "models/count.py": 1.5,
    "training/configs.py": 1.5, "training/optimizer_configs.py": 1.5, "training/watch_configs.py": 1.5,
    "training/due.py": 1.5, "data/configs.py": 1.5,
    "models": 2, "machine.py": 2,
    "bundle": 3, "weights": 3, "data": 3, "ranks": 3,
    "engines": 4.0, "evaluation": 4.0, "predictions": 4.0,
    "training": 4.5, "proof": 4.5, "reports": 4.5, "offline": 4.5,
    "opening.py": 5, "recipe": 5,
    "verbs": 6,
    "cli": 7,
}  # fmt: skip

# foreign library -> the one file or folder that imports it; numpy, PIL and torch are free where their floor allows
PLACES = {
    "click": "cli",
    "rich": "cli",
    "yaml": "formats/yaml.py",
    "safetensors": "formats/safetensors.py",
    "h5py": "formats/hdf5",
    "cryptography": "formats/mindspore_encrypted.py",
    "numba": "pictures/kernels.py",
    "simplejpeg": "pictures/turbo.py",
    "sklearn": "data/sources/digits.py",
    "pyarrow": "formats/parquet.py",
    "datasets": "data/sources/huggingface.py",
    "fsspec": "remote/storage.py",
    "ray": "predictions/ray.py",
    "matplotlib": "reports/plots",
    "onnx": "engines/onnx.py",
    "onnxruntime": "engines/onnx.py",
    "onnxscript": "engines/onnx.py",
    "openvino": "engines/openvino.py",
    "mindspore": "engines/mindir/child.py",  # a script for another environment: no file of the package runs it here
    "nncf": "engines/nncf.py",
    "wandb": "training/trackers/wandb.py",
    "mlflow": "training/trackers/mlflow.py",
    "torch.distributed": "ranks",
}
FREE = {"numpy", "PIL", "torch", "vitrail"}


def _relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _floor(relative: str) -> float:
    matching = [room for room in FLOORS if relative == room or relative.startswith(room + "/")]
    assert matching, f"{relative} stands in no room of the house"
    return FLOORS[max(matching, key=len)]


def _room(relative: str) -> str:
    return relative.split("/")[0]


def _imports(path: Path) -> Iterator[tuple[str, int, bool]]:
    """(module, line, whether at module level); imports for type checkers alone are passed over."""
    tree = ast.parse(path.read_text())
    typed = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if id(node) in typed:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            assert node.module is not None
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno, id(node) in top


def _target(module: str) -> str | None:
    """The file of a vitrail module, relative to the package."""
    parts = module.split(".")[1:]
    while parts:
        base = PACKAGE.joinpath(*parts)
        if base.with_suffix(".py").is_file():
            return _relative(base.with_suffix(".py"))
        if (base / "__init__.py").is_file():
            return _relative(base / "__init__.py")
        parts.pop()
    return None


@pytest.mark.parametrize("path", FILES, ids=_relative)
def test_imports_go_down(path: Path) -> None:
    mine = _relative(path)
    for module, line, _ in _imports(path):
        if module.split(".")[0] != "vitrail":
            continue
        target = _target(module)
        if target is None or _room(target) == _room(mine):
            continue
        assert _floor(target) < _floor(mine), (
            f"{mine}:{line} (floor {_floor(mine)}) imports {target} ({_floor(target)})"
        )


@pytest.mark.parametrize("path", FILES, ids=_relative)
def test_one_foreign_library_one_place(path: Path) -> None:
    mine = _relative(path)
    for module, line, _ in _imports(path):
        name = "torch.distributed" if module.startswith("torch.distributed") else module.split(".")[0]
        if name in sys.stdlib_module_names or name in FREE:
            continue
        places = PLACES.get(name)
        assert places is not None, f"{mine}:{line} imports {name}, which has no place in the house"
        assert mine == places or mine.startswith(f"{places}/"), f"{mine}:{line} imports {name}"


NO_TORCH = (
    "bundle", "data/sources", "evaluation", "predictions", "proof", "offline", "opening.py", "machine.py", "verbs",
    "recipe", "cli",
)  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=_relative)
def test_torch_is_imported_where_the_floor_allows(path: Path) -> None:
    mine = _relative(path)
    for module, line, top in _imports(path):
        if module.split(".")[0] != "torch":
            continue
        assert _floor(mine) >= 2, f"{mine}:{line} imports torch on floor {_floor(mine)}"
        without = any(mine == room or mine.startswith(room + "/") for room in NO_TORCH)
        assert not (top and without), f"{mine}:{line} imports torch at module level, but works with torch absent"
