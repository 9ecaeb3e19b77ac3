"""The loss scale step by step, as MindSpore's rule and torch's scaler move it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitrail.training.configs import DynamicScale, FixedScale
from vitrail.training.loss_scale import Scale, after, can_fall, first

CCT = DynamicScale(initial=2.0**12, factor=2.0, window=1000)
BEIT = DynamicScale(initial=2.0**24, factor=2.0, window=2000)


def mindspore(config: DynamicScale, overflows: list[bool]) -> list[float]:
    """Its rule as written: a counter from 1, the last change at 0, no upper limit."""
    scale, counter, last, found = config.initial, 1, 0, []
    for overflow in overflows:
        if overflow:
            scale, last = max(scale / config.factor, 1.0), counter
        elif counter - last >= config.window:
            scale, last = scale * config.factor, counter
        counter += 1
        found.append(scale)
    return found


def ours(config: DynamicScale, overflows: list[bool]) -> list[float]:
    scale, found = first(config), []
    for overflow in overflows:
        scale = after(config, scale, overflow=overflow)
        found.append(scale.value)
    return found


@pytest.mark.parametrize("config", [CCT, BEIT])
def test_the_scales_of_the_model_zoo(config: DynamicScale) -> None:
    overflows = [True, True, *[False] * (2 * config.window + 5), True, *[False] * config.window]
    found = ours(config, overflows)
    assert found == mindspore(config, overflows)
    assert found[:2] == [config.initial / 2, config.initial / 4]
    assert found[config.window :][:3] == [config.initial / 4, config.initial / 2, config.initial / 2]


@given(
    overflows=st.lists(st.booleans(), max_size=60),
    window=st.integers(1, 5),
    factor=st.sampled_from([2.0, 3.0, 1.5]),
    initial=st.sampled_from([1.0, 8.0, 65536.0]),
)
def test_it_is_the_rule_of_mindspore(overflows: list[bool], window: int, factor: float, initial: float) -> None:
    config = DynamicScale(initial=initial, factor=factor, window=window)
    assert ours(config, overflows) == mindspore(config, overflows)


def test_it_is_the_rule_of_torch() -> None:
    """But for torch's having no least scale."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.0)
    pattern = [False, True, False, False, False, False, True, True, False, False, False]
    theirs = []
    for overflow in pattern:
        scaler.scale(torch.zeros(()))
        parameter = optimizer.param_groups[0]["params"][0]
        parameter.grad = torch.full((1,), float("inf") if overflow else 1.0)
        scaler.step(optimizer)
        scaler.update()
        theirs.append(scaler.get_scale())
    assert ours(DynamicScale(initial=1024.0, window=3), pattern) == theirs


def test_a_fixed_scale_stays_and_cures_nothing() -> None:
    config = FixedScale(value=1024.0)
    assert first(config) == after(config, first(config), overflow=True) == Scale(1024.0)
    assert not can_fall(config, first(config))
    assert can_fall(CCT, first(CCT))
    assert not can_fall(CCT, Scale(1.0))
    assert not can_fall(None, None)
