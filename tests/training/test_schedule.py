"""Learning rates against the published codes' own numbers: timm, torch, MindSpore, unilm, Google."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitrail.training.configs import Constant, Cosine, Exponential, Linear, MultiStep, Polynomial, Schedule
from vitrail.training.schedule import learning_rate, total_steps

EXACT = 1e-12
FLOAT32 = 1e-7  # of numbers that were published in float32
PRINTED = 1e-9  # of numbers with ten digits


def rates(config: Schedule, steps_per_epoch: int, count: int) -> list[float]:
    return [learning_rate(config, step, steps_per_epoch=steps_per_epoch) for step in range(count)]


def close(ours: list[float], theirs: list[float], peak: float) -> None:
    """Equal to 1e-12, or to the rounding of the peak where the cosine has cancelled."""
    assert ours == pytest.approx(theirs, rel=EXACT, abs=4 * 2.3e-16 * peak)


def vectors(shared: Path, name: str, count: int) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((shared / "reference" / "schedule_vectors.json").read_text())[name]
    assert len(cases) == count
    return cases


# ---- schedule_vectors.json


def test_reference_cosine_of_torch_rises_again(shared: Path) -> None:
    for case in vectors(shared, "torch_CosineAnnealingLR", 2):
        count = len(case["lr"])
        config = Cosine(steps=count, lr=case["base_lr"], min_lr=case["eta_min"], t_max=case["T_max"], rise=True)
        assert count > case["T_max"] + 1
        close(rates(config, 1, count), case["lr"], case["base_lr"])


def test_reference_linear_then_cosine_of_torch(shared: Path) -> None:
    for case in vectors(shared, "torch_SequentialLR_linear_then_cosine", 1):
        config = Cosine(
            epochs=len(case["lr"]),
            lr=case["base_lr"],
            warmup_epochs=case["warmup_iters"],
            warmup_lr=case["base_lr"] * case["start_factor"],
            min_lr=case["eta_min"],
            t_max=case["T_max"],
            rise=True,
        )
        close(rates(config, 1, len(case["lr"])), case["lr"], case["base_lr"])


def test_reference_per_step_rates_of_the_mindspore_cct(shared: Path) -> None:
    for case in vectors(shared, "mindspore_cct_cosine_lr", 3):
        config = Cosine(
            epochs=case["epochs"],
            lr=case["base_lr"],
            warmup_epochs=case["warmup_length"],
            warmup_lr=case["warmup_lr"],
            min_lr=case["min_lr"],
        )
        count = case["epochs"] * case["batch_num"]
        assert total_steps(config, case["batch_num"]) == count
        close(rates(config, case["batch_num"], count), case["per_step_lr"], case["base_lr"])


def test_reference_cosine_of_timm(shared: Path) -> None:
    """Warm-up with and without prefix, cycles, k_decay; then its least rate for ever."""
    for case in vectors(shared, "timm_cosine", 7):
        config = Cosine(
            steps=len(case["lr"]),
            lr=case["base_lr"],
            warmup_steps=case.get("warmup_t"),
            warmup_lr=case.get("warmup_lr_init", 0.0),
            warmup_prefix=case.get("warmup_prefix", False),
            min_lr=case["lr_min"],
            t_max=case["t_initial"],
            cycles=case.get("cycle_limit", 1),
            cycle_mul=case.get("cycle_mul", 1.0),
            cycle_decay=case.get("cycle_decay", 1.0),
            k_decay=case.get("k_decay", 1.0),
        )
        close(rates(config, 1, len(case["lr"])), case["lr"], case["base_lr"])


def test_reference_whole_schedules_of_timm(shared: Path) -> None:
    """Its length counts neither cooldown nor a prefix, ours counts both."""
    for case in vectors(shared, "timm_create_scheduler_v2", 3):
        per_epoch = case.get("step_on_epochs", True)
        config = Cosine(
            epochs=case["total_epochs_returned"],
            lr=case["base_lr"],
            per="epoch" if per_epoch else "step",
            warmup_epochs=case["warmup_epochs"],
            warmup_lr=case["warmup_lr"],
            warmup_prefix=case.get("warmup_prefix", False),
            min_lr=case["min_lr"],
            cooldown_epochs=case.get("cooldown_epochs", 0),
        )
        length = 3 if per_epoch else case["updates_per_epoch"]
        ours = rates(config, length, len(case["lr"]) * (length if per_epoch else 1))
        close(ours[:: length if per_epoch else 1], case["lr"], case["base_lr"])
        if per_epoch:
            assert ours[1::length] == ours[2::length] == ours[::length]


def test_reference_schedule_of_unilm(shared: Path) -> None:
    for case in vectors(shared, "unilm_cosine_scheduler", 3):
        config = unilm(case["base_value"], case["final_value"], case["epochs"], case.get("warmup_epochs", 0))
        config = replace(config, warmup_lr=case.get("start_warmup_value", 0.0))
        length = case["niter_per_ep"]
        close(rates(config, length, total_steps(config, length)), case["per_step"], case["base_value"])


def unilm(lr: float, least: float, epochs: int, warmup: int) -> Cosine:
    return Cosine(epochs=epochs, lr=lr, min_lr=least, warmup_epochs=warmup, warmup="ending")


# ---- numbers of the published recipes


def golden(config: Schedule, steps_per_epoch: int, wanted: dict[int, float], rel: float = PRINTED) -> None:
    for step, rate in wanted.items():
        assert learning_rate(config, step, steps_per_epoch=steps_per_epoch) == pytest.approx(rate, rel=rel), step


def test_model_zoo_vit_base_rises_after_its_fiftieth_epoch() -> None:
    """Per epoch, T_max 50 of 60; MindSpore's numbers, in float32."""
    wanted = {
        0: (1.3000000268e-02, 6.5000001341e-03, 5.2000001073e-02),
        1: (1.2987174094e-02, 6.4935870469e-03, 5.1948696375e-02),
        2: (1.2948745862e-02, 6.4743729308e-03, 5.1794983447e-02),
        5: (1.2681866996e-02, 6.3409334980e-03, 5.0727467984e-02),
        10: (1.1758610606e-02, 5.8793053031e-03, 4.7034442425e-02),
        20: (8.5086105391e-03, 4.2543052696e-03, 3.4034442157e-02),
        25: (6.5000001341e-03, 3.2500000671e-03, 2.6000000536e-02),
        30: (4.4913897291e-03, 2.2456948645e-03, 1.7965558916e-02),
        40: (1.2413895456e-03, 6.2069477281e-04, 4.9655581824e-03),
        45: (3.1813263195e-04, 1.5906631597e-04, 1.2725305278e-03),
        49: (1.2826265447e-05, 6.4131327235e-06, 5.1305061788e-05),
        50: (0.0, 0.0, 0.0),
        51: (1.2826265447e-05, 6.4131327235e-06, 5.1305061788e-05),
        52: (5.1254442951e-05, 2.5627221476e-05, 2.0501777180e-04),
        55: (3.1813263195e-04, 1.5906631597e-04, 1.2725305278e-03),
        58: (8.0400658771e-04, 4.0200329386e-04, 3.2160263509e-03),
        59: (1.0118684731e-03, 5.0593423657e-04, 4.0474738926e-03),
    }
    for column, lr in enumerate((0.013, 0.0065, 0.052)):
        config = Cosine(epochs=60, lr=lr, per="epoch", t_max=50, rise=True)
        for epoch, row in wanted.items():
            for step in (1562 * epoch, 1562 * epoch + 1561):
                ours = learning_rate(config, step, steps_per_epoch=1562)
                assert ours == pytest.approx(row[column], rel=FLOAT32, abs=1e-12)


