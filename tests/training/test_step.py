"""The guard before the update, and that one step is what torch would do: promise A17."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.training.tiny import ADAMW, CLASSES, NETWORK, SGD, batch, fingerprint
from vitrail.models import build
from vitrail.training import average
from vitrail.training.configs import CrossEntropy, Optimizer
from vitrail.training.optimizers import make
from vitrail.training.state import TrainState
from vitrail.training.step import LARGEST_NORM, How, Step, broken, take_step

HOW = How(device=torch.device("cpu"), precision="fp32", loss=CrossEntropy(smoothing=0.1), seed=3, decay=0.9)
BROKEN = [float("nan"), float("inf"), float("-inf"), 1e38]


def fresh(config: Optimizer = ADAMW) -> TrainState:
    """A state after one good step, so that the optimizer holds something."""
    module = build(NETWORK, seed=1).train()
    state = TrainState(module, make(config, module), average.start(module))
    assert not take_step(state, batch(0), 1e-3, HOW).skipped
    return state


def unchanged_but_counted(state: TrainState, before: str) -> None:
    assert (state.step, state.skipped, state.skipped_in_row) == (2, 1, 1)
    state.step, state.skipped, state.skipped_in_row = 1, 0, 0
    assert fingerprint(state) == before
    assert all(p.grad is None for p in state.module.parameters())


@contextmanager
def gradient_of(parameter: nn.Parameter, value: float) -> Iterator[None]:
    """One element of the parameter's gradient becomes `value`."""

    def change(gradient: Tensor) -> Tensor:
        changed = gradient.clone()
        changed[(-1,) * changed.ndim] = value
        return changed

    handle = parameter.register_hook(change)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("value", BROKEN[:3])
def test_A17_a_broken_picture_changes_nothing(value: float, precision: str) -> None:
    state = fresh()
    before = fingerprint(state)
    bad = batch(1)
    bad.images[3, 1, 2, 2] = value
    assert take_step(state, bad, 1e-3, replace(HOW, precision=precision)).skipped  # type: ignore[arg-type]
    unchanged_but_counted(state, before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_A17_a_huge_picture_leaves_finite_numbers(precision: str) -> None:
    state = fresh()
    before = fingerprint(state)
    bad = batch(1)
    bad.images[:] = 1e38
    done = take_step(state, bad, 1e-3, replace(HOW, precision=precision))  # type: ignore[arg-type]
    if done.skipped:
        unchanged_but_counted(state, before)
    fingerprint(state)  # refuses NaN and Inf


@pytest.mark.parametrize("config", [ADAMW, SGD])
@pytest.mark.parametrize("value", BROKEN)
def test_A17_a_broken_gradient_in_any_layer_changes_nothing(value: float, config: Optimizer) -> None:
    names = [name for name, p in build(NETWORK).named_parameters() if p.requires_grad]
    for name in names[:: len(names) // 4]:
        state = fresh(config)
        before = fingerprint(state)
        with gradient_of(state.module.get_parameter(name), value):
            done = take_step(state, batch(1), 1e-3, HOW)
        assert done.skipped, name
        assert not done.norm <= LARGEST_NORM
        unchanged_but_counted(state, before)


@pytest.mark.parametrize("value", BROKEN)
def test_A17_a_broken_loss_changes_nothing(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    state = fresh()
    before = fingerprint(state)

    def wrong(logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
        return logits.sum() * value

    monkeypatch.setattr("vitrail.training.step.cross_entropy", wrong)
    assert take_step(state, batch(1), 1e-3, HOW).skipped
    unchanged_but_counted(state, before)


def test_A17_a_broken_soft_target_changes_nothing() -> None:
    def mix(images: Tensor, labels: Tensor, step: int, epoch: int) -> tuple[Tensor, Tensor]:
        return images, torch.full((len(labels), CLASSES), float("nan"))

    state = fresh()
    before = fingerprint(state)
    assert take_step(state, batch(1), 1e-3, replace(HOW, mix=mix)).skipped
    unchanged_but_counted(state, before)


@pytest.mark.parametrize("value", [1e-45, 0.0, 1e10, 1e19])
def test_a_gradient_that_squares_within_float32_is_taken(value: float) -> None:
    state = fresh()
    with gradient_of(state.module.get_parameter("classifier.fc.weight"), value):
        assert not take_step(state, batch(1), 1e-3, HOW).skipped
    fingerprint(state)  # refuses NaN and Inf
    assert state.skipped_in_row == 0


def test_the_error_names_step_epoch_loss_norm_and_pictures() -> None:
    state = fresh()
    bad = batch(1)
    bad.images[:] = np.nan
    error = broken(take_step(state, bad, 1e-3, HOW), bad, in_row=1)
    assert (error.code, error.exit_code) == ("V811", 6)
    assert error.what == "the loss is nan at step 2 (epoch 1)"
    assert error.evidence[0] == "loss nan"
    assert error.evidence[2] == "pictures by index: " + ", ".join(str(index) for index in bad.indices)
    assert "and 68 more" in broken(Step(1.0, np.nan, True), batch(1, 100), in_row=1).evidence[2]


QUIET = replace(NETWORK, dropout=0.0, attention_dropout=0.0, drop_path=0.0)


def reference(steps: int, clip: float | None) -> nn.Module:
    """The same steps with plain torch calls, one tensor at a time."""
    module = build(QUIET, seed=1).train()
    decayed = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    rest = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
    parts = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(parts, lr=1e-2, foreach=False, fused=False)
    for step in range(steps):
        one = batch(step)
        loss = nn.functional.cross_entropy(module(torch.tensor(one.images)), torch.tensor(one.labels))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizer.step()
    return module


@pytest.mark.parametrize("clip", [None, 0.05])
def test_steps_are_what_plain_torch_does(clip: float | None) -> None:
    module = build(QUIET, seed=1).train()
    state = TrainState(module, make(ADAMW, module))
    how = replace(HOW, loss=CrossEntropy(), clip=clip, decay=None)
    for step in range(4):
        take_step(state, batch(step), 1e-2, how)
    theirs = reference(4, clip)
    for name, ours in module.named_parameters():
        if name != "classifier.attention_pool.bias":  # softmax takes no notice of it: its gradient is rounding alone
            torch.testing.assert_close(ours, theirs.get_parameter(name), rtol=1e-3, atol=1e-5)


def test_masks_depend_on_seed_step_and_rank_alone() -> None:
    def after(prepare: Callable[[], object], how: How = HOW, step: int = 0) -> list[Tensor]:
        module = build(NETWORK, seed=1).train()
        state = TrainState(module, make(SGD, module), step=step)
        prepare()
        generator = torch.random.get_rng_state()
        take_step(state, replace(batch(0), step=step), 0.1, replace(how, decay=None))
        assert torch.equal(torch.random.get_rng_state(), generator)
        return [p.detach() for p in module.parameters()]

    def equal(one: list[Tensor], other: list[Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    first = after(lambda: torch.manual_seed(1))
    assert equal(first, after(lambda: torch.rand(99)))
    assert not equal(first, after(lambda: None, replace(HOW, seed=4)))
    assert not equal(first, after(lambda: None, replace(HOW, rank=1)))
    assert not equal(first, after(lambda: None, step=1))


def test_bf16_keeps_float32_weights_and_moments() -> None:
    module = build(NETWORK, seed=1).train()
    state = TrainState(module, make(ADAMW, module))
    done = take_step(state, batch(0), 1e-3, replace(HOW, precision="bf16", decay=None))
    assert not done.skipped
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert {t.dtype for kept in state.optimizer.state.values() for t in kept.values()} == {torch.float32}
