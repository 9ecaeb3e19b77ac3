"""`train.log` and `eval.log` in the very lines of published packages, for whoever has scripts that read them.

The table has the lines; a line is left out where a value that it names is not known, as start weights are not in a run
from scratch. The lines are a function of the journal's rows alone, so after a resume they are written again from these.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vitrail.errors import printable

Row = Mapping[str, Any]
EVAL_LOG = "eval.log"

_BAR = "=" * 25
_EPOCH = (
    "epoch: {epoch} step: {in_epoch}, loss is {loss}",
    "epoch time: {epoch_ms:5.3f} ms, per step time: {step_ms:5.3f} ms",
)
_ZOO = {  # the CCT and BEiT packages of the MindSpore model zoo print the same
    "start": (
        "==> Creating model '{variant}'",
        "=> using arch: {variant}",
        "=> params_num: {parameters}",
        f"{_BAR}Using {{targets}}{_BAR}",
        "=> loading pretrained weights from '{weights}'",
        "=> Getting {data} dataset",
        "=> When using train_wrapper, using optimizer {optimizer}",
        "=> Get LR from epoch: 0",
        "=> Start step: 0",
        "=> Total step: {steps}",
        "=> Accumulation step:{accumulate}",
        "=> Using DynamicLossScaleUpdateCell{dynamic}",
        "clip_global_norm True{clip}",
        "begin train",
    ),
    "epoch": _EPOCH,
    "overflow": ("=============Over Flow, skipping=============",),
    "evaluation": ("epoch: {epoch} acc: {top1}, best acc is {best}",),
    "end": ("train success",),
    "eval": ("=> begin eval", "=> eval results:{results}", "=> eval success"),
}
_TF_START = (
    f"load dataset {'=' * 33}",
    f"load dataset {'=' * 33}",  # one for the training pictures, one for the others
    f"{'=' * 12} start load pretrained model {'=' * 39}{{loads}}",
    f"{'=' * 12} load success {{load_s:.4f}} {'=' * 21}",
)
# name -> what happened -> its lines
TABLE: dict[str, dict[str, tuple[str, ...]]] = {
    "vit_mindspore": {
        "start": ("Load pre_trained ckpt: {weights}",),
        "epoch": _EPOCH,
        "evaluation": ("{{'acc': {top1}}}",),
        "end": ("train success",),
        "eval": ("load checkpoint from [{checkpoint}].", "model's accuracy is {{'acc': {top1}}}"),
    },
    "vit_tensorflow": {
        "start": _TF_START,
        "step": ("epoch:{epoch}  step: {before} , loss:  {value:.4f} ,  time: {seconds:.4f}  acc: {acc:.4f}",),
        "epoch": ("Train ACC: {epoch_acc:.4f}",),
        "evaluation": ("Final Average Distances : {top1}",),
        "eval": ("Final Average Distances : {top1}",),
    },
    "vit_tensorflow_performance": {
        "start": _TF_START,
        "later_step": (
            "epoch:{epoch}  step: {before} , loss: {value:.4f} ,  sec/step : {seconds:.4f}  acc: {acc:.4f}",
        ),
    },
    "cct_mindspore": _ZOO,
    "beit_mindspore": _ZOO,
}
STEPS = ("step", "skipped", "overflow")


class Form:
    """Gives the lines for each row of a journal, in their order. about: what the first lines say of the run."""

    def __init__(self, name: str, about: Mapping[str, object]) -> None:
        self._lines, self._about = TABLE[name], about
        self._length = 1  # steps of an epoch
        self._epoch: list[Row] = []  # the rows of its steps so far
        self._best = 0.0

    def __call__(self, row: Row) -> list[str]:
        """The lines that a row brings; of `resume` rows none: a log tells the run as if it had never stopped."""
        event = row["event"]
        if event in ("start", "resume"):
            self._length = int(row["steps_per_epoch"])
        if event in STEPS:
            return self._step(row)
        if event == "evaluation":
            self._best = max(self._best, float(row["top1"]))
            epoch = math.ceil(row["step"] / self._length)
            return filled(self._lines, "evaluation", {"epoch": epoch, "top1": row["top1"], "best": self._best})
        if event == "end":
            return self._ended() + filled(self._lines, "end", {})
        known = {**self._about, "steps": row.get("steps")}
        return filled(self._lines, "start", known) if event == "start" else []

    def _step(self, row: Row) -> list[str]:
        self._epoch.append(row)
        done = (row["step"] - 1) % self._length + 1
        known = {"epoch": row["epoch"] + 1, "before": done - 1, "value": float(row["loss"]), "acc": row.get("acc")}
        lines = filled(self._lines, "overflow", {}) if row["event"] == "overflow" else []
        known["seconds"] = _seconds(row)
        lines += filled(self._lines, "step", known) + (filled(self._lines, "later_step", known) if done > 1 else [])
        return lines + (self._ended() if done == self._length else [])

    def _ended(self) -> list[str]:
        """The lines of an epoch, or of what was begun of it."""
        rows, self._epoch = self._epoch, []
        if not rows:
            return []
        time, last = 1000.0 * math.fsum(map(_seconds, rows)), rows[-1]
        answers = [row["acc"] for row in rows if "acc" in row]
        known = {
            "epoch": last["epoch"] + 1,
            "in_epoch": (last["step"] - 1) % self._length + 1,
            "loss": str(np.float32(last["loss"])),  # the fewest digits that tell this float32 from all others
            "epoch_ms": time,
            "step_ms": time / len(rows),
            "epoch_acc": math.fsum(answers) / len(answers) if answers else None,
        }
        return filled(self._lines, "epoch", known)


def _seconds(row: Row) -> float:
    return float(row.get("wait_s", 0.0)) + float(row.get("step_s", 0.0))


def filled(table: Mapping[str, Sequence[str]], event: str, known: Mapping[str, object]) -> list[str]:
    """The lines of an event with their values; those that name a value which is None or absent are left out.

    >>> filled({"end": ("took {s:.1f} s", "by {who}")}, "end", {"s": 2.0})
    ['took 2.0 s']
    """
    values = {key: value for key, value in known.items() if value is not None}
    lines = [line for line in table.get(event, ()) if set(re.findall(r"(?<!\{)\{(\w+)", line)) <= values.keys()]
    return [printable(line.format_map(values)) for line in lines]


def form(name: str, about: Mapping[str, object]) -> Form | None:
    """The form of that name; None for `own`, which has none."""
    return None if name == "own" else Form(name, about)


def evaluation_log(name: str, values: Mapping[str, Any], checkpoint: str) -> str:
    """`eval.log` in these lines; values: top1, top5 and loss of an evaluation. Empty for `own`."""
    if name == "own":
        return ""
    results = {"Loss": values["loss"], "Top1-Acc": values["top1"], "Top5-Acc": values["top5"]}
    known = {"checkpoint": checkpoint, "top1": values["top1"], "results": results}
    return "".join(f"{line}\n" for line in filled(TABLE[name], "eval", known))


def wants_answers(name: str) -> bool:
    """Whether these lines say how many pictures of each batch were named rightly."""
    return any("{acc" in line for part in TABLE.get(name, {}).values() for line in part)
