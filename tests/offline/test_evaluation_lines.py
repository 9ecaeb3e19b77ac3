"""`evaluate --every`: the lines of the model zoo's TorchScript package, and the last one over every picture."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.offline import made
from vitrail.bundle.formats import Form
from vitrail.cli import run
from vitrail.pictures.policy import Policy
from vitrail.proof.export import export
from vitrail.verbs.evaluate import evaluate

LINE = re.compile(r"top1 is ([\d.]+), top5 is ([\d.]+), step is (\d+)")
Capture = pytest.CaptureFixture[str]


def _lines(text: str) -> list[tuple[float, float, int]]:
    found = [LINE.fullmatch(line) for line in text.splitlines() if line.startswith("top1")]
    return [(float(one[1]), float(one[2]), int(one[3])) for one in found if one is not None]


@pytest.mark.parametrize(
    ("batch", "every", "steps"), [(1, 5, [5, 10, 15, 18]), (1, 6, [6, 12, 18]), (4, 100, [5]), (64, 1, [1])]
)
def test_lines_as_it_goes_and_the_last_over_all(
    cct: Path, synsets: Path, batch: int, every: int, steps: list[int], capsys: Capture
) -> None:
    words = ["evaluate", str(cct), "--data", str(synsets), "--batch", str(batch), "--every", str(every)]
    assert run(words) == 0
    found = _lines(capsys.readouterr().out)
    assert [step for _, _, step in found] == steps
    measured = evaluate(cct, synsets, batch=batch).evaluation
    right = (measured.predictions == measured.labels).tolist()
    for top1, top5, step in found:
        done = right[: step * batch]  # the package's mean of the batches so far, where all are full
        assert top1 == pytest.approx(100 * sum(done) / len(done), abs=1e-12) and top5 == 100.0
    assert found[-1][0] == 100 * measured.correct / 18


def test_resize_mode_says_the_policys_mode(cct: Path, synsets: Path, tmp_path: Path, capsys: Capture) -> None:
    tables = {}
    for name, words in {
        "crop": ["--resize-mode", "crop"], "setting": ["policy.mode=crop"],
        "squash": ["--resize-mode", "squash"], "own": [],
    }.items():  # fmt: skip
        out = str(tmp_path / name)
        assert run(["evaluate", str(cct), *words, "--data", str(synsets), "--out", out]) == 0
        tables[name] = Path(out).read_bytes()
    assert tables["crop"] == tables["setting"] != tables["squash"] == tables["own"]
    assert "mode crop for squash" in capsys.readouterr().err
    assert run(["evaluate", str(cct), "policy.mode=crop", "--resize-mode", "crop", "--data", str(synsets)]) == 2
    assert "say the same" in capsys.readouterr().err


def test_a_flat_val_with_its_list_gives_the_same(cct: Path, synsets: Path, tmp_path: Path, capsys: Capture) -> None:
    val = made.flat(tmp_path / "ImageNet", synsets)
    (tmp_path / "names.txt").write_text("".join(f"{name}\n" for name in made.SYNSETS))
    words = ["evaluate", str(cct), "--every", "6", "--batch", "1"]
    assert run([*words, "--data", str(synsets)]) == 0
    ours = _lines(capsys.readouterr().out)
    assert run([*words, "--data", str(val), f"data.classes={tmp_path / 'names.txt'}"]) == 0
    assert _lines(capsys.readouterr().out) == ours


def test_with_json_the_lines_are_talk(cct: Path, synsets: Path, capsys: Capture) -> None:
    assert run(["evaluate", str(cct), "--data", str(synsets), "--every", "1", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["pictures"] == 18 and len(_lines(err)) == 1
    assert run(["evaluate", str(cct), "--data", str(synsets), "--every", "1", "--knn", "3"]) == 2
    assert "error[V001]: --every" in capsys.readouterr().err


def test_a_graph_that_normalises_itself_takes_no_other_mean(
    place: Path, synsets: Path, tmp_path: Path, capsys: Capture
) -> None:
    policy = Policy(size=(32, 32), mean=made.THEIRS.mean, std=made.THEIRS.std)
    model = str(export(made.classifier(made.SYNSETS, policy), tmp_path / "b", form=Form(takes="pixels")).folder)
    for verb in (["evaluate", model, "--data", str(synsets)], ["offline", "infer", model, str(synsets), str(tmp_path)]):
        more = ["--dataset", "imagenet2012"] if verb[0] == "offline" else []
        assert run([*verb, "policy.mean=[0.5,0.5,0.5]", "--engine", "onnx", *more]) == 2
        assert "lie inside a graph that takes pixels" in capsys.readouterr().err
        assert run([*verb, "policy.mode=squash", "--engine", "onnx", *more]) == 0
