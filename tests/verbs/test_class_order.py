"""Labels meet weights in training and evaluation: by name, or refused where only positions could decide (B9)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.layouts import class_folders
from tests.verbs.small import small
from vitrail.cli import run
from vitrail.errors import DataError, RunError
from vitrail.formats import safetensors
from vitrail.models import build
from vitrail.verbs.train import train
from vitrail.weights import native_tensors

ELEVEN = {str(number): 4 for number in range(11)}
SHORT = ("data.source=auto", "data.batch=8", "schedule.epochs=1", "schedule.warmup_epochs=0", "data.holdout=0.5")


def test_B09_start_weights_without_names_keep_no_head_by_guess(tmp_path: Path) -> None:
    photos = class_folders(tmp_path / "photos", ELEVEN)
    recipe = small("model.classes=11")
    safetensors.write(tmp_path / "w.safetensors", native_tensors(build(recipe.config, seed=0)))
    settings = (*SHORT, f"data.root={photos}", f"weights.path={tmp_path / 'w.safetensors'}")
    with pytest.raises(DataError) as caught:
        train(small(*settings), out=tmp_path / "a")
    assert caught.value.code == "V403" and "w.safetensors" in caught.value.what
    assert caught.value.evidence[0] == "class 2: `10` by bytes, `2` by numbers"
    told: list[str] = []
    train(
        small(*settings, "data.class_order=natural"),
        out=tmp_path / "b",
        listener=lambda event: told.append(str(event.get("text", ""))),
    )
    assert "head rows kept by their places: the file states no names of classes" in told
    train(small(*settings, "weights.head=zero"), out=tmp_path / "c")  # no row means anything: no order to ask about


def test_B09_another_class_order_is_not_resumed(tmp_path: Path) -> None:
    photos = class_folders(tmp_path / "photos", ELEVEN)
    train(small(*SHORT, f"data.root={photos}"), out=tmp_path / "run")
    with pytest.raises(RunError) as caught:
        train(small(*SHORT, f"data.root={photos}", "data.class_order=natural"), out=tmp_path / "run", resume=True)
    assert caught.value.code == "V602" and any(
        "class_order  bytes -> natural" in line for line in caught.value.evidence
    )


def test_B09_evaluate_maps_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    train(small(*SHORT, f"data.root={class_folders(tmp_path / 'a', {'cat': 8, 'dog': 8})}"), out=folder)
    other = class_folders(tmp_path / "b", {"kitty": 3, "dog": 3})
    assert run(["evaluate", str(folder), "--data", str(other)]) == 2
    told = capsys.readouterr().err
    assert "only in the data: kitty" in told and "data.rename" in told
    assert run(["evaluate", str(folder), "data.rename={kitty: cat}", "--data", str(other), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == 6
    assert run(["evaluate", str(folder), "data.rename={kitty: cat}"]) == 2
    assert "give --data" in capsys.readouterr().err
    # the same pictures in another order of the classes are still those that it was trained on
    assert run(["evaluate", str(folder), "data.classes=[dog, cat]", "--data", str(tmp_path / "a"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["part"] == "held-out"
