"""A state comes back from a checkpoint bit for bit, or is refused whole: promise A18."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.tiny import ADAMW, NETWORK, OPTIMIZERS, SGD, batch, fingerprint
from vitrail import opening
from vitrail.errors import NumbersBroke, RunError
from vitrail.formats.stored import Stored
from vitrail.models import build
from vitrail.pictures.policy import HALF, Policy
from vitrail.training import average
from vitrail.training.checkpoint import Snapshot, load, save
from vitrail.training.configs import EMA, CrossEntropy
from vitrail.training.optimizer_configs import Optimizer
from vitrail.training.optimizers import make
from vitrail.training.state import TrainState, final_module, restore, snapshot
from vitrail.training.step import How, take_step

HOW = How(device=torch.device("cpu"), precision="fp32", loss=CrossEntropy(), seed=0, average=EMA(decay=0.9))
PLAIN_SGD = replace(SGD, momentum=0.0, nesterov=False)


def state_of(config: Optimizer = ADAMW, *, seed: int = 1, steps: int = 0, ema: bool = True) -> TrainState:
    module = build(NETWORK, seed=seed).train()
    state = TrainState(module, make(config, module), average.start(module) if ema else None)
    for step in range(steps):
        take_step(state, batch(step), 1e-3, HOW)
    return state


@pytest.mark.parametrize("ema", [True, False])
@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("config", [*OPTIMIZERS.values(), PLAIN_SGD])
def test_A08_a_state_comes_back_from_files(config: Optimizer, steps: int, ema: bool, tmp_path: Path) -> None:
    state = state_of(config, steps=steps, ema=ema)
    state.metrics, state.best, state.best_step, state.elapsed_s = {"top1": 1 / 3}, 1 / 3, 2, 0.1
    state.skipped, state.skipped_in_row, state.settled = 3, 2, False
    path = save(tmp_path, snapshot(state, {"recipe": "abc"}), keep=1)
    other = state_of(config, seed=2, steps=1, ema=ema)
    saved = load(path)
    restore(other, saved)
    assert fingerprint(other) == fingerprint(state)
    assert (other.metrics, other.best, other.elapsed_s) == ({"top1": 1 / 3}, 1 / 3, 0.1)
    assert saved.state["identity"] == {"recipe": "abc"}
    take_step(state, batch(steps), 1e-3, HOW)
    take_step(other, batch(steps), 1e-3, HOW)
    assert fingerprint(other) == fingerprint(state)


def test_optimizer_tensors_are_named_by_parameter() -> None:
    files = snapshot(state_of(steps=1), {}).files
    names = [name for name, p in build(NETWORK).named_parameters() if p.requires_grad]
    assert set(files["optimizer"]) == {f"{name}|{word}" for name in names for word in ("exp_avg", "exp_avg_sq", "step")}
    assert files["optimizer"][f"{names[0]}|step"].array() == 1.0
    assert set(files["weights"]) == set(build(NETWORK).state_dict())


def test_A26_a_snapshot_does_not_follow_the_training() -> None:
    state = state_of(steps=1)
    before = snapshot(state, {})
    held = {(file, name): bytes(t.data) for file, tensors in before.files.items() for name, t in tensors.items()}
    take_step(state, batch(1), 1e-1, HOW)
    assert held == {(f, n): bytes(t.data) for f, tensors in before.files.items() for n, t in tensors.items()}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["weights", "ema", "optimizer"])
def test_A18_a_broken_state_is_never_saved(where: str, value: float) -> None:
    state = state_of(steps=1)
    parameter = state.module.get_parameter("classifier.fc.weight")
    assert state.ema is not None
    at = [p is parameter for p in average.trainable(state.module)].index(True)
    target = {"weights": parameter.data, "ema": state.ema[at], "optimizer": state.optimizer.state[parameter]["exp_avg"]}
    target[where][2, 5] = value
    with pytest.raises(NumbersBroke) as caught:
        snapshot(state, {})
    assert caught.value.code == "V811"
    named = "classifier.fc.weight|exp_avg" if where == "optimizer" else "classifier.fc.weight"
    assert caught.value.evidence == (f"{where}: `{named}` is {value} at (2, 5)",)


def changed(saved: Snapshot, file: str, name: str, tensor: Stored | None) -> Snapshot:
    tensors = {key: value for key, value in saved.files[file].items() if key != name}
    if tensor is not None:
        tensors[name] = tensor
    return replace(saved, files={**saved.files, file: tensors})


def broken_at_one(saved: Snapshot, file: str, name: str) -> Snapshot:
    array = saved.files[file][name].array().copy()
    array.reshape(-1)[-1] = np.nan
    return changed(saved, file, name, Stored.of(array))


HEAD = "classifier.fc.bias"
WRONG: dict[str, tuple[Callable[[Snapshot], Snapshot], str]] = {
    "missing weight": (lambda s: changed(s, "weights", HEAD, None), f"weights: `{HEAD}` is missing"),
    "missing average": (lambda s: changed(s, "ema", HEAD, None), f"ema: `{HEAD}` is missing"),
    "missing moment": (lambda s: changed(s, "optimizer", f"{HEAD}|exp_avg", None), "|exp_avg` is missing"),
    "missing count": (lambda s: changed(s, "optimizer", f"{HEAD}|step", None), "|step` is missing"),
    "other weight": (lambda s: changed(s, "weights", "x", Stored.of(np.zeros(1, "f4"))), "`x` is not of this run"),
    "other moment": (lambda s: changed(s, "optimizer", "x|y", Stored.of(np.zeros(1, "f4"))), "`x|y` is not of this"),
    "shape": (lambda s: changed(s, "weights", HEAD, Stored.of(np.zeros(6, "f4"))), "is F32 (6,), the run has F32 (5,)"),
    "type": (lambda s: changed(s, "weights", HEAD, Stored.of(np.zeros(5, "f8"))), "is F64 (5,), the run has F32 (5,)"),
    "moment's shape": (
        lambda s: changed(s, "optimizer", f"{HEAD}|exp_avg", Stored.of(np.zeros(4, "f4"))),
        "is F32 (4,), the run has F32 (5,)",
    ),
    "NaN in a weight": (lambda s: broken_at_one(s, "weights", HEAD), f"weights: `{HEAD}` is nan at (4,)"),
    "NaN in the average": (lambda s: broken_at_one(s, "ema", HEAD), f"ema: `{HEAD}` is nan at (4,)"),
    "NaN in a moment": (lambda s: broken_at_one(s, "optimizer", f"{HEAD}|exp_avg_sq"), "is nan at (4,)"),
    "no average": (
        lambda s: replace(s, files={k: v for k, v in s.files.items() if k != "ema"}),
        "it holds optimizer, weights; the run needs ema, optimizer, weights",
    ),
    "another step": (lambda s: replace(s, state={**s.state, "step": 9}), "`step` is 9, the checkpoint's is 2"),
    "a word for a count": (lambda s: replace(s, state={**s.state, "skipped": "2"}), "`skipped` is '2'"),
    "no count": (lambda s: replace(s, state={k: v for k, v in s.state.items() if k != "skipped"}), "`skipped` is None"),
}


@pytest.mark.parametrize("case", WRONG)
def test_A18_what_does_not_fit_is_refused_and_changes_nothing(case: str) -> None:
    change, line = WRONG[case]
    state = state_of(seed=2, steps=1)
    before = fingerprint(state)
    with pytest.raises(RunError) as caught:
        restore(state, change(snapshot(state_of(steps=2), {})))
    assert caught.value.code == "V604"
    assert any(line in found for found in caught.value.evidence), caught.value.evidence
    assert fingerprint(state) == before


def test_another_optimizer_is_refused() -> None:
    saved = snapshot(state_of(steps=1), {})
    with pytest.raises(RunError) as caught:
        restore(state_of(replace(ADAMW, weight_decay=0.1)), saved)
    assert caught.value.code == "V602"
    with pytest.raises(RunError, match="does not fit"):
        restore(state_of(SGD), saved)


def test_the_state_is_plain_json() -> None:
    plain = snapshot(state_of(steps=1), {"recipe": "abc"}).state
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_the_final_module_is_a_copy_with_the_averaged_weights() -> None:
    state = state_of(steps=3)
    assert state.ema is not None
    module = final_module(state)
    assert not module.training
    for ships, mean, live in zip(average.trainable(module), state.ema, average.trainable(state.module), strict=True):
        assert torch.equal(ships, mean)
        assert ships.data_ptr() not in (mean.data_ptr(), live.data_ptr())
        assert not torch.equal(mean, live)


@pytest.mark.parametrize("file", ["weights", "ema"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_A18_a_checkpoint_whose_hashes_hold_but_not_its_numbers_is_not_opened(
    file: str, value: float, tmp_path: Path
) -> None:
    """As a network to ship, to look at or to start from: what another program sealed is held against the same rule."""
    identity = {
        "recipe": "r",
        "data": "d",
        "holdout": 0.2,
        "seed": 1,
        "model": {
            "variant": "cct_2_3x2_32",
            "family": "cct",
            "config": asdict(NETWORK),
            "policy": Policy(size=(8, 8), mean=HALF.mean, std=HALF.std).to_json(),
            "classes": list("abcde"),
        },
    }
    good = snapshot(state_of(steps=1), identity)
    assert opening.classifier(save(tmp_path / "good", good, keep=1)).classes == tuple("abcde")
    array = good.files[file][HEAD].array().copy()
    array[1] = value
    bad = changed(good, file, HEAD, Stored.of(array))
    if file == "weights":
        bad = replace(bad, files={name: tensors for name, tensors in bad.files.items() if name != "ema"})
    with pytest.raises(RunError) as caught:
        opening.classifier(save(tmp_path / "bad", bad, keep=1))
    assert caught.value.code == "V604"
    assert f"`{HEAD}`" in str(caught.value) and "(1,)" in str(caught.value)
