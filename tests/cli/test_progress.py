"""What a run shows while it goes: one screen on a terminal, and plain lines, none of them a step's, in a pipe."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.verbs.small import small
from vitrail.cli import run
from vitrail.cli.progress import Progress
from vitrail.verbs.train import train

STEP = {"event": "step", "epoch": 0, "loss": 1.25, "norm": 0.5, "lr": 1e-3, "images_per_s": 200.0, "memory_bytes": 15e8}


def told(by: str = "schedule") -> Iterator[Mapping[str, object]]:
    """A run of two epochs of three steps, resumed after its first step."""
    yield {"event": "length", "steps": 6, "steps_per_epoch": 3}
    yield {"event": "resume", "step": 1}
    for step in range(2, 5):
        yield {**STEP, "step": step, "epoch": (step - 1) // 3, "wait_s": 0.1, "step_s": 0.3}
        if step == 3:
            yield {"event": "evaluation", "step": 3, "top1": 0.875}
    yield {"event": "end", "step": 4, "by": by}


def test_a_pipe_gets_a_line_an_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        for event in told("patience"):
            progress(event)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "epoch   1  loss 1.2500  held-out top-1 87.50 %",
        "ended after step 4 of 6: no evaluation was better for so long",
    ]


def test_parameters_are_told_and_a_part_of_an_epoch_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        progress({"event": "length", "steps": 6, "steps_per_epoch": 45})
        progress({"event": "start", "step": 0, "parameters": "decayed by 0.05: 1 tensor of 6 values"})
        progress({"event": "evaluation", "step": 6, "top1": 0.5})
    told = ["decayed by 0.05: 1 tensor of 6 values", "epoch 0.13  loss 0.0000  held-out top-1 50.00 %"]
    assert capsys.readouterr().err.splitlines() == told


SHOW = """
from tests.cli.test_progress import told
from vitrail.cli.progress import Progress
with Progress() as progress:
    for event in told():
        progress(event)
"""


def drawn(columns: int) -> str:
    """What reaches a terminal so wide."""
    master, slave = pty.openpty()
    size = {**os.environ, "COLUMNS": str(columns), "LINES": "30", "TERM": "xterm"}
    child = subprocess.Popen([sys.executable, "-c", SHOW], stderr=slave, env=size)
    os.close(slave)
    data = b""
    while True:
        try:
            piece = os.read(master, 1 << 16)
        except OSError:  # the other side has closed
            break
        if not piece:
            break
        data += piece
    os.close(master)
    assert child.wait(60) == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode())


def test_a_terminal_has_a_bar_and_the_figures_below_it() -> None:
    text = drawn(80)
    bar, figures = [line for line in text.replace("\r", "\n").split("\n") if line.strip()][-2:]
    assert re.fullmatch(r"epoch 2/2 ━+\S* *━* 4/6 \S+", bar), bar
    assert figures.strip() == "loss 1.250  norm 0.5  lr 1.0e-03  200 images/s  wait 25 %  1.5 GB  top-1 87.5 %"
    assert "epoch   1  loss 1.2500  held-out top-1 87.50 %" in text


def test_a_narrow_terminal_cuts_the_figures_and_wraps_nothing() -> None:
    lines = drawn(40).replace("\r", "\n").split("\n")
    assert any(line.endswith("…") for line in lines)
    assert max(len(line) for line in lines if line.startswith("loss")) <= 40


def test_the_performance_run_ends_with_its_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["digits/cct_2_3x2_32", "schedule.steps=4", "schedule.warmup_epochs=0", "checkpoint.every=0"]
    fixed = ["evaluation.every=0", "precision=fp32", "train.attention=explicit"]
    assert run(["train", *words, *fixed, "--time", "1h", "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^speed   [\d,.]+ images/s, \d+\.\d{4} sec/step$", out, re.MULTILINE)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*")] == ["step-00000004"]


def test_a_checkpoint_is_shown_with_how_far_and_how_good_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = ("schedule.steps=3", "schedule.warmup_epochs=0", "train.time=1h")
    done = train(small(*steps), out=tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "step-00000003"
    assert run(["show", str(path), "--json"]) == 0
    saved = json.loads(capsys.readouterr().out)["checkpoint"]
    assert (saved["step"], saved["best_so_far"], saved["averaged"], saved["evaluation_due"]) == (3, True, True, False)
    assert saved["evaluation"]["top1"] == done.quality["top1"] == saved["best_top1"]
    assert {name for name in saved if "." in name} == {path.name for path in path.iterdir()} - {"manifest.json"}
    damaged = path / "weights.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    assert run(["show", str(path)]) == 2
    assert "error[V604]" in capsys.readouterr().err


def test_the_page_says_what_ended_a_run_and_what_was_chosen(tmp_path: Path) -> None:
    """A run that gives up at once: a rate of next to nothing brings nothing better."""
    still = ("schedule={name: constant, epochs: 9, lr: 1.0e-12}", "evaluation.patience=1", "average=null")
    done = train(small(*still), out=tmp_path / "run")
    page = done.page.read_text()
    assert "after step 44: no evaluation was better for as long as evaluation.patience says" in page
    assert "when to end (evaluation.patience) was chosen on the held-out pictures" in page
    assert re.search(r"<dt>speed</dt><dd>[\d,.]+ images/s, [\d.]+ sec/step</dd>", page)
