"""`plan`: what it says is what a run then does and holds, and it leaves nothing behind."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.training.tiny import NETWORK
from tests.training.tiny import plan as tiny_plan
from tests.verbs.small import MODELS, RECIPE, small
from vitrail.cli.main import run
from vitrail.cli.plan import _rate
from vitrail.data.sources import open_source
from vitrail.errors import NumbersBroke, SystemFault, UsageError
from vitrail.pictures import kernels
from vitrail.recipe import Recipe
from vitrail.training import rehearsal
from vitrail.training.configs import Constant, Train
from vitrail.training.due import Unit, due, times
from vitrail.training.lr_range import Tried, lr_range, suggestion
from vitrail.training.memory import fits_in_a_step, most_fitting
from vitrail.training.rehearsal import Weighed, rehearse
from vitrail.verbs import plan as verb
from vitrail.verbs.plan import plan
from vitrail.verbs.train import train


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """No seconds of reading."""
    monkeypatch.setattr(verb, "READ_S", 0.02)


def test_what_it_says_is_what_a_run_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = small("schedule.epochs=2", "checkpoint.keep=1")
    said = plan(recipe)
    assert list(tmp_path.iterdir()) == []
    rows: list[dict[str, object]] = []
    done = train(recipe, out=tmp_path / "run", listener=lambda row: rows.append(dict(row)))
    start = next(row for row in rows if row["event"] == "start")
    assert (said.steps, said.steps_per_epoch, said.epochs) == (start["steps"], start["steps_per_epoch"], 2)
    assert sum(row["event"] == "evaluation" for row in rows) == verb._evaluations(said.recipe, said.steps or 0, 22)
    newest = max((done.folder / "checkpoints").glob("step-????????"))
    on_disk = sum(path.stat().st_size for path in newest.glob("*.safetensors"))
    assert 0.8 * on_disk < said.checkpoint_bytes <= on_disk
    assert said.checkpoints >= len(list((done.folder / "checkpoints").glob("step-????????")))
    assert said.eta_s is not None
    assert said.data_s is not None
    assert said.eta_s > said.steps * said.step_s  # type: ignore[operator]
    assert (said.device, said.recipe.precision, said.parameters) == ("cpu", "fp32", said.trained)


@given(
    st.integers(1, 60), st.integers(0, 9), st.sampled_from(["epochs", "steps"]), st.integers(1, 7), st.integers(0, 9)
)
def test_how_often_is_as_often_as_it_is_due(steps: int, every: int, unit: Unit, length: int, first: int) -> None:
    found = sum(step == steps or due(step, every, unit, length, first=first) for step in range(1, steps + 1))
    if every or not first:
        assert times(steps, every, unit, length, first=first) == found


def test_evaluations_and_checkpoints_every_so_many_steps() -> None:
    said = plan(small("schedule.epochs=2", "evaluation={every: 5, unit: steps, from: 10}", "checkpoint.unit=steps"))
    assert said.steps == 44
    assert verb._evaluations(said.recipe, 44, 22) == 8
    assert said.checkpoints == 4
    assert plan(small("schedule.epochs=2", "checkpoint={every: 40, unit: steps}")).checkpoints == 2


def test_a_teacher_takes_memory_and_adapters_alone_are_trained(tmp_path: Path) -> None:
    done = train(small("schedule.steps=1", "schedule.warmup_epochs=0", family="vit"), out=tmp_path / "run")
    taught = plan(small(f"loss.teacher={{name: hard, path: {done.bundle}}}", family="vit"))
    alone = plan(small(family="vit"))
    assert taught.bytes.teacher == alone.bytes.weights and alone.bytes.teacher == 0
    assert taught.bytes.total - taught.bytes.activations - taught.bytes.teacher == (
        alone.bytes.total - alone.bytes.activations
    )
    adapted = plan(small(f"weights.path={done.bundle}", "adapter={rank: 2}", family="vit"))
    head = 16 * 10 + 10
    assert adapted.trained == 2 * 2 * ((16 + 48) + (16 + 16)) + head
    assert adapted.parameters == alone.parameters + adapted.trained - head
    assert adapted.bytes.gradients == 4 * adapted.trained and adapted.bytes.optimizer == 8 * adapted.trained


def test_frozen_parameters_need_no_gradients() -> None:
    whole, frozen = plan(small()), plan(small("train.freeze=['*', '!classifier.fc.*']"))
    assert frozen.trained == 16 * 10 + 10 < whole.trained == whole.parameters
    assert frozen.bytes.gradients == 4 * frozen.trained
    assert frozen.bytes.optimizer == 8 * frozen.trained
    assert frozen.bytes.average == 4 * frozen.trained
    assert frozen.bytes.weights == whole.bytes.weights
    assert frozen.bytes.activations < whole.bytes.activations


def test_memory_is_that_of_the_parts_of_a_batch() -> None:
    whole, parts = (plan(small(f"train.accumulate={count}", "data.batch=256", "mix=null")) for count in (1, 4))
    assert whole.bytes.weights == parts.bytes.weights
    assert parts.bytes.activations < 0.6 * whole.bytes.activations  # the pictures themselves stay whole


@pytest.mark.parametrize(
    ("where", "words"), [(["data.root=gone", "data.source=auto"], "nothing lies at data.root `gone`")]
)
def test_without_pictures(where: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = plan(small(*where))
    assert (said.steps, said.steps_per_epoch, said.data_s, said.eta_s) == (None, None, None, None)
    assert words in said.notes[0]
    assert plan(small(*where, "schedule.steps=7")).steps == 7
    with pytest.raises(UsageError, match="found on real pictures") as caught:
        plan(small(*where), lr_range=True)
    assert caught.value.code == "V004"
    tiny = ["model.variant=cct_2_3x2_32", "model.dim=16", "precision=fp32", "train.attention=fused", "data.batch=4"]
    assert run(["plan", "folder/scratch", *tiny]) == 0
    printed = capsys.readouterr()
    assert "the recipe names no data.root" in printed.err
    assert "unknown steps" in printed.out


def test_large_networks_are_measured_on_few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = settled(small("data.batch=64"))
    ours = verb.plan(recipe)
    monkeypatch.setattr(rehearsal, "WORK", 16 * rehearsal.macs(recipe.config))
    few = verb.plan(recipe)
    assert (ours.measured, few.measured) == (64, 16)
    assert "measured with up to 16 pictures at once, and drawn out to 64 by a line" in few.notes
    assert few.bytes.activations == pytest.approx(ours.bytes.activations, rel=0.1)


def settled(recipe: Recipe) -> Recipe:
    return replace(recipe, mix=None)


def test_bytes_are_counted_as_they_come_and_go() -> None:
    x = torch.zeros(1 << 20)
    with Weighed() as weighed:
        y = x + 1  # 4 MiB
        z = y.view(2, -1) * 2  # 4 more
        del y
        z += 1
        w = z.sum()
        x.mul_(2)
    assert weighed.peak == 8 << 20
    assert weighed._now == (4 << 20) + 4
    del z, w
    assert weighed._now == 0


def test_memory_that_gives_out_names_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = rehearsal.take_step

    def short(state, batch, lr, how):  # type: ignore[no-untyped-def]
        if len(batch.labels) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(state, batch, lr, how)

    monkeypatch.setattr(rehearsal, "take_step", short)
    with pytest.raises(SystemFault, match="a step of 32 pictures") as caught:
        rehearse(tiny_plan(tmp_path), NETWORK, 32)
    assert caught.value.code == "V703"


@given(st.integers(1, 1 << 16), st.integers(0, 1 << 17))
def test_the_most_that_fits_is_found_to_an_eighth(limit: int, bound: int) -> None:
    asked: list[int] = []
    found = most_fitting(limit, lambda size: asked.append(size) is None and size <= bound)
    best = min(limit, bound)
    assert found <= best
    assert best - found <= max(0, best // 8)
    assert len(asked) <= 21
    assert max(asked) <= limit


def test_whether_a_batch_fits_changes_nothing(tmp_path: Path) -> None:
    state, how = rehearsal.prepared(tiny_plan(tmp_path))
    before = [p.clone() for p in state.module.parameters()]
    assert fits_in_a_step(state, rehearsal.generated(NETWORK, 4, 0), how)
    assert all(torch.equal(p, was) and p.grad is None for p, was in zip(state.module.parameters(), before, strict=True))


def test_the_largest_batch_is_bound_by_memory_and_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small()
    said = plan(recipe, largest_batch=True)
    assert said.largest_batch == (said.steps_per_epoch or 0) * recipe.data.batch
    monkeypatch.setattr(verb, "free_memory", lambda _: said.bytes.total)
    less = plan(recipe, largest_batch=True)
    assert 0.7 * recipe.data.batch < (less.largest_batch or 0) <= recipe.data.batch
    monkeypatch.setattr(verb, "free_memory", lambda _: 1 << 20)
    assert any("memory does not suffice: train.accumulate=" in line for line in plan(recipe).advice)


def test_a_precision_is_advised_only_where_none_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "has_fast_bf16", lambda _: True)
    monkeypatch.setattr(verb, "reading_time", lambda *_: 0.0)
    assert "precision=auto would try bf16 too" in plan(small("precision=fp32")).advice
    probed = verb.probed
    monkeypatch.setattr(verb, "probed", lambda *given: replace(probed(*given), precision="fp32"))
    measured = plan(small("precision=auto", "train.attention=fused"))
    assert measured.recipe.precision == "fp32"
    assert not any("bf16" in line for line in measured.advice)


def test_a_rate_is_suggested_below_where_the_loss_bursts(tmp_path: Path) -> None:
    schedule = Constant(steps=9, lr=0.1)
    found = lr_range(tiny_plan(tmp_path, schedule=schedule, average=None, train=Train(seed=5)), 60)
    rates = [one.lr for one in found.tried]
    assert rates[0] == pytest.approx(1e-4)
    assert all(b / a == pytest.approx(1e5 ** (1 / 59)) for a, b in pairwise(rates))
    if found.suggested is not None:
        least = min(found.tried, key=lambda one: one.smoothed)
        assert found.suggested == least.lr / 10
    assert list(tmp_path.iterdir()) == []


def test_the_suggestion() -> None:
    falls = [Tried(10.0**k, loss, loss) for k, loss in enumerate((2.0, 1.9, 1.2, 3.0), start=-4)]
    assert suggestion(falls) == pytest.approx(1e-3)
    assert suggestion([Tried(1e-4, 1.0, 1.0), Tried(1e-3, 2.0, 2.0)]) is None


def test_a_first_loss_that_is_no_number(tmp_path: Path) -> None:
    made = tiny_plan(tmp_path)
    with torch.no_grad():
        next(made.module.parameters()).fill_(float("nan"))
    with pytest.raises(NumbersBroke) as caught:
        lr_range(made, 5)
    assert caught.value.code == "V811"


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verb, "RANGE_STEPS", 6)
    (tmp_path / "small.yaml").write_text(RECIPE.replace("MODEL", MODELS["cct"]))
    words = ["plan", "small.yaml"]
    assert run([*words, "--lr-range", "--largest-batch", "--out", "rates.png"]) == 0
    printed = capsys.readouterr().out
    assert "length       88 steps: 4 epochs of 22" in printed
    assert "largest batch: data.batch=1408" in printed
    assert "drawn in rates.png" in printed
    assert (tmp_path / "rates.png").read_bytes()[:4] == b"\x89PNG"
    assert run([*words, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["memory"]["total"] == sum(v for k, v in values["memory"].items() if k != "total")
    assert values["lr_range"] is None
    assert run([*words, "--out", "x.png"]) == 2
    assert run([*words, "--device", "cuda:5"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rates.png", "small.yaml"]


@pytest.mark.parametrize("out", ["absent/rates.png", "rates.txt", "folder.png"])
def test_a_picture_that_cannot_be_written_is_refused_before_anything_is_measured(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verb, "plan", None)
    (tmp_path / "folder.png").mkdir()
    assert run(["plan", "digits/cct_2_3x2_32", "--lr-range", "--out", out]) == 2
    assert f"`{out}`" in capsys.readouterr().err


@pytest.mark.parametrize(("count", "said"), [(0.0496, "0.05"), (9.87, "9.9"), (1234.4, "1,234")])
def test_a_slow_rate_is_not_said_to_be_none(count: float, said: str) -> None:
    assert _rate(count) == said


@pytest.mark.parametrize(("auto", "wanted"), [("rand-m9-mstd0.5-inc1", True), (None, False)])
def test_reading_is_timed_with_the_loops_that_the_run_compiles(
    auto: str | None, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(kernels, "ready", lambda *, augment=False: asked.append(augment))
    plan(small("schedule.epochs=9999", *([] if auto is None else [f"augment.auto={auto}"])))
    assert asked[0] is wanted


def test_reading_is_timed_on_the_runs_own_batches() -> None:
    recipe = small("data.workers=0")
    source = open_source(recipe.data, seed=0)
    assert 0 < verb.reading_time(tiny_loader(recipe, source), 3) < 60


def tiny_loader(recipe: Recipe, source: object) -> object:
    from vitrail.data.loader import TrainLoader

    return TrainLoader(source, recipe.policy, recipe.augment, recipe.data, 0)  # type: ignore[arg-type]