CCT = Cosine(epochs=310, lr=5e-4, warmup_epochs=10, warmup_lr=1e-6, min_lr=1e-5)


def test_model_zoo_cct_on_imagenet() -> None:
    """The recipe of its YAML and that of its README, 1251 steps an epoch."""
    wanted = {
        0: (1.0000000000e-06, 7.0000000000e-08),
        1: (1.0398880895e-06, 8.9981215028e-08),
        100: (4.9888089528e-06, 2.0681215028e-06),
        625: (2.5930055955e-05, 1.2558259392e-05),
        1251: (5.0900000000e-05, 2.5066500000e-05),
        6255: (2.5050000000e-04, 1.2505250000e-04),
        12509: (4.9996011191e-04, 2.5001501878e-04),
        12510: (5.0000000000e-04, 2.5003500000e-04),
        25020: (4.9865786437e-04, 5.0000000000e-04),
        62550: (4.7881863712e-04, 4.8707033328e-04),
        125100: (3.9900738681e-04, 4.1290441234e-04),
        193905: (2.6782230928e-04, 2.7970539755e-04),
        200160: (2.5500000000e-04, 2.6637231042e-04),
        206415: (2.4217769072e-04, 2.5300000000e-04),
        250200: (1.5534952245e-04, 1.6157587563e-04),
        312750: (5.6790836378e-05, 5.6365012771e-05),
        375300: (1.1342135635e-05, 7.4479245829e-06),
        386559: (1.0013433505e-05, 6.0144932726e-06),
        387809: (1.0000000009e-05, 6.0000000093e-06),
    }
    golden(CCT, 1251, {step: yaml for step, (yaml, _) in wanted.items()})
    readme = replace(CCT, warmup_epochs=20, warmup_lr=7e-8, min_lr=6e-6)
    golden(readme, 1251, {step: text for step, (_, text) in wanted.items()})


