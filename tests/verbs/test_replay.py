"""`vitrail replay`: a run that broke is asked where, from its folder alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.training.test_watch import resealed
from tests.verbs.small import small
from vitrail.cli import run
from vitrail.errors import NumbersBroke, RunError
from vitrail.formats.stored import Stored
from vitrail.training import capture
from vitrail.verbs.replay import replay
from vitrail.verbs.train import train

WILD = ("schedule.lr=1.0e+30", "schedule.warmup_epochs=0", "optimizer={name: sgd}", "train.clip=null")
CASES = {
    "plain": (),
    "bf16 in parts, fused": ("precision=bf16", "train.accumulate=3", "train.attention=fused"),
    "fp16, half frozen": (
        "precision=fp16",
        "train.loss_scale={name: fixed, value: 2.0}",
        "train.freeze=['tokenizer.*']",
    ),
    "weighted": ("loss={name: cross_entropy, class_weights: balanced}", "mix=null"),
}


def broke(folder: Path, *overrides: str, family: str = "cct") -> Path:
    """A run whose learning rate makes its second step break; the capture of that."""
    with pytest.raises(NumbersBroke):
        train(small(*WILD, *overrides, family=family), out=folder)
    (path,) = capture.kept(folder, 0)
    return path


@pytest.mark.parametrize("case", CASES)
def test_A17_a_run_that_broke_is_replayed_to_the_bit(case: str, tmp_path: Path) -> None:
    done = replay(broke(tmp_path / "run", *CASES[case]))
    assert (done.replay.same, done.drift) == (True, ())
    found = done.replay.finding
    assert found is not None and found.phase == "forward"
    assert set(found.pictures) <= set(done.capture.batch.indices.tolist())


@pytest.mark.parametrize("family", ["vit", "beit", "hybrid"])
def test_A17_every_family_is_replayed(family: str, tmp_path: Path) -> None:
    assert replay(broke(tmp_path / "run", family=family)).replay.same


@pytest.fixture(scope="module")
def a_capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return broke(tmp_path_factory.mktemp("broke") / "run")


def test_A17_the_command_prints_where(a_capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", str(a_capture)]) == 0
    out = capsys.readouterr().out
    assert (
        "(the same bits)" in out and "\nfirst     " in out and "\n  input   float32 " in out and "\npictures  " in out
    )
    assert run(["replay", str(a_capture), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["same_bits"] and values["first"]["phase"] == "forward" and values["drift"] == []
    assert len(values["pictures"]) == 64


def test_A17_another_machine_is_named(a_capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert replay(a_capture).drift == ("cpu_settings  none -> ONEDNN_MAX_CPU_ISA=AVX2",)


@pytest.mark.parametrize(
    ("key", "value"),
    [("recipe", "schedule: 3"), ("recipe", "x" * 9), ("classes", ["a", "b"]), ("seed", 77)],
)
def test_A18_a_capture_that_does_not_fit_itself_is_refused(
    key: str, value: object, a_capture: Path, tmp_path: Path
) -> None:
    path = resealed(a_capture, tmp_path / "x.safetensors", lambda s, t: s.update({key: value}))
    with pytest.raises(RunError) as caught:
        replay(path)
    assert caught.value.code == "V604"


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("weights/classifier.fc.bias", np.zeros(3, np.float32)),
        ("weights/stranger", np.zeros(3, np.float32)),
        ("batch/images", np.zeros((64, 3, 4, 4), np.float32)),
        ("batch/labels", np.full(64, 10)),
        ("batch/labels", np.full(64, -1)),
    ],
)
def test_A18_tensors_that_do_not_fit_are_refused(name: str, array: object, a_capture: Path, tmp_path: Path) -> None:
    change = {name: Stored.of(array)}  # type: ignore[arg-type]
    path = resealed(a_capture, tmp_path / "x.safetensors", lambda s, t: t.update(change))
    with pytest.raises(RunError) as caught:
        replay(path)
    assert caught.value.code == "V604"


def test_what_is_no_capture_is_refused(a_capture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_bytes(b"something else entirely")
    for path, code in ((tmp_path / "x", "V604"), (tmp_path / "absent", "V007"), (tmp_path, "V007")):
        assert run(["replay", str(path)]) == 2
        assert f"error[{code}]" in capsys.readouterr().err
