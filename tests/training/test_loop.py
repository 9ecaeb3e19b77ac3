"""A run stopped anywhere and resumed is the unbroken run, bit for bit: promises A8, A10, A11, A19, A24."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.tiny import (
    ADAMW,
    EPOCHS,
    NETWORK,
    OPTIMIZERS,
    SGD,
    STEPS_PER_EPOCH,
    TOTAL,
    Loader,
    batch,
    fingerprint,
    plan,
    saved,
    silent,
    story,
    top1,
)
from vitrail.data.batches import BadPicture, TrainBatch
from vitrail.errors import DataError, NumbersBroke, PictureError, Stopped, SystemFault
from vitrail.models import build
from vitrail.ranks import Ranks, World
from vitrail.training import checkpoint, configs, memory
from vitrail.training.checkpoint import CHECKPOINTS, best_of, generations, load
from vitrail.training.journal import JOURNAL, LOG, read
from vitrail.training.loop import Outcome, train
from vitrail.training.plan import Plan, prepared
from vitrail.training.schedule import learning_rate
from vitrail.training.signals import SIGNALS
from vitrail.training.state import final_module
from vitrail.training.step import SKIPS_IN_ROW

CASES: dict[str, Mapping[str, object]] = {
    "adamw fp32 averaged": {},
    "adamw bf16 averaged": {"precision": "bf16"},
    "sgd fp32 plain": {"optimizer": SGD, "average": None, "mix": None},
    "sgd bf16 averaged": {"optimizer": SGD, "precision": "bf16"},
    "adamw class token, no clip": {
        "module": None,
        "train": configs.Train(seed=7),
        "schedule": configs.Constant(steps=TOTAL, lr=1e-3),
    },
}
MORE: dict[str, Mapping[str, object]] = {  # stopped at one step alone: what they keep is seen in test_state.py
    **{name: {"optimizer": config} for name, config in OPTIMIZERS.items() if name not in ("adamw", "sgd")},
    "in parts, sums of sigmoids, SWA": {
        "train": configs.Train(seed=7, accumulate=3, clip_value=0.1),
        "loss": configs.BinaryCrossEntropy(smoothing=0.1, over_classes="sum"),
        "average": configs.SWA(from_epoch=0),
    },
    "fp16 whose scale overflows": {
        "train": configs.Train(seed=7, loss_scale=configs.DynamicScale(initial=2.0**28, window=2)),
        "precision": "fp16",
    },
    "half of it frozen": {"train": configs.Train(seed=7, freeze=("classifier.blocks.0.*", "tokenizer.*"))},
}
STOPS = [(case, step) for case in CASES for step in range(1, TOTAL + 1)] + [(case, 2) for case in MORE]
CASES |= MORE
Changes = Mapping[str, object]


def changed(folder: Path, changes: Changes, **more: object) -> Plan:
    """A plan with a network of its own: two runs never share one."""
    own = dict(changes)
    if "module" in own:
        own["module"] = build(replace(NETWORK, pooling="class", positions="sine"), seed=1)
    return plan(folder, **own, **more)


def at_step(step: int, act: Callable[[], object]) -> Loader:
    """A loader that acts when it hands over the batch of the step number `step`, counted from 1."""

    def hook(batch: TrainBatch) -> TrainBatch:
        if batch.step + 1 == step:
            act()
        return batch

    return Loader(hook)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def resumed(folder: Path, changes: Changes, **more: object) -> Outcome:
    """Go on from the newest checkpoint, with a network that starts from other weights."""
    again = changed(folder, changes, **more)
    with torch.no_grad():
        for parameter in again.module.parameters():
            parameter.normal_()
    return train(again, resume=saved(folder), listener=silent)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[str, list[dict[str, object]]]]:
    done: dict[str, tuple[str, list[dict[str, object]]]] = {}

    def run(case: str) -> tuple[str, list[dict[str, object]]]:
        if case not in done:
            folder = tmp_path_factory.mktemp("unbroken")
            outcome = train(changed(folder, CASES[case]), resume=None, listener=silent)
            done[case] = (fingerprint(outcome.state), story(folder))
        return done[case]

    return run


@pytest.mark.parametrize(("case", "step"), STOPS)
def test_A08_A10_a_resume_is_the_unbroken_run(
    case: str, step: int, tmp_path: Path, unbroken: Callable[[str], tuple[str, list[dict[str, object]]]]
) -> None:
    with pytest.raises(Stopped):
        train(changed(tmp_path, CASES[case], loader=at_step(step, terminate)), resume=None, listener=silent)
    assert saved(tmp_path).step == step
    torch.rand(step)  # what the generators hold is of no importance
    outcome = resumed(tmp_path, CASES[case])
    assert (fingerprint(outcome.state), story(tmp_path)) == unbroken(case)


def test_A08_stopped_at_every_step_and_within_evaluations(
    tmp_path: Path, unbroken: Callable[[str], tuple[str, list[dict[str, object]]]]
) -> None:
    calls = 0

    def interrupted(module: nn.Module) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls % 2:
            terminate()
        return top1(module)

    case = "adamw fp32 averaged"
    with pytest.raises(Stopped):
        train(plan(tmp_path, loader=at_step(1, terminate)), resume=None, listener=silent)
    for step in range(2, TOTAL):
        with pytest.raises(Stopped):
            resumed(tmp_path, {}, loader=at_step(step, terminate), evaluate=interrupted)
    stops = 0
    while True:
        try:
            outcome = resumed(tmp_path, {}, evaluate=interrupted)
        except Stopped:
            stops += 1
            continue
        break
    assert stops >= 1
    assert (fingerprint(outcome.state), story(tmp_path)) == unbroken(case)


@pytest.mark.parametrize("cut", [0, 1, 25])
def test_A24_rows_after_the_checkpoint_vanish(
    cut: int, tmp_path: Path, unbroken: Callable[[str], tuple[str, list[dict[str, object]]]]
) -> None:
    """A kill leaves rows of steps that no checkpoint holds, and perhaps half a row."""

    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(plan(tmp_path, loader=at_step(6, die)), resume=None, listener=silent)
    journal = tmp_path / JOURNAL
    assert read(journal)[-1]["step"] == 5
    journal.write_bytes(journal.read_bytes()[: -cut or None])
    assert saved(tmp_path).step == STEPS_PER_EPOCH
    outcome = resumed(tmp_path, {})
    assert (fingerprint(outcome.state), story(tmp_path)) == unbroken("adamw fp32 averaged")
    steps = [row["step"] for row in read(journal) if row["event"] == "step"]
    assert steps == list(range(1, TOTAL + 1))


def test_A24_a_kill_after_an_evaluation_was_made_up_for_leaves_no_duplicate(
    tmp_path: Path, unbroken: Callable[[str], tuple[str, list[dict[str, object]]]]
) -> None:
    def die() -> None:
        raise KeyboardInterrupt

    with pytest.raises(Stopped):
        train(plan(tmp_path, loader=at_step(STEPS_PER_EPOCH, terminate)), resume=None, listener=silent)
    for _ in range(2):  # each makes up for the evaluation of step 3, then dies with nothing newer saved
        with pytest.raises(KeyboardInterrupt):
            resumed(tmp_path, {}, loader=at_step(STEPS_PER_EPOCH + 2, die))
        assert saved(tmp_path).step == STEPS_PER_EPOCH
    outcome = resumed(tmp_path, {})
    assert (fingerprint(outcome.state), story(tmp_path)) == unbroken("adamw fp32 averaged")


def test_two_runs_are_equal_and_another_seed_differs(tmp_path: Path) -> None:
    prints = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        outcome = train(plan(tmp_path / name, train=configs.Train(seed=seed)), resume=None, listener=silent)
        prints.append(fingerprint(outcome.state))
    assert prints[0] == prints[1] != prints[2]


def test_an_evaluation_changes_nothing(tmp_path: Path) -> None:
    seen: list[tuple[bool, ...]] = []

    def noisy(module: nn.Module) -> dict[str, float]:
        seen.append(tuple(part.training for part in module.modules()))
        torch.manual_seed(0)
        return top1(module)

    before = torch.random.get_rng_state()
    one = train(plan(tmp_path / "a", evaluate=noisy), resume=None, listener=silent)
    assert torch.equal(torch.random.get_rng_state(), before)
    two = train(plan(tmp_path / "b", evaluate=None), resume=None, listener=silent)
    assert not any(any(modes) for modes in seen)
    assert all(part.training for part in one.state.module.modules())
    for a, b in zip(one.state.module.parameters(), two.state.module.parameters(), strict=True):
        assert torch.equal(a, b)
    assert two.metrics == {}
    assert two.best is None


def test_an_evaluation_sees_the_averaged_weights_and_the_outcome_ships_them(tmp_path: Path) -> None:
    seen = []

    def look(module: nn.Module) -> dict[str, float]:
        seen.append([p.detach().clone() for p in module.parameters()])
        return {"top1": 0.5}

    outcome = train(plan(tmp_path, evaluate=look), resume=None, listener=silent)
    assert outcome.state.ema is not None
    module = final_module(outcome.state)
    shipped = list(module.parameters())
    for last, mean, ships, live in zip(
        seen[-1], outcome.state.ema, shipped, outcome.state.module.parameters(), strict=True
    ):
        assert torch.equal(last, mean)
        assert torch.equal(ships, mean)
        assert ships.data_ptr() not in (mean.data_ptr(), live.data_ptr())
    assert not module.training
    assert any(not torch.equal(a, b) for a, b in zip(shipped, outcome.state.module.parameters(), strict=True))


def test_the_checkpoint_holds_a_complete_network_to_ship(tmp_path: Path) -> None:
    outcome = train(plan(tmp_path), resume=None, listener=silent)
    shipped = final_module(outcome.state).state_dict()
    ema = saved(tmp_path).files["ema"]
    assert set(ema) == set(shipped)
    assert all(np.array_equal(ema[name].array(), tensor.numpy()) for name, tensor in shipped.items())


@pytest.mark.parametrize(
    ("every", "evaluate_every", "checkpoints", "evaluations"),
    [(1, 1, [3, 6, 8], [3, 6, 8]), (2, 0, [6, 8], [8]), (0, 2, [8], [6, 8])],
)
def test_evaluations_and_checkpoints_come_when_they_are_due(
    every: int, evaluate_every: int, checkpoints: list[int], evaluations: list[int], tmp_path: Path
) -> None:
    told: list[dict[str, object]] = []
    changes = {
        "schedule": configs.Constant(steps=8, lr=1e-3),
        "checkpoint": configs.Checkpoint(every=every, keep=9),
        "evaluation": configs.Evaluation(every=evaluate_every),
    }
    train(plan(tmp_path, **changes), resume=None, listener=lambda row: told.append(dict(row)))
    assert [row["step"] for row in told if row["event"] == "checkpoint"] == checkpoints
    assert [row["step"] for row in told if row["event"] == "evaluation"] == evaluations
    assert [load(path).step for path in generations(tmp_path / CHECKPOINTS)] == checkpoints
    assert [told[0]["event"], told[-1]["event"]] == ["start", "end"]
    assert [row["event"] for row in read(tmp_path / JOURNAL)] == [row["event"] for row in told]


def test_best_is_the_greatest_top1_and_the_first_of_equals(tmp_path: Path) -> None:
    values = iter([0.25, 0.75, 0.75, 0.5])

    def scripted(_: nn.Module) -> dict[str, float]:
        return {"top1": next(values)}

    changes = {"schedule": configs.Constant(epochs=4, lr=1e-3), "evaluate": scripted}
    outcome = train(plan(tmp_path, **changes), resume=None, listener=silent)
    assert (outcome.best, outcome.best_step, outcome.metrics) == (0.75, 6, {"top1": 0.5})
    best = best_of(tmp_path / CHECKPOINTS)
    assert best is not None
    assert load(best).step == 6


def test_a_finished_run_resumes_to_its_end_at_once(tmp_path: Path) -> None:
    first = train(plan(tmp_path), resume=None, listener=silent)

    def never(batch: TrainBatch) -> TrainBatch:
        raise AssertionError(batch.step)

    again = resumed(tmp_path, {}, loader=Loader(never), evaluate=None)
    assert fingerprint(again.state) == fingerprint(first.state)
    assert (again.metrics, again.best, again.steps) == (first.metrics, first.best, TOTAL)
    assert [row["event"] for row in read(tmp_path / JOURNAL)].count("end") == 1


# ---- A19: signals


@pytest.mark.parametrize("number", SIGNALS)
def test_A19_a_signal_stops_after_the_step_with_a_checkpoint(number: signal.Signals, tmp_path: Path) -> None:
    before = {n: signal.getsignal(n) for n in SIGNALS}
    with pytest.raises(Stopped) as caught:
        train(plan(tmp_path, loader=at_step(2, lambda: os.kill(os.getpid(), number))), resume=None, listener=silent)
    assert caught.value.exit_code == 75
    assert (number.name in caught.value.what, "--resume" in caught.value.hint) == (True, True)
    assert saved(tmp_path).step == 2
    assert {n: signal.getsignal(n) for n in before} == before
    assert read(tmp_path / JOURNAL)[-1]["event"] == "stopped"


def test_A19_a_signal_during_a_save_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoint.save

    def slow(*args: object, **kwargs: object) -> Path:
        terminate()
        return save(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint, "save", slow)
    with pytest.raises(Stopped):
        train(plan(tmp_path), resume=None, listener=silent)
    assert saved(tmp_path).step == STEPS_PER_EPOCH


def test_A19_a_second_signal_ends_the_run_at_once(tmp_path: Path) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(plan(tmp_path, loader=at_step(5, twice)), resume=None, listener=silent)
    assert saved(tmp_path).step == STEPS_PER_EPOCH
    assert signal.getsignal(signal.SIGINT) is handler


def test_A19_an_ignored_hangup_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        hangup = at_step(2, lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert train(plan(tmp_path, loader=hangup), resume=None, listener=silent).steps == TOTAL
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_A19_outside_of_the_main_thread_no_handler_is_touched(tmp_path: Path) -> None:
    outcomes = []
    before = signal.getsignal(signal.SIGTERM)

    def look(batch: TrainBatch) -> TrainBatch:
        assert signal.getsignal(signal.SIGTERM) is before
        return batch

    thread = threading.Thread(
        target=lambda: outcomes.append(train(plan(tmp_path, loader=Loader(look)), resume=None, listener=silent))
    )
    thread.start()
    thread.join(60)
    assert [outcome.steps for outcome in outcomes] == [TOTAL]


# ---- faults


def failing(monkeypatch: pytest.MonkeyPatch, times: set[int]) -> None:
    """Saves number `times`, counted from 1, fail as on a full disk."""
    save, calls = checkpoint.save, iter(range(1, 100))

    def maybe(*args: object, **kwargs: object) -> Path:
        if next(calls) in times:
            raise SystemFault("V701", "cannot write `x`: No space left on device")
        return save(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint, "save", maybe)


def test_a_failed_save_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, {1})
    with pytest.raises(SystemFault) as caught:
        train(plan(tmp_path), resume=None, listener=silent)
    assert caught.value.code == "V701"


def test_A02_a_failed_save_is_a_warning_where_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = train(plan(tmp_path / "good"), resume=None, listener=silent)
    failing(monkeypatch, {1})
    told: list[Mapping[str, object]] = []
    patient = configs.Checkpoint(on_error="continue")
    outcome = train(plan(tmp_path / "bad", checkpoint=patient), resume=None, listener=told.append)
    assert [(row["step"], row["code"]) for row in told if row["event"] == "warning"] == [(3, "V701")]
    assert saved(tmp_path / "bad").step == outcome.steps == TOTAL
    for a, b in zip(final_module(good.state).parameters(), final_module(outcome.state).parameters(), strict=True):
        assert torch.equal(a, b)


def test_A02_what_was_not_saved_is_not_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, {1})
    values = iter([0.75, 0.5])
    patient = configs.Checkpoint(on_error="continue")
    wanted = plan(tmp_path, checkpoint=patient, evaluate=lambda _: {"top1": next(values)})
    outcome = train(wanted, resume=None, listener=silent)
    assert (outcome.best, outcome.best_step) == (0.5, TOTAL)


def test_A19_a_stop_saves_again_what_a_failed_save_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, {1})
    patient = configs.Checkpoint(on_error="continue")

    def listen(row: Mapping[str, object]) -> None:
        if row["event"] == "warning":
            terminate()

    with pytest.raises(Stopped):
        train(plan(tmp_path, checkpoint=patient), resume=None, listener=listen)
    assert saved(tmp_path).step == STEPS_PER_EPOCH


def test_A02_the_last_save_must_not_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, {EPOCHS})
    with pytest.raises(SystemFault):
        train(plan(tmp_path, checkpoint=configs.Checkpoint(on_error="continue")), resume=None, listener=silent)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB")])
def test_short_memory_names_the_batch_that_fits(error: Exception, tmp_path: Path) -> None:
    sizes = []

    def greedy(module: nn.Module, args: tuple[torch.Tensor]) -> None:
        sizes.append(len(args[0]))
        if len(args[0]) > 3:
            raise error

    small = plan(tmp_path)
    small.module.register_forward_pre_hook(greedy)
    before = [p.detach().clone() for p in small.module.parameters()]
    with pytest.raises(SystemFault) as caught:
        train(small, resume=None, listener=silent)
    assert caught.value.code == "V703"
    assert "data.batch=2 fits" in caught.value.evidence
    assert sizes == [8, 4, 2]
    assert all(torch.equal(a, b) for a, b in zip(before, small.module.parameters(), strict=True))


def test_short_memory_on_a_rank_is_told_at_once(tmp_path: Path) -> None:
    """Looking for what fits would take steps that the other ranks do not take."""
    state, how = prepared(plan(tmp_path))
    how = replace(how, ranks=Ranks(World(rank=1, size=2)))
    state.module.register_forward_pre_hook(lambda *_: pytest.fail("a step was tried"))
    refused = memory.shortage(state, batch(0), how, "CUDA out of memory. Tried 2 GiB")
    assert refused.code == "V703" and "on rank 1" in refused.what
    assert "train.accumulate=2" in refused.hint


def test_memory_that_gives_out_on_the_way_to_the_device(tmp_path: Path) -> None:
    class Full(Loader):
        def iterate(self, start: int, stop: int) -> Iterator[TrainBatch]:
            yield next(iter(super().iterate(start, stop)))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    with pytest.raises(SystemFault, match="the batch of step 2") as caught:
        train(plan(tmp_path, loader=Full()), resume=None, listener=silent)
    assert caught.value.code == "V703"


def test_when_no_picture_fits_it_says_so(tmp_path: Path) -> None:
    sizes = []

    def greedy(module: nn.Module, args: tuple[torch.Tensor]) -> None:
        sizes.append(len(args[0]))
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    small = plan(tmp_path)
    small.module.register_forward_pre_hook(greedy)
    with pytest.raises(SystemFault, match="a step of 8 pictures") as caught:
        train(small, resume=None, listener=silent)
    assert "not even one picture fits" in caught.value.evidence
    assert sizes == [8, 4, 2, 1]


def test_another_error_of_torch_is_not_taken_for_short_memory(tmp_path: Path) -> None:
    def wrong(module: nn.Module, args: tuple[torch.Tensor]) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    small = plan(tmp_path)
    small.module.register_forward_pre_hook(wrong)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        train(small, resume=None, listener=silent)


# ---- A17 in the loop


def poison(*steps: int) -> Loader:
    def hook(batch: TrainBatch) -> TrainBatch:
        if batch.step + 1 in steps:
            batch.images[0, 0, 0, 0] = np.nan
        return batch

    return Loader(hook)


def test_A17_stop_leaves_the_checkpoint_before_and_names_the_pictures(tmp_path: Path) -> None:
    with pytest.raises(NumbersBroke) as caught:
        train(plan(tmp_path, loader=poison(5)), resume=None, listener=silent)
    last = read(tmp_path / JOURNAL)[-1]
    assert (caught.value.code, caught.value.exit_code) == ("V811", 6)
    assert "step 5 (epoch 2)" in caught.value.what
    assert (last["event"], last["step"], last["loss"]) == ("broke", 5, "nan")
    assert str(last["indices"])[1:-1] in " ".join(caught.value.evidence)
    assert saved(tmp_path).step == STEPS_PER_EPOCH


def test_A17_A08_skipped_steps_are_counted_and_survive_a_resume(tmp_path: Path) -> None:
    changes = {"train": configs.Train(seed=5, clip=1.0, on_nan="skip")}
    whole = train(plan(tmp_path / "whole", loader=poison(2, 5), **changes), resume=None, listener=silent)
    assert (whole.skipped, whole.steps) == (2, TOTAL)
    rows = story(tmp_path / "whole")
    assert [row["step"] for row in rows if row["event"] == "skipped"] == [2, 5]
    loader = poison(2, 5)

    def stop(batch: TrainBatch) -> TrainBatch:
        if batch.step + 1 == 2:
            terminate()
        return loader.hook(batch)

    with pytest.raises(Stopped):
        train(plan(tmp_path / "broken", loader=Loader(stop), **changes), resume=None, listener=silent)
    again = resumed(tmp_path / "broken", changes, loader=loader)
    assert fingerprint(again.state) == fingerprint(whole.state)
    assert story(tmp_path / "broken") == rows


def test_A17_the_schedule_waits_for_a_skipped_step(tmp_path: Path) -> None:
    """Its rate is that of the updates made, as where the learning rate is looked up by the optimizer's own count."""
    changes = {"train": configs.Train(on_nan="skip"), "loader": poison(2, 5)}
    wanted = plan(tmp_path, **changes)
    outcome = train(wanted, resume=None, listener=silent)
    rates = [row["lr"] for row in read(tmp_path / JOURNAL) if row["event"] in ("step", "skipped")]
    at = [learning_rate(wanted.schedule, updates, steps_per_epoch=STEPS_PER_EPOCH) for updates in (0, 1, 1, 2, 3, 3)]
    assert rates == at
    assert outcome.state.updates == TOTAL - 2