def test_model_zoo_cct_on_cifar10() -> None:
    wanted = {
        0: 1.0e-05,
        1: 1.0138461538e-05,
        390: 6.4e-05,
        1950: 2.8e-04,
        3899: 5.4986153846e-04,
        3900: 5.5e-04,
        39000: 4.3152050765e-04,
        60450: 2.8e-04,
        78000: 1.5352972101e-04,
        100000: 3.9547521840e-05,
        116610: 1.0015842849e-05,
        116999: 1.0000000104e-05,
    }
    golden(replace(CCT, epochs=300, lr=5.5e-4, warmup_lr=1e-5), 390, wanted)


def test_model_zoo_beit_adds_its_least_rate() -> None:
    """So its rate jumps at the end of the warm-up, to more than it is given."""
    config = Cosine(epochs=30, lr=2e-5, warmup_epochs=5, warmup_lr=1e-6, min_lr=1e-6, min_added=True)
    wanted = {
        0: 1.0000000000e-06,
        1: 1.0015187850e-06,
        100: 1.1518784972e-06,
        2502: 4.8000000000e-06,
        5004: 8.6000000000e-06,
        7506: 1.2400000000e-05,
        12509: 1.9998481215e-05,
        12510: 2.1000000000e-05,
        12511: 2.0999999987e-05,
        15012: 2.0921147013e-05,
        20016: 2.0297764859e-05,
        25020: 1.9090169944e-05,
        30024: 1.7374239897e-05,
        37530: 1.4090169944e-05,
        43785: 1.1000000000e-05,
        50040: 7.9098300563e-06,
        62550: 2.9098300563e-06,
        70056: 1.3141683887e-06,
        72558: 1.0788529869e-06,
        75059: 1.0000000126e-06,
    }
    golden(config, 2502, wanted)


def test_the_first_mindspore_beit_warms_up_by_steps_and_falls_by_epochs() -> None:
    config = Cosine(
        epochs=30, lr=2e-5, per="epoch_after_warmup", warmup_epochs=5, warmup="shifted", warmup_prefix=False
    )
    wanted = {
        0: 1.5987e-09,
        12509: 2.0e-05,
        12510: 1.8660253772e-05,
        25020: 1.5e-05,
        37530: 1.0e-05,
        62550: 1.3397459497e-06,
        75059: 5.4781047254e-08,
    }
    golden(config, 2502, wanted, rel=1e-4)
    golden(config, 2502, {step: rate for step, rate in wanted.items() if step}, rel=FLOAT32)


