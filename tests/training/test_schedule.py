"""Learning rates against torch's and MindSpore's own numbers."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitrail.training.configs import Constant, Cosine
from vitrail.training.schedule import learning_rate, total_steps


def rates(config: Cosine | Constant, steps_per_epoch: int, count: int) -> list[float]:
    return [learning_rate(config, step, steps_per_epoch=steps_per_epoch) for step in range(count)]


def test_reference_cosine_of_torch(shared: Path) -> None:
    cases = json.loads((shared / "reference" / "schedule_vectors.json").read_text())["torch_CosineAnnealingLR"]
    for case in cases:
        config = Cosine(steps=case["T_max"], lr=case["base_lr"], min_lr=case["eta_min"])
        wanted = case["lr"][: case["T_max"] + 1]  # then torch's rises again
        assert rates(config, 7, len(wanted)) == pytest.approx(wanted, rel=1e-12, abs=1e-18)


def test_reference_linear_then_cosine_of_torch(shared: Path) -> None:
    vectors = json.loads((shared / "reference" / "schedule_vectors.json").read_text())
    for case in vectors["torch_SequentialLR_linear_then_cosine"]:
        total = case["warmup_iters"] + case["T_max"]
        config = Cosine(
            epochs=total,
            lr=case["base_lr"],
            warmup_epochs=case["warmup_iters"],
            warmup_lr=case["base_lr"] * case["start_factor"],
            min_lr=case["eta_min"],
        )
        assert rates(config, 1, total + 1) == pytest.approx(case["lr"][: total + 1], rel=1e-12)


def test_reference_per_step_rates_of_the_mindspore_cct(shared: Path) -> None:
    cases = json.loads((shared / "reference" / "schedule_vectors.json").read_text())["mindspore_cct_cosine_lr"]
    assert len(cases) == 3
    for case in cases:
        config = Cosine(
            epochs=case["epochs"],
            lr=case["base_lr"],
            warmup_epochs=case["warmup_length"],
            warmup_lr=case["warmup_lr"],
            min_lr=case["min_lr"],
        )
        count = case["epochs"] * case["batch_num"]
        assert total_steps(config, case["batch_num"]) == count
        assert rates(config, case["batch_num"], count) == pytest.approx(case["per_step_lr"], rel=1e-12)


def test_torch_gives_the_same_rates_now() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    line = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=4)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=16, eta_min=0.01)
    both = torch.optim.lr_scheduler.SequentialLR(optimizer, [line, cosine], milestones=[4])
    theirs = []
    for _ in range(20):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        both.step()
    ours = rates(Cosine(epochs=2, lr=0.3, warmup_epochs=0.4, warmup_lr=0.03, min_lr=0.01), 10, 20)
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_constant_warms_up_and_stays() -> None:
    config = Constant(epochs=2, lr=0.5, warmup_epochs=0.5, warmup_lr=0.1)
    assert rates(config, 4, 8) == pytest.approx([0.1, 0.3, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])


@pytest.mark.parametrize(("epochs", "length", "steps"), [(0.01, 10, 1), (2.5, 10, 25), (1 / 3, 3, 1), (300, 9, 2700)])
def test_epochs_become_whole_steps(epochs: float, length: int, steps: int) -> None:
    assert total_steps(Constant(epochs=epochs, lr=1.0), length) == steps
    assert total_steps(Constant(steps=7, lr=1.0), length) == 7


@given(
    steps=st.integers(1, 200),
    length=st.integers(1, 50),
    warmup=st.floats(0, 20),
    lr=st.floats(1e-6, 10),
    lowest=st.floats(0, 1),
    first=st.floats(0, 1),
)
def test_every_rate_lies_between_its_bounds_and_falls_after_the_warm_up(
    steps: int, length: int, warmup: float, lr: float, lowest: float, first: float
) -> None:
    config = Cosine(steps=steps, lr=lr, warmup_epochs=warmup, warmup_lr=lr * first, min_lr=lr * lowest)
    found = rates(config, length, steps + 3)
    assert all(min(lr * lowest, lr * first) * (1 - 1e-9) <= rate <= lr * (1 + 1e-9) for rate in found)
    turn = min(round(warmup * length), steps)
    assert all(a <= b * (1 + 1e-12) for a, b in pairwise(found[:turn]))
    assert all(a >= b * (1 - 1e-12) for a, b in pairwise(found[turn:]))
    assert found[steps] == lr * lowest
