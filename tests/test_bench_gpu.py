"""bench/gpu.py, dry: every line of it runs on the processor, goes on where it stopped, and says so without a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import gpu
from tests.data.test_sources import cifar10
from vitrail.errors import Stopped

TINY = ["model.dim=16", "model.depth=1", "model.conv_width=8", "data.batch=8", "schedule.epochs=1", "mix=null"]


def test_without_an_accelerator(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["throughput"]) == gpu.main(["cifar", "--data", "x"]) == 0
    assert capsys.readouterr().out.count("torch finds no accelerator here: nothing is measured") == 2


def test_throughput(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["throughput", "--dry", "--out", str(tmp_path / "t.json")]
    with monkeypatch.context() as patch:
        patch.setattr(gpu, "SECONDS", 0)
        assert gpu.main(words) == 75
    assert "peak: not begun" in capsys.readouterr().out
    assert gpu.main(words) == 0
    printed = capsys.readouterr().out
    for part in ("products in bf16", "vitrail  ", "from JPEG", "fine-tuning step at batch 2, bf16"):
        assert part in printed
    values = json.loads((tmp_path / "t.json").read_text())
    assert values["machine"]["dry"]
    assert set(values["parts"]) == set(gpu.PARTS)
    monkeypatch.setattr(gpu, "PARTS", dict.fromkeys(gpu.PARTS, None))  # what is done is not measured again
    assert gpu.main(words) == 0
    assert capsys.readouterr().out == printed


def test_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["cifar", "--dry", "--recipe", "cifar10/cct_2_3x2_32", "--data", str(cifar10(tmp_path / "data"))]
    words += ["--out", str(tmp_path / "c.json"), "--run", str(tmp_path / "run")]
    fixed = ["precision=fp32", "train.attention=explicit", "schedule.warmup_epochs=0", *TINY]
    with monkeypatch.context() as patch:

        def stopped(*_: object, **__: object) -> None:
            raise Stopped("V901", "stopped by SIGTERM after step 3 of 9")

        patch.setattr(gpu, "train", stopped)
        assert gpu.main([*words, *fixed]) == 75
    assert "the same command goes on" in capsys.readouterr().out
    assert gpu.main([*words, *fixed]) == 0
    values = json.loads((tmp_path / "c.json").read_text())
    assert (values["epochs"], values["machine"]["dry"]) == (1, True)
    assert 0 <= values["top1"] <= 1
    assert "1 epochs in" in capsys.readouterr().out