def test_shi_labs_falls_by_epochs_and_rests_for_ten() -> None:
    config = Cosine(
        epochs=310,
        lr=5.5e-4,
        per="epoch",
        warmup_epochs=10,
        warmup_lr=1e-5,
        warmup_prefix=False,
        min_lr=1e-5,
        cooldown_epochs=10,
    )
    wanted = {
        0: 1e-5,
        1: 6.4e-5,
        5: 2.8e-4,
        9: 4.96e-4,
        10: 5.48520912e-4,
        11: 5.48210647e-4,
        100: 4.15e-4,
        150: 2.8e-4,
        175: 2.10118858e-4,
        200: 1.45e-4,
        290: 1.14790883e-5,
        299: 1.00148043e-5,
        300: 1e-5,
        309: 1e-5,
    }
    golden(config, 390, {390 * epoch: rate for epoch, rate in wanted.items()}, rel=1e-8)
    assert rates(config, 390, 391)[-2:] == [1e-5, pytest.approx(6.4e-5)]


def test_shi_labs_first_script() -> None:
    config = Cosine(epochs=200, lr=5e-4, per="epoch", warmup_epochs=5, warmup="harmonic")
    ours = rates(config, 2, 12)[::2]
    assert ours == pytest.approx([1e-4, 1.25e-4, 5e-4 / 3, 2.5e-4, 5e-4, 5e-4])
    golden(config, 2, {2 * 150: 2.5e-4 * (1 + math.cos(math.pi * 145 / 195))})


def test_unilm_holds_its_peak_for_two_steps() -> None:
    wanted = [0, 0.25, 0.5, 0.75, 1, 1, 0.990166, 0.961095, 0.914058, 0.851109, 0.775, 0.689058, 0.597038, 0.502962]
    wanted += [0.410942, 0.325, 0.248891, 0.185942, 0.138905, 0.109834]
    assert rates(unilm(1.0, 0.1, 4, 1), 5, 20) == pytest.approx(wanted, abs=5e-7)
    assert rates(unilm(1.0, 0.1, 4, 1), 1, 2) == [0.0, 1.0]  # a warm-up of one step


def test_google_fine_tuning() -> None:
    config = Cosine(steps=500, lr=0.03, warmup_steps=100)
    golden(config, 40, {1: 3e-4, 50: 0.015, 100: 0.03, 250: 0.0207402515})
    for step in range(501):
        way = min(max((step - 100) / 400, 0.0), 1.0)
        theirs = 0.03 * 0.5 * (1 + math.cos(math.pi * way)) * min(1.0, step / 100)
        assert learning_rate(config, step, steps_per_epoch=40) == pytest.approx(theirs, rel=EXACT, abs=1e-17)


# ---- torch's own, now


