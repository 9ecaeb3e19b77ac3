"""`train.log` in the lines of the published packages, held against the examples and patterns of their own pages."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.training.tiny import BATCH, STEPS_PER_EPOCH, Loader, batch, plan, saved, silent
from vitrail.data.batches import TrainBatch
from vitrail.errors import Stopped
from vitrail.training import configs
from vitrail.training.journal import LOG
from vitrail.training.lines import TABLE, Form, evaluation_log, filled, form
from vitrail.training.loop import train

NAMES = sorted(TABLE)
# what the packages' own pages show: seed 000's README, its rows of 1,562 steps
LOSS, MS, STEPS = 0.12886986, 289458.121, 1562


def rows_of(epoch: int, *, steps: int, loss: float, seconds: float) -> list[dict[str, object]]:
    first = epoch * steps
    return [
        {
            "event": "step", "step": first + 1 + i, "epoch": epoch, "loss": float(np.float32(loss)),
            "wait_s": 0.25 * seconds / steps, "step_s": 0.75 * seconds / steps,
        }
        for i in range(steps)
    ]  # fmt: skip


def test_the_lines_of_the_vit_readme_byte_for_byte() -> None:
    told = Form("vit_mindspore", {})
    rows = [
        {"event": "start", "step": 0, "steps_per_epoch": STEPS},
        *rows_of(0, steps=STEPS, loss=LOSS, seconds=MS / 1000),
        *rows_of(1, steps=STEPS, loss=0.15596801, seconds=245.404168),
        {"event": "evaluation", "step": 2 * STEPS, "top1": 0.9240785256410257},
        {"event": "end", "step": 2 * STEPS},
    ]
    assert [line for row in rows for line in told(row)] == [
        "epoch: 1 step: 1562, loss is 0.12886986",
        "epoch time: 289458.121 ms, per step time: 185.312 ms",
        "epoch: 2 step: 1562, loss is 0.15596801",
        "epoch time: 245404.168 ms, per step time: 157.109 ms",
        "{'acc': 0.9240785256410257}",
        "train success",
    ]


def test_the_validation_of_cct_and_beit() -> None:
    told = Form("cct_mindspore", {})
    told({"event": "start", "step": 0, "steps_per_epoch": 10})
    assert told({"event": "evaluation", "step": 300, "top1": 0.8469910371318822}) == [
        "epoch: 30 acc: 0.8469910371318822, best acc is 0.8469910371318822"
    ]
    assert told({"event": "evaluation", "step": 310, "top1": 0.5}) == [
        "epoch: 31 acc: 0.5, best acc is 0.8469910371318822"
    ]
    skipped = {"event": "overflow", "step": 311, "epoch": 31, "loss": 2.0}
    assert told(skipped) == ["=============Over Flow, skipping============="]


ABOUT: dict[str, object] = {
    "variant": "cct_14_7x2_224", "parameters": 22367273, "targets": "MixBatch", "data": "ImageNet",
    "optimizer": "adamw", "accumulate": 1, "weights": None, "dynamic": "", "clip": "",
}  # fmt: skip


def test_the_first_lines_of_cct() -> None:
    start = {"event": "start", "step": 0, "steps": 620, "steps_per_epoch": 2, "parameters": "decayed", "optimizer": {}}
    assert Form("cct_mindspore", ABOUT)(start) == [
        "==> Creating model 'cct_14_7x2_224'",
        "=> using arch: cct_14_7x2_224",
        "=> params_num: 22367273",
        "=========================Using MixBatch=========================",
        "=> Getting ImageNet dataset",
        "=> When using train_wrapper, using optimizer adamw",
        "=> Get LR from epoch: 0",
        "=> Start step: 0",
        "=> Total step: 620",
        "=> Accumulation step:1",
        "=> Using DynamicLossScaleUpdateCell",
        "clip_global_norm True",
        "begin train",
    ]
    bare = Form("beit_mindspore", {**ABOUT, "dynamic": None, "clip": None, "weights": "beit.ckpt"})(start)
    assert "=> loading pretrained weights from 'beit.ckpt'" in bare
    assert not [line for line in bare if "Dynamic" in line or "clip" in line]


def test_the_lines_of_the_tensorflow_package() -> None:
    told = Form("vit_tensorflow", {"loads": "", "load_s": 12.34567})
    assert told({"event": "start", "step": 0, "steps_per_epoch": 2}) == [
        "load dataset =================================",
        "load dataset =================================",
        "============ start load pretrained model =======================================",
        "============ load success 12.3457 =====================",
    ]
    lines = []
    for number, acc in enumerate((1.0, 0.75), 1):
        row = {"event": "step", "step": number, "epoch": 0, "loss": 0.00504, "wait_s": 0.5, "step_s": 0.25, "acc": acc}
        lines += told(row)
    lines += told({"event": "evaluation", "step": 2, "top1": 0.871})
    assert lines == [
        "epoch:1  step: 0 , loss:  0.0050 ,  time: 0.7500  acc: 1.0000",
        "epoch:1  step: 1 , loss:  0.0050 ,  time: 0.7500  acc: 0.7500",
        "Train ACC: 0.8750",
        "Final Average Distances : 0.871",
    ]
    words = lines[0].split()  # the package's own shell script takes column 6 as the loss, and 9 as the time
    assert (words[5], words[8]) == ("0.0050", "0.7500")


def test_the_lines_of_the_performance_script_begin_with_its_second_step() -> None:
    told = Form("vit_tensorflow_performance", {})
    told({"event": "start", "step": 0, "steps_per_epoch": 9})
    row = {"event": "step", "step": 1, "epoch": 0, "loss": 0.00504, "wait_s": 0.5, "step_s": 0.25, "acc": 0.5}
    assert told(row) == []
    assert told({**row, "step": 2}) == ["epoch:1  step: 1 , loss: 0.0050 ,  sec/step : 0.7500  acc: 0.5000"]


def test_eval_log() -> None:
    values = {"top1": 0.9854, "top5": 0.9993, "loss": 0.0512}
    assert evaluation_log("own", values, "x") == ""
    assert evaluation_log("vit_mindspore", values, "runs/a/bundle") == (
        "load checkpoint from [runs/a/bundle].\nmodel's accuracy is {'acc': 0.9854}\n"
    )
    assert evaluation_log("cct_mindspore", values, "x") == (
        "=> begin eval\n=> eval results:{'Loss': 0.0512, 'Top1-Acc': 0.9854, 'Top5-Acc': 0.9993}\n=> eval success\n"
    )
    assert evaluation_log("vit_tensorflow", values, "x") == "Final Average Distances : 0.9854\n"


PATTERNS = (
    r"epoch: \d+ step: \d+, loss is [-\d.eE+naif]+",
    r"epoch time: [\d.]+ ms, per step time: [\d.]+ ms",
    r"\{'acc': [\d.]+\}",
    r"epoch: \d+ acc: [\d.]+, best acc is [\d.]+",
    r"epoch:\d+  step: \d+ , loss:  \d\.\d{4} ,  time: \d+\.\d{4}  acc: \d\.\d{4}",
    r"epoch:\d+  step: [1-9]\d* , loss: \d\.\d{4} ,  sec/step : \d+\.\d{4}  acc: \d\.\d{4}",
    r"Train ACC: [\d.]+",
    r"Final Average Distances : [\d.]+",
    r"train success",
    r"load dataset =+",
    r"=> .*",
    r"begin train",
)


@pytest.mark.parametrize("name", NAMES)
def test_A24_the_log_of_a_stopped_run_tells_each_step_once(name: str, tmp_path: Path) -> None:
    told = {"told": configs.Journal(lines=name)}  # type: ignore[arg-type]

    def stopping(one: TrainBatch) -> TrainBatch:
        if one.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return one

    train(plan(tmp_path / "whole", **told), resume=None, listener=silent)
    with pytest.raises(Stopped):
        train(plan(tmp_path / "cut", loader=Loader(stopping), **told), resume=None, listener=silent)
    train(plan(tmp_path / "cut", **told), resume=saved(tmp_path / "cut"), listener=silent)
    whole, cut = ((tmp_path / run / LOG).read_text().splitlines() for run in ("whole", "cut"))
    timeless = [re.sub(r"(time|sec/step ): [\d.]+", "", line) for line in whole]
    assert [re.sub(r"(time|sec/step ): [\d.]+", "", line) for line in cut] == timeless
    assert all(any(re.fullmatch(pattern, line) for pattern in PATTERNS) for line in whole), whole
    assert len(whole) >= 6


def test_batch_accuracy_is_counted_in_parts_and_without_a_second_pass(tmp_path: Path) -> None:
    told = configs.Journal(lines="vit_tensorflow")
    still = plan(
        tmp_path,
        told=told,
        mix=None,
        average=None,
        train=configs.Train(seed=5, accumulate=3),
        schedule=configs.Constant(steps=STEPS_PER_EPOCH, lr=1e-30),
    )
    rows: list[dict[str, object]] = []
    train(still, resume=None, listener=lambda row: rows.append(dict(row)))
    shares = [row["acc"] for row in rows if row["event"] == "step"]
    assert all(isinstance(share, float) and (share * BATCH).is_integer() for share in shares)
    assert not still.module._forward_hooks
    assert len(batch(0).labels) == BATCH


def test_a_forged_name_makes_no_line_of_its_own() -> None:
    assert filled({"start": ("from '{weights}'",)}, "start", {"weights": "a\nepoch: 1"}) == ["from 'a\\nepoch: 1'"]
    assert form("own", {}) is None
