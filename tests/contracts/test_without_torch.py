"""A bundle opens, predicts, evaluates and verifies with torch absent; a training verb then names the pip command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import vitrail
from tests.verbs.small import small
from vitrail.verbs.show import show_pictures
from vitrail.verbs.train import train

# An interpreter in which torch and what training needs cannot be imported, nor found.
BLOCKED = """
import importlib.util, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {absent!r} else real(name, package)
from vitrail.cli import run
code = run({words!r})
assert not set({absent!r}) & set(sys.modules), "imported after all"
sys.exit(code)
"""
TRAINING = ("torch", "matplotlib", "onnxscript")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an exported bundle, a checkpoint, and some pictures."""
    folder = tmp_path_factory.mktemp("absent")
    train(small(), out=folder / "run")
    vitrail.export(folder / "run")
    show_pictures("digits", folder / "pictures")
    return folder


def without(absent: tuple[str, ...], *words: str) -> tuple[int, str, str]:
    code = BLOCKED.format(absent=absent, words=list(words))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("absent", [(*TRAINING, "openvino"), (*TRAINING, "onnxruntime", "onnx")])
def test_predict_verify_evaluate_compare_benchmark_show(place: Path, absent: tuple[str, ...]) -> None:
    bundle = str(place / "run" / "bundle")
    code, out, _ = without(absent, "predict", bundle, str(place / "pictures"), "--json")
    assert code == 0
    assert len(json.loads(out)) == 12
    shards = str(place / f"shards-{absent[-1]}")
    code, out, _ = without(absent, "predict", bundle, str(place / "pictures"), "--out", shards, "--json")
    assert code == 0
    assert json.loads(out)["pictures"] == 12 and len(list(Path(shards).glob("part-*"))) == 1
    code, out, _ = without(absent, "verify", bundle, "--data", "digits", "--json")
    assert code == 0
    assert json.loads(out)["matched"] == 355
    code, out, _ = without(absent, "evaluate", bundle, "--data", "digits", "--json")
    assert code == 0
    assert json.loads(out)["pictures"] == 355
    code, out, _ = without(absent, "compare", bundle, bundle, "--data", "digits", "--json")
    assert code == 0
    assert json.loads(out)["max_dlogit"] == 0.0
    code, out, _ = without(absent, "benchmark", bundle, "--rounds", "2", "--json")
    assert code == 0
    assert json.loads(out)["rows"][0]["engine"] in ("onnx", "openvino")
    offline = str(place / f"offline-{absent[-1]}")
    code, out, _ = without(absent, "offline", "run", bundle, "digits", offline, "--dataset", "cifar10", "--json")
    assert code == 0
    assert json.loads(out)["pictures"] == 355
    code, out, _ = without(absent, "show", bundle, "--json")
    assert code == 0
    assert json.loads(out)["engines"] == ["onnx-fp32"]


@pytest.mark.parametrize("words", [["train", "digits/cct_2_3x2_32"], ["export", "cct_2_3x2_32", "--out", "x"]])
def test_what_needs_torch_says_so(tmp_path: Path, words: list[str]) -> None:
    code, out, err = without(TRAINING, *words)
    assert (code, out) == (2, "")
    assert err.startswith("error[V003]: this needs torch")
    assert 'pip install "vitrail[train]"' in err


def test_no_engine_at_all_names_the_command(place: Path) -> None:
    absent = (*TRAINING, "onnxruntime", "openvino")
    code, _, err = without(absent, "predict", str(place / "run" / "bundle"), str(place / "pictures"))
    assert code == 2
    assert 'pip install "vitrail[onnx]"' in err
