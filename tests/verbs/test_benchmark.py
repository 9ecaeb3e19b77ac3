"""`benchmark`: a row for each model, engine and batch size, with what a fresh process took for its first answer."""

from __future__ import annotations

import json
import re
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest

import vitrail
from tests.verbs.small import small
from vitrail.bundle.formats import Form
from vitrail.cli import run as command
from vitrail.errors import SystemFault, UsageError
from vitrail.verbs import benchmark as verb
from vitrail.verbs import first_answer
from vitrail.verbs.first_answer import ready
from vitrail.verbs.train import train


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("benchmark")
    train(small("schedule.steps=3", "schedule.warmup_epochs=0"), out=place / "run")
    return vitrail.export(place / "run").folder


def test_every_model_engine_and_batch_has_its_row(bundle: Path) -> None:
    done = vitrail.benchmark([bundle], engines=["onnx", "torch"], batches=[1, 3], rounds=3, threads=1)
    assert [(row.engine, row.batch) for row in done.rows] == [("onnx", 1), ("torch", 1), ("onnx", 3), ("torch", 3)]
    assert [row.faster is None for row in done.rows] == [True, False, True, False]
    for row in done.rows:
        assert 0 < row.p50_s <= row.p90_s <= row.p99_s
        assert row.images_per_s == row.batch / row.mean_s
        assert row.first_s > row.p50_s
    onnx, torch = done.rows[:2]
    assert 30e6 < onnx.peak_bytes < torch.peak_bytes  # a process of its own, that has not loaded torch
    assert done.machine["threads"] == 1


def test_each_model_is_in_memory_once(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[weakref.ref[object]] = []
    alive: list[int] = []

    def opening(*given: Any, **named: Any) -> object:
        alive.append(sum(one() is not None for one in opened))
        found = ready(*given, **named)
        opened.append(weakref.ref(found))
        return found

    monkeypatch.setattr(verb, "ready", opening)
    monkeypatch.setattr(verb, "_first_answer", lambda *_: (1.0, 1))
    vitrail.benchmark([bundle], engines=["onnx"], batches=[1, 2, 3], rounds=2)
    assert alive == [0, 0, 0]


@pytest.mark.parametrize(("engine", "times"), [("onnx", 1), ("auto", 1), ("torch", 2)])
def test_threads_are_said_at_the_opening(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, engine: str, times: int
) -> None:
    """But to torch, whose threads are the process's own: that is known when it refuses them."""
    import torch

    before, asked = torch.get_num_threads(), list[object]()

    def opening(*given: Any, **named: Any) -> object:
        asked.append(named.get("threads"))
        return vitrail.open(*given, **named)

    monkeypatch.setattr(first_answer, "open_model", opening)
    ready(str(bundle), engine, 1)
    assert asked == [1, None][:times]
    torch.set_num_threads(before)


def test_what_is_printed_and_drawn(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["benchmark", str(bundle), "--engine", "onnx,openvino", "--batch", "2", "--rounds", "3"]
    assert command([*words, "--out", str(tmp_path / "b.png")]) == 0
    out = capsys.readouterr().out
    assert [line.split()[1] for line in out.splitlines()[2:4]] == ["onnx", "openvino"]
    assert out.splitlines()[0].split()[:4] == ["model", "engine", "batch", "p50"] and "3 rounds; " in out
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    assert command([*words, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [row["engine"] for row in values["rows"]] == ["onnx", "openvino"]
    assert values["rows"][1]["faster"][1] <= values["rows"][1]["faster"][0] <= values["rows"][1]["faster"][2]


def test_a_precision_stays_with_threads_and_in_the_row(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "both")
    vitrail.export(bundle.parent, out=tmp_path / "both", form=Form("fp16"))
    assert ready(str(tmp_path / "both"), "onnx-fp16", 1).graph == "onnx-fp16"  # type: ignore[union-attr]
    assert ready(str(tmp_path / "both"), "onnx-fp16", 1, 0).graph == "onnx-fp16"  # type: ignore[union-attr]
    done = vitrail.benchmark([tmp_path / "both"], engines=["onnx", "onnx-fp16"], rounds=2, threads=1, levels=[1])
    assert [row.engine for row in done.rows] == ["onnx", "onnx-fp16"] and set(done.levels) == {"onnx 1"}


def test_levels_and_the_lines_of_the_speed_test(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["benchmark", str(bundle), "--engine", "onnx", "--rounds", "3"]
    assert command([*words, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["rows"][0]["level"] is None and "levels" not in values
    assert command(words) == 0
    assert re.fullmatch(r"FPS: \d+\.\d\d", capsys.readouterr().out.splitlines()[-1])
    assert command([*words, "--optim-level", "0,2"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[1:3] for line in out[2:4]] == [["onnx", "0"], ["onnx", "2"]]
    assert out[-6].startswith("level 0 on onnx: ONNX Runtime's optimiser is off")
    assert out[-4] == "Using optimization level 0" and out[-2] == "Using optimization level 2"
    for line, row in zip((out[-3], out[-1]), out[2:4], strict=True):
        assert line == f"FPS: {row.split()[7].replace(',', '')}"
    assert command([*words, "--optim-level", "0,2", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [row["level"] for row in values["rows"]] == [0, 2] and set(values["levels"]) == {"onnx 0", "onnx 2"}
    assert command(["benchmark", str(bundle), str(bundle.parent / "none"), "--rounds", "3"]) == 2
    assert command([*words, "--batch", "1,2"]) == 0
    assert "FPS: " not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--batch", "0"], "V001"), (["--batch", "1,x"], "V001"), (["--engine", "onnx,foo"], "V007"),
        (["--optim-level", "3"], "V001"), (["--optim-level", "1,1", "--engine", "onnx"], "V007"),
        (["--optim-level", "1", "--engine", "openvino"], "V007"), (["--batch", "2,2"], "V007"),
        (["--out", "nowhere/b.png"], "V001"), (["--out", "b.txt"], "V001"),
    ],
)  # fmt: skip
def test_wrong_words_are_refused(bundle: Path, words: list[str], code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["benchmark", str(bundle), *words]) == 2
    assert capsys.readouterr().err.startswith(f"error[{code}]")


def test_numbers_below_one_are_refused(bundle: Path) -> None:
    for more in ({"rounds": 0}, {"threads": 0}, {"batches": []}, {"engines": []}):
        with pytest.raises(UsageError, match="V007"):
            vitrail.benchmark([bundle], **more)  # type: ignore[arg-type]


def test_a_fresh_process_that_dies_is_told(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb.sys, "executable", "/bin/false")
    with pytest.raises(SystemFault, match="V703"):
        vitrail.benchmark([bundle], rounds=1)
