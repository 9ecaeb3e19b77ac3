"""`compare`: one model on two engines is the same, two models differ; what is printed, and the exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitrail
from tests.verbs.small import small
from vitrail.cli import run as command
from vitrail.data.configs import Data
from vitrail.errors import OutsideBound, UsageError
from vitrail.opening import classifier
from vitrail.verbs.evaluate import chosen_source
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


def test_one_mistake_between_two_models_is_named_first(place: Path) -> None:
    right = classifier(place / "seed0")
    other = replace(right, policy=replace(right.policy, interpolation="nearest"))
    done = vitrail.compare(vitrail.open(place / "seed0", engine="onnx"), other)
    with pytest.raises(OutsideBound) as caught:
        done.raise_if_differ()
    assert caught.value.what == (
        "the two models differ: B answers as if interpolation were nearest in place of bicubic"
    )
    assert caught.value.evidence[0].startswith("if interpolation were nearest in place of bicubic: max |dlogit| ")
    assert caught.value.evidence[1].startswith("max |dlogit| ")
    assert done.to_json()["why"] == [caught.value.what.split(": ")[1], caught.value.evidence[0]]


def test_no_mistake_is_named_between_models_that_were_trained_apart(place: Path) -> None:
    apart = vitrail.compare(place / "seed0", place / "seed1")
    assert not apart.comparison.same
    assert apart.why == ()
    assert vitrail.compare(place / "seed0", place / "seed0").why == ()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures in two folders, without a split of their own, and two runs that hold out other ones of them."""
    place = tmp_path_factory.mktemp("folder")
    random = np.random.default_rng(0)
    for name in ("bright", "dark"):
        (place / "photos" / name).mkdir(parents=True)
        for i in range(20):
            pixels = random.integers(0, 128, (16, 16, 3), np.uint8) + (127 if name == "bright" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(place / "photos" / name / f"{i:02d}.png")
    for seed in (0, 1):
        words = ("data.source=folder", f"data.root={place / 'photos'}", "data.holdout=0.5", "data.batch=8")
        train(small(*words, "schedule.epochs=1", f"train.seed={seed}"), out=place / f"seed{seed}")
    return place


def test_no_picture_that_one_has_learnt_decides_which_is_better(folder: Path) -> None:
    runs, photos = [folder / "seed0", folder / "seed1"], folder / "photos"
    held_out = [
        set(chosen_source(vitrail.open(run).provenance, Data(root=str(photos)), "auto")[0].held_out.tolist())
        for run in runs
    ]
    assert held_out[0] != held_out[1]
    done = vitrail.compare(*runs, data=photos)
    assert set(done.indices.tolist()) == held_out[0] & held_out[1]
    assert done.comparison.labelled == len(held_out[0] & held_out[1])
    assert any("that are in the held-out part of A and in the held-out part of B" in note for note in done.notes)
    assert len(vitrail.compare(runs[0], runs[0], data=photos).indices) == len(held_out[0])
    assert len(vitrail.compare(*runs, data=photos, part="all").indices) == 40


def test_each_part_is_that_part(place: Path) -> None:
    for part, count in (("train", 1442), ("held-out", 355), ("all", 1797)):
        done = vitrail.compare(place / "seed0", place / "seed0", data="digits", part=part)  # type: ignore[arg-type]
        assert (done.comparison.labelled, done.to_json()["part"]) == (count, part)


def test_a_model_without_names_takes_those_of_the_other(place: Path) -> None:
    opened = vitrail.open(place / "seed0", engine="torch")
    named = classifier(place / "seed0")
    bare = replace(named, classes=tuple(f"class_{i}" for i in range(10)))
    done = vitrail.compare(bare, opened, data="digits")
    assert done.comparison.same and done.notes[0] == "A names no classes: they are taken in B's order"
    assert done.comparison.correct[0] == done.comparison.correct[1] > 0


def test_random_weights_and_an_engine_for_an_open_model_are_refused(place: Path) -> None:
    with pytest.raises(UsageError, match="V005"):
        vitrail.compare("cct_2_3x2_32", "cct_2_3x2_32")
    with pytest.raises(UsageError, match="V007"):
        vitrail.compare(vitrail.open(place / "seed0"), place / "seed0", engines=("onnx", "auto"))


def test_random_weights_no_model_and_bounds_that_are_none_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["compare", str(place / "seed0"), "cct_2_3x2_32"]) == 2
    assert command(["compare", str(place / "seed0"), str(place / "seed0"), "--bound", "inf"]) == 2
    assert command(["compare", str(place / "seed0"), str(place / "nothing")]) == 2
    assert command(["compare", str(place / "seed0"), str(place / "seed0"), "--bound", "-1"]) == 2
    err = capsys.readouterr().err
    assert [line.split(":")[0] for line in err.splitlines() if line.startswith("error")] == [
        "error[V005]", "error[V007]", "error[V002]", "error[V001]",
    ]  # fmt: skip