def test_an_overflow_is_told_and_no_reason_to_stop(tmp_path: Path) -> None:
    scale = configs.DynamicScale(initial=2.0**44, window=50)  # falls far more often in a row than numbers may break
    changes = {
        "train": configs.Train(loss_scale=scale),
        "schedule": configs.Constant(steps=30, lr=1e-3),
        "precision": "fp16",
        "evaluate": None,
        "checkpoint": configs.Checkpoint(every=0),
    }
    outcome = train(plan(tmp_path, **changes), resume=None, listener=silent)
    rows = [row for row in read(tmp_path / JOURNAL) if row["event"] in ("step", "overflow")]
    falls = [row["scale"] for row in rows if row["event"] == "overflow"]
    assert SKIPS_IN_ROW < len(falls) == outcome.skipped < 30
    assert falls == [2.0 ** (44 - number) for number in range(len(falls))]
    assert outcome.state.updates == 30 - len(falls) == [row["event"] for row in rows].count("step")


def test_A17_more_than_ten_skipped_in_a_row_stop(tmp_path: Path) -> None:
    changes = {
        "train": configs.Train(on_nan="skip"),
        "schedule": configs.Constant(steps=30, lr=1e-3),
        "loader": poison(*range(2, 12), *range(13, 30)),
    }
    with pytest.raises(NumbersBroke) as caught:
        train(plan(tmp_path, **changes), resume=None, listener=silent)
    assert "step 23" in caught.value.what
    assert "10 steps skipped in a row" in caught.value.what
    events = [row["event"] for row in read(tmp_path / JOURNAL)]
    assert (events.count("skipped"), events.count("broke")) == (20, 1)


