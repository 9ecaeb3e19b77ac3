"""What would break the identity of bits is recorded and compared at a resume: promise A12."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.verbs.small import hashes, small
from tests.verbs.test_resume import _stop_after
from vitrail.cli import run
from vitrail.errors import RunError, Stopped, UsageError
from vitrail.training import drift as drifting
from vitrail.training.journal import read
from vitrail.verbs.train import train

SHORT = ("schedule.steps=6", "schedule.warmup_epochs=0")


def _both(told: list[Any], also: Callable[[Any], object]) -> Callable[[Any], None]:
    def listen(event: Any) -> None:
        told.append(event)
        also(event)

    return listen


def stopped(folder: Path, *overrides: str) -> Path:
    with pytest.raises(Stopped):
        train(small(*SHORT, *overrides), out=folder, listener=_stop_after(3))
    return folder


def elsewhere(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    """This machine, but for some fields."""
    true = drifting.environment
    monkeypatch.setattr(drifting, "environment", lambda device: {**true(device), **changes})


FIELDS = {
    "torch": "1.13.1",
    "numpy": "1.21.0",
    "pillow": "9.0.0",
    "libjpeg": "6.0",
    "vitrail": "0.0.9",
    "machine": "x86_64 Another Processor",
    "cpu_capability": "DEFAULT",
    "matmul_precision": "medium",
    "deterministic": "on",
    "onednn": "off",
    "device": "cuda",
}


@pytest.mark.parametrize("field", FIELDS)
def test_A12_another_environment_is_refused_and_may_be_allowed(
    field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, was = stopped(tmp_path / "run"), drifting.environment("cpu")[field]
    elsewhere(monkeypatch, **{field: FIELDS[field]})
    with pytest.raises(RunError) as caught:
        train(small(*SHORT), out=folder, resume=True)
    assert caught.value.code == "V602"
    assert caught.value.evidence == (f"{field}  {was} -> {FIELDS[field]}",)
    assert f"--allow-drift {field}" in caught.value.hint


def test_A12_an_allowed_drift_goes_on_and_marks_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, was = stopped(tmp_path / "run"), drifting.environment("cpu")["torch"]
    elsewhere(monkeypatch, torch="1.13.1")
    with pytest.raises(RunError):
        train(small(*SHORT), out=folder, resume=True, allow_drift=["numpy"])
    told: list[Any] = []
    with pytest.raises(Stopped):
        train(small(*SHORT), out=folder, resume=True, allow_drift=["torch"], listener=_both(told, _stop_after(4)))
    assert any("not the bits of an unbroken run" in str(event.get("text")) for event in told)
    done = train(small(*SHORT), out=folder, resume=True)  # nothing new drifted, and the mark stays
    mark = f"from step 3 on: torch  {was} -> 1.13.1"
    assert [row["drift"] for row in read(folder / "journal.jsonl") if row["event"] == "end"] == [[mark]]
    assert json.loads((done.bundle / "manifest.json").read_text())["provenance"]["drift"] == [mark]
    assert mark.replace(">", "&gt;") in done.page.read_text()


def test_A12_a_run_without_drift_is_not_marked(tmp_path: Path) -> None:
    done = train(small(*SHORT), out=tmp_path / "whole")
    train(small(*SHORT), out=stopped(tmp_path / "run"), resume=True)
    assert hashes(tmp_path / "run") == hashes(done.folder)
    assert "drift" not in json.loads((done.bundle / "manifest.json").read_text())["provenance"]


SETTINGS = {
    "train.threads": "train.threads=2",
    "train.accumulate": "train.accumulate=2",
    "train.attention": "train.attention=fused",
    "train.seed": "train.seed=9",
    "precision": "precision=bf16",
    "augment.flip": "augment.flip=0.25",
    "mix.mixup": "mix.mixup=0.3",
}


@pytest.mark.parametrize("field", SETTINGS)
def test_A12_another_setting_is_refused_and_may_be_allowed(field: str, tmp_path: Path) -> None:
    folder = stopped(tmp_path / "run")
    with pytest.raises(RunError) as caught:
        train(small(*SHORT, SETTINGS[field]), out=folder, resume=True)
    assert caught.value.code == "V602"
    (line,) = caught.value.evidence
    assert line.startswith(f"{field}  ") and " -> " in line
    done = train(small(*SHORT, SETTINGS[field]), out=folder, resume=True, allow_drift=[field])
    assert json.loads((done.bundle / "manifest.json").read_text())["provenance"]["drift"] == [f"from step 3 on: {line}"]


def test_A12_a_stop_between_the_new_recipe_and_its_first_checkpoint_is_no_trap(tmp_path: Path) -> None:
    folder = stopped(tmp_path / "run")

    def die(event: Any) -> None:
        if event["event"] == "resume":
            raise KeyboardInterrupt

    wanted = small(*SHORT, "train.accumulate=2")
    with pytest.raises(KeyboardInterrupt):
        train(wanted, out=folder, resume=True, allow_drift=["train.accumulate"], listener=die)
    with pytest.raises(RunError) as caught:
        train(wanted, out=folder, resume=True)
    assert caught.value.evidence == ("train.accumulate  1 -> 2",)
    train(wanted, out=folder, resume=True, allow_drift=["train"])


def pictures(place: Path, count: int, classes: str = "ab") -> tuple[str, ...]:
    random = np.random.default_rng(0)
    for name in classes:
        (place / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            if not (path := place / name / f"{index:02d}.png").exists():
                Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    return ("data.source=folder", f"data.root={place}", "data.batch=4")


@pytest.mark.parametrize("field", ["data", None])
def test_A12_other_pictures_are_refused_and_may_be_allowed(field: str | None, tmp_path: Path) -> None:
    settings = pictures(tmp_path / "photos", 20)
    folder = stopped(tmp_path / "run", *settings)
    pictures(tmp_path / "photos", 24)
    if field is None:
        with pytest.raises(RunError) as caught:
            train(small(*SHORT, *settings), out=folder, resume=True)
        assert caught.value.code == "V602" and caught.value.evidence[0].startswith("data  pictures ")
        return
    assert train(small(*SHORT, *settings), out=folder, resume=True, allow_drift=[field]).steps == 6


def test_A12_other_classes_are_never_allowed(tmp_path: Path) -> None:
    settings = pictures(tmp_path / "photos", 20)
    folder = stopped(tmp_path / "run", *settings)
    (tmp_path / "photos" / "a").rename(tmp_path / "photos" / "c")
    with pytest.raises(RunError) as caught:
        train(small(*SHORT, *settings), out=folder, resume=True, allow_drift=["data", "model"])
    assert caught.value.code == "V602"


def test_A12_a_field_that_nothing_compares_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = stopped(tmp_path / "run")
    with pytest.raises(UsageError, match="tourch") as caught:
        train(small(*SHORT), out=folder, resume=True, allow_drift=["tourch"])
    assert caught.value.code == "V007" and "`torch`" in caught.value.hint
    assert run(["train", "--resume", "--out", str(folder), "--allow-drift", "threats"]) == 2
    assert "V007" in capsys.readouterr().err


def test_A12_what_only_another_device_records_may_be_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of a card goes on where there is none: the refusal's own words must be taken."""
    with monkeypatch.context() as there:
        elsewhere(there, gpu="H200, CUDA 13.0", cudnn="91300", cudnn_deterministic="off", tf32="off")
        run = stopped(tmp_path / "run")
    with pytest.raises(RunError) as caught:
        train(small(*SHORT), out=run, resume=True)
    flags = re.findall(r"--allow-drift (\w+)", caught.value.hint)
    assert sorted(flags) == ["cudnn", "cudnn_deterministic", "gpu", "tf32"]
    train(small(*SHORT), out=run, resume=True, allow_drift=flags)


def test_A12_a_checkpoint_of_before_it_was_recorded_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitrail.verbs.drift import Bits

    with monkeypatch.context() as patch:
        patch.setattr(Bits, "recorded", lambda self, recipe: {})
        folder = stopped(tmp_path / "run")
    assert train(small(*SHORT), out=folder, resume=True).steps == 6