def theirs_now(make: Any, lr: float, count: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    schedule, found = make(optimizer), []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_torch_gives_the_same_rates_now() -> None:
    schedulers = torch.optim.lr_scheduler

    def both(optimizer: Any) -> Any:
        line = schedulers.LinearLR(optimizer, start_factor=0.1, total_iters=4)
        cosine = schedulers.CosineAnnealingLR(optimizer, T_max=16, eta_min=0.01)
        return schedulers.SequentialLR(optimizer, [line, cosine], milestones=[4])

    ours = rates(Cosine(epochs=2, lr=0.3, warmup_epochs=0.4, warmup_lr=0.03, min_lr=0.01), 10, 20)
    assert ours == pytest.approx(theirs_now(both, 0.3, 20), rel=1e-9)


CASES: dict[str, tuple[Schedule, Any]] = {
    "multi_step": (
        MultiStep(epochs=20, lr=0.3, milestones=(3, 7, 12), gamma=0.3),
        lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [3, 7, 12], gamma=0.3),
    ),
    "exponential": (
        Exponential(epochs=20, lr=0.3, gamma=0.9),
        lambda o: torch.optim.lr_scheduler.ExponentialLR(o, gamma=0.9),
    ),
    "polynomial": (
        Polynomial(epochs=20, lr=0.3, power=2.5),
        lambda o: torch.optim.lr_scheduler.PolynomialLR(o, total_iters=20, power=2.5),
    ),
    "linear": (
        Linear(epochs=20, lr=0.3, min_lr=0.03),
        lambda o: torch.optim.lr_scheduler.LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=20),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_curves_of_torch(name: str) -> None:
    config, make = CASES[name]
    theirs = theirs_now(make, 0.3, 20)
    assert rates(config, 1, 20) == pytest.approx(theirs, rel=1e-12, abs=1e-15)
    by_epoch = rates(replace(config, per="epoch"), 4, 80)
    assert by_epoch[::4] == by_epoch[3::4] == pytest.approx(theirs, rel=1e-12, abs=1e-15)


def test_the_model_zoo_s_continuous_falls() -> None:
    """Its exp_lr is base gamma^x, its multistep_lr base gamma^(x / lr_adjust), in epochs x; its BEiT's adds min_lr."""
    plain = Exponential(epochs=60, lr=0.5, gamma=0.97)
    golden(plain, 8, {13: 0.5 * 0.97 ** (13 / 8)}, rel=EXACT)
    golden(replace(plain, every=30), 8, {13: 0.5 * 0.97 ** (13 / 8 / 30)}, rel=EXACT)
    golden(replace(plain, min_added=True, min_lr=0.1), 8, {13: 0.1 + 0.5 * 0.97 ** (13 / 8)}, rel=EXACT)
    assert min(rates(replace(plain, gamma=0.5, min_lr=0.1), 8, 480)) == 0.1


# ---- what all have in common


def test_constant_warms_up_and_stays() -> None:
    config = Constant(epochs=2, lr=0.5, warmup_epochs=0.5, warmup_lr=0.1)
    assert rates(config, 4, 8) == pytest.approx([0.1, 0.3, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])


@pytest.mark.parametrize(("epochs", "length", "steps"), [(0.01, 10, 1), (2.5, 10, 25), (1 / 3, 3, 1), (300, 9, 2700)])
def test_epochs_become_whole_steps(epochs: float, length: int, steps: int) -> None:
    assert total_steps(Constant(epochs=epochs, lr=1.0), length) == steps
    assert total_steps(Constant(steps=7, lr=1.0), length) == 7


FALLING: tuple[Schedule, ...] = (
    Cosine(steps=1, lr=1.0),
    Cosine(steps=1, lr=1.0, per="epoch"),
    Cosine(steps=1, lr=1.0, k_decay=0.5),
    Linear(steps=1, lr=1.0, per="epoch_after_warmup"),
    Polynomial(steps=1, lr=1.0),
    MultiStep(steps=1, lr=1.0, milestones=(0.5, 2.0)),
    Exponential(steps=1, lr=1.0),
)


@given(
    base=st.sampled_from(FALLING),
    steps=st.integers(1, 200),
    length=st.integers(1, 50),
    warmup=st.floats(0, 20),
    form=st.sampled_from(["line", "ending", "shifted"]),
    prefix=st.booleans(),
    cooldown=st.floats(0, 5),
    lr=st.floats(1e-6, 10),
    lowest=st.floats(0, 1),
    first=st.floats(0, 1),
)
def test_every_rate_lies_between_its_bounds_and_falls_after_the_warm_up(
    base: Schedule, steps: int, length: int, warmup: float, form: Any, prefix: bool, cooldown: float, **rate: float
) -> None:
    lr, lowest, first = rate["lr"], rate["lowest"], rate["first"]
    config = replace(
        base,
        steps=steps,
        lr=lr,
        warmup_epochs=warmup,
        warmup_lr=lr * first,
        warmup=form,
        warmup_prefix=prefix,
        min_lr=lr * lowest,
        cooldown_epochs=cooldown,
    )
    found = rates(config, length, steps + 3)
    assert all(min(lr * lowest, lr * first) * (1 - 1e-9) <= rate <= lr * (1 + 1e-9) for rate in found)
    turn = min(round(warmup * length), steps)
    assert all(a <= b * (1 + 1e-12) for a, b in pairwise(found[:turn]))
    assert all(a >= b * (1 - 1e-12) for a, b in pairwise(found[turn:]))
    assert found[steps:] == [lr * lowest] * 3
