"""`compare`: one model on two engines is the same, two models differ; what is printed, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vitrail
from tests.verbs.small import small
from vitrail.cli import run as command
from vitrail.verbs.train import train


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("compare")
    for seed in (0, 1):
        train(small("schedule.epochs=1", f"train.seed={seed}"), out=place / f"seed{seed}")
    vitrail.export(place / "seed0")
    return place


def test_one_model_on_two_engines_gives_the_same_answers(place: Path) -> None:
    done = vitrail.compare(place / "seed0", place / "seed0", data="digits", engines=("torch", "onnx"))
    assert [side.engine for side in done.sides] == ["torch", "onnx"]
    assert done.sides[0].weights_sha256 == done.sides[1].weights_sha256
    assert done.comparison.same and not done.comparison.changed
    assert (done.generated, done.comparison.pictures, done.comparison.labelled) == (64, 64 + 355, 355)
    assert all(side.p50_s > 0 for side in done.sides)
    done.raise_if_differ()


def test_an_open_model_is_taken_as_it_is(place: Path) -> None:
    opened = vitrail.open(place / "seed0", engine="onnx")
    done = vitrail.compare(opened, place / "seed0")
    assert done.comparison.pictures == 64
    assert done.title(3) == "generated picture 3"
    assert done.to_json()["data"] is None


def test_two_models_differ(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", str(place / "seed0"), str(place / "seed1"), "--data", "digits"]
    assert command(words) == 5
    out, err = capsys.readouterr()
    assert "error[V804]: the two models differ: max |dlogit| " in err
    assert "McNemar    p = " in out and "64 generated pictures, 355 of data" in out
    assert command([*words, "--bound", "1000", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["same"] and values["changed"]
    alone, correct = values["alone_correct"], values["correct"]
    assert alone[0] - alone[1] == correct[0] - correct[1]
    assert all(one["picture"].startswith(("generated picture ", "digit-")) for one in values["changed"])
    evaluated = [vitrail.evaluate(place / f"seed{seed}", "digits").evaluation.correct for seed in (0, 1)]
    assert correct == evaluated


def test_other_classes_and_no_model_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["compare", str(place / "seed0"), "cct_2_3x2_32"]) == 2
    assert command(["compare", str(place / "seed0"), str(place / "nothing")]) == 2
    assert command(["compare", str(place / "seed0"), str(place / "seed0"), "--bound", "-1"]) == 2
    err = capsys.readouterr().err
    assert [line.split(":")[0] for line in err.splitlines() if line.startswith("error")] == [
        "error[V007]", "error[V002]", "error[V001]",
    ]  # fmt: skip