def test_A11_many_random_stops_end_in_the_same_weights(
    tmp_path: Path, unbroken: Callable[[str], tuple[str, list[dict[str, object]]]]
) -> None:
    """Kills (an exception that nothing handles) and signals at random steps, always resumed from the newest."""
    dice = random.Random(0)

    def die() -> None:
        raise KeyboardInterrupt

    for _ in range(5):
        act = dice.choice([die, terminate])
        loader = at_step(dice.randrange(1, TOTAL + 1), act)
        with contextlib.suppress(KeyboardInterrupt, Stopped):
            if generations(tmp_path / CHECKPOINTS):
                resumed(tmp_path, {}, loader=loader)
            else:
                train(plan(tmp_path, loader=loader), resume=None, listener=silent)
    outcome = resumed(tmp_path, {})
    assert (fingerprint(outcome.state), story(tmp_path)) == unbroken("adamw fp32 averaged")


def test_the_log_is_for_people(tmp_path: Path) -> None:
    train(plan(tmp_path), resume=None, listener=silent)
    lines = (tmp_path / LOG).read_text().splitlines()
    assert [line.split()[2] for line in lines] == ["start", *["evaluation", "checkpoint"] * EPOCHS, "end"]


def test_the_learning_rate_of_each_step_is_the_schedule_s(tmp_path: Path) -> None:
    config = configs.Cosine(epochs=EPOCHS, lr=0.5, warmup_epochs=1, warmup_lr=0.2, min_lr=0.1)
    train(plan(tmp_path, schedule=config, optimizer=ADAMW), resume=None, listener=silent)
    rates = [row["lr"] for row in read(tmp_path / JOURNAL) if row["event"] == "step"]
    assert rates == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.4, 0.2])


