"""The guard before the update, and that one step is what torch would do: promise A17."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.training.tiny import ADAMW, CLASSES, NETWORK, SGD, batch, fingerprint, mixed
from vitrail.errors import RunError
from vitrail.models import build
from vitrail.ranks import Ranks, World
from vitrail.training import average
from vitrail.training.checkpoint import load, save
from vitrail.training.configs import EMA, CrossEntropy, DynamicScale, HardTeacher, SoftTeacher
from vitrail.training.loss_scale import Scale, first
from vitrail.training.losses import loss_of
from vitrail.training.optimizer_configs import Optimizer
from vitrail.training.optimizers import make
from vitrail.training.state import TrainState, restore, snapshot
from vitrail.training.step import LARGEST_NORM, How, Mixer, Step, broken, forward_backward, take_step

HOW = How(
    device=torch.device("cpu"), precision="fp32", loss=CrossEntropy(smoothing=0.1), seed=3, average=EMA(decay=0.9)
)
PLAIN = replace(SGD, momentum=0.0, nesterov=False, weight_decay=0.0)
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

    def wrong(config: object, logits: Tensor, target: Tensor, *rest: object) -> Tensor:
        return logits.sum() * value

    monkeypatch.setattr("vitrail.training.step.loss_of", wrong)
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
    how = replace(HOW, loss=CrossEntropy(), clip=clip, average=None)
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
        take_step(state, replace(batch(0), step=step), 0.1, replace(how, average=None))
        assert torch.equal(torch.random.get_rng_state(), generator)
        return [p.detach() for p in module.parameters()]

    def equal(one: list[Tensor], other: list[Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    first = after(lambda: torch.manual_seed(1))
    assert equal(first, after(lambda: torch.rand(99)))
    assert not equal(first, after(lambda: None, replace(HOW, seed=4)))
    assert not equal(first, after(lambda: None, replace(HOW, ranks=Ranks(World(rank=1)))))
    assert not equal(first, after(lambda: None, step=1))


def test_bf16_keeps_float32_weights_and_moments() -> None:
    module = build(NETWORK, seed=1).train()
    state = TrainState(module, make(ADAMW, module))
    done = take_step(state, batch(0), 1e-3, replace(HOW, precision="bf16", average=None))
    assert not done.skipped
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert {t.dtype for kept in state.optimizer.state.values() for t in kept.values()} == {torch.float32}


# ---- parts, clipping, skipped steps


def gradients(how: How, size: int = 8, step: int = 0) -> dict[str, Tensor]:
    module = build(QUIET, seed=1).train()
    loss = forward_backward(module, batch(step, size), how)
    found = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {"loss": loss, **found}


@pytest.mark.parametrize("mix", [None, mixed])
@pytest.mark.parametrize(("parts", "size"), [(2, 8), (3, 8), (8, 8), (9, 8), (4, 7)])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(parts: int, size: int, mix: Mixer | None) -> None:
    """So `accumulate: 4` on a batch of 32 is one batch of 32, and four of 8; also where it does not divide."""
    whole = gradients(replace(HOW, mix=mix), size)
    split = gradients(replace(HOW, mix=mix, accumulate=parts), size)
    assert whole.keys() == split.keys()
    for name, theirs in whole.items():
        torch.testing.assert_close(split[name], theirs, rtol=1e-4, atol=1e-6, msg=name)


def test_four_batches_in_a_row_are_one_of_four_times_the_size() -> None:
    four = [batch(step) for step in range(4)]
    module = build(QUIET, seed=1).train()
    for one in four:
        forward_backward(module, replace(one, step=0), HOW, 0.25)
    whole = replace(
        four[0],
        images=np.concatenate([one.images for one in four]),
        labels=np.concatenate([one.labels for one in four]),
    )
    other = build(QUIET, seed=1).train()
    forward_backward(other, whole, replace(HOW, accumulate=4))
    for p, q in zip(module.parameters(), other.parameters(), strict=True):
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-6)


def test_masks_are_those_of_the_parts() -> None:
    """Each part draws after the one before: the same split is the same run, another split is another."""

    def loss(parts: int) -> float:
        return float(forward_backward(build(NETWORK, seed=1).train(), batch(0), replace(HOW, accumulate=parts)))

    assert loss(2) == loss(2) != loss(1)


def test_a_gradient_is_clipped_by_value() -> None:
    module = build(QUIET, seed=1).train()
    state = TrainState(module, make(PLAIN, module))
    before = [p.detach().clone() for p in module.parameters()]
    done = take_step(state, batch(0), 1.0, replace(HOW, average=None, clip_value=1e-3))
    moved = torch.cat([(a - p.detach()).reshape(-1) for a, p in zip(before, module.parameters(), strict=True)])
    assert done.norm > 0.01
    assert float(moved.abs().max()) == pytest.approx(1e-3, rel=1e-3)


def test_each_group_has_its_own_rate() -> None:
    module = build(QUIET, seed=1).train()
    state = TrainState(module, make(replace(PLAIN, layer_decay=0.5), module))
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    plain = gradients(replace(HOW, average=None))
    take_step(state, batch(0), 1e-2, replace(HOW, average=None))
    for name, scale in (("tokenizer.conv_layers.0.0.weight", 0.125), ("classifier.blocks.1.linear1.weight", 0.5)):
        moved = before[name] - module.get_parameter(name).detach()
        torch.testing.assert_close(moved, 1e-2 * scale * plain[name], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("teacher", [HardTeacher(path="x"), SoftTeacher(path="x", temperature=2.0)])
def test_a_teacher_is_asked_for_the_mixed_pictures_and_learns_nothing(teacher: HardTeacher | SoftTeacher) -> None:
    taught = build(QUIET, seed=9).eval().requires_grad_(False)
    how = replace(HOW, loss=CrossEntropy(teacher=teacher), mix=mixed, teacher=taught)
    module = build(QUIET, seed=1).train()
    loss = forward_backward(module, batch(0), how)
    images, target = mixed(torch.tensor(batch(0).images), torch.tensor(batch(0).labels), 0, 0)
    wanted = loss_of(how.loss, module(images), target, taught(images)).detach()
    assert float(loss) == pytest.approx(float(wanted), rel=1e-5)
    assert all(p.grad is None for p in taught.parameters())
    parts = forward_backward(build(QUIET, seed=1).train(), batch(0), replace(how, accumulate=3))
    assert float(parts) == pytest.approx(float(wanted), rel=1e-5)


# ---- fp16


def fp16(initial: float, **changes: object) -> tuple[TrainState, How]:
    config = DynamicScale(initial=initial, window=3)
    module = build(QUIET, seed=1).train()
    state = TrainState(module, make(ADAMW, module), average.start(module), scale=first(config))
    how = replace(HOW, precision="fp16", loss_scale=config)
    return state, replace(how, **changes)  # type: ignore[arg-type]


def test_fp16_follows_float32_and_its_scale_cancels() -> None:
    losses = {}
    for precision, scale in (("fp32", 1.0), ("fp16", 1.0), ("fp16", 1024.0)):
        state, how = fp16(scale, precision=precision)
        losses[precision, scale] = [take_step(state, batch(step), 1e-3, how).loss for step in range(4)]
        assert {p.dtype for p in state.module.parameters()} == {torch.float32}
        assert state.scale == Scale(2 * scale, 2)
    assert losses["fp16", 1024.0] == pytest.approx(losses["fp32", 1.0], rel=2e-3)
    assert losses["fp16", 1024.0] != losses["fp32", 1.0]


def test_an_overflow_halves_the_scale_and_moves_nothing_else() -> None:
    state, how = fp16(2.0**40)
    before = fingerprint(replace(state, scale=None))
    done = take_step(state, batch(0), 1e-3, how)
    assert (done.skipped, done.overflow) == (True, True)
    assert state.scale == Scale(2.0**39)
    assert (state.step, state.updates, state.skipped, state.skipped_in_row) == (1, 0, 1, 0)
    assert fingerprint(replace(state, scale=None, step=0, skipped=0)) == before
    for step in range(1, 60):
        done = take_step(state, batch(step), 1e-3, how)
        if not done.skipped:
            break
        assert done.overflow
    assert state.updates == 1
    assert 1.0 < state.scale.value < 2.0**39


def test_A17_numbers_that_no_scale_can_mend_are_broken() -> None:
    state, how = fp16(1024.0)
    bad = batch(0)
    bad.images[0, 0, 0, 0] = np.nan
    done = take_step(state, bad, 1e-3, how)
    assert (done.skipped, done.overflow, state.skipped_in_row) == (True, False, 1)
    assert state.scale == Scale(1024.0)
    state, how = fp16(1.0)  # nothing is left to halve
    with gradient_of(state.module.get_parameter("classifier.fc.weight"), float("inf")):
        assert not take_step(state, batch(0), 1e-3, how).overflow


def test_A08_a_state_with_a_scale_comes_back(tmp_path: Path) -> None:
    state, how = fp16(2.0**17)
    for step in range(3):
        take_step(state, batch(step), 1e-3, how)
    saved = load(save(tmp_path, snapshot(state, {}), keep=1))
    other, _ = fp16(8.0)
    restore(other, saved)
    assert (other.scale, fingerprint(other)) == (state.scale, fingerprint(state))
    assert state.scale is not None and state.scale.value != 8.0
    plain = {key: value for key, value in saved.state.items() if key != "scale"}
    for wrong in (plain, {**plain, "scale": {"value": 0.5, "since": 1}}, {**plain, "scale": 2.0}):
        with pytest.raises(RunError, match="does not fit") as refused:
            restore(other, replace(saved, state=wrong))
        assert any("scale" in line for line in refused.value.evidence)