def with_bad(*steps: int) -> Loader:
    """A loader whose batches of these steps lack a picture, another one each time."""

    def hook(batch: TrainBatch) -> TrainBatch:
        if batch.step not in steps:
            return batch
        error = PictureError("V302", f"`{batch.step}.jpg` is truncated", hint="replace it")
        bad = BadPicture(batch.step, f"{batch.step}.jpg", error)
        return replace(batch, indices=batch.indices[1:], images=batch.images[1:], labels=batch.labels[1:], bad=(bad,))

    return Loader(hook)


def test_B01_bad_pictures_are_told_once_each_and_survive_a_resume(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    train(plan(tmp_path / "whole", loader=with_bad(1, 3, 4), bad_allowed=3), resume=None, listener=silent)
    bad = [row for row in story(tmp_path / "whole") if row["event"] == "bad"]
    assert [(row["step"], row["name"], row["why"]) for row in bad] == [
        (step, f"{step}.jpg", f"`{step}.jpg` is truncated") for step in (1, 3, 4)
    ]
    (tmp_path / "cut").mkdir()
    with pytest.raises(DataError, match="2 pictures could not be read, 1 may be bad") as caught:
        train(plan(tmp_path / "cut", loader=with_bad(1, 3, 4), bad_allowed=1), resume=None, listener=silent)
    assert caught.value.evidence == ("`3.jpg` is truncated (V302)",)
    again = plan(tmp_path / "cut", loader=with_bad(1, 3, 4), bad_allowed=3)
    train(again, resume=saved(tmp_path / "cut"), listener=silent)
    assert story(tmp_path / "cut") == story(tmp_path / "whole")
