"""What is watched changes nothing, and a broken step is repeated to the bit: promises A17 and A16."""

from __future__ import annotations

import json as python_json
import os
import signal
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import arrays
from hypothesis.strategies import floats, integers, tuples
from torch import Tensor, nn

from tests.training.tiny import NETWORK, TOTAL, Loader, fingerprint, plan, saved, silent, story
from vitrail.data.batches import TrainBatch
from vitrail.errors import NumbersBroke, RecipeError, RunError, Stopped, SystemFault
from vitrail.formats import json, safetensors
from vitrail.formats.stored import Stored
from vitrail.models import build
from vitrail.training import capture, configs
from vitrail.training.journal import JOURNAL, read
from vitrail.training.loop import train
from vitrail.training.loss_scale import Scale
from vitrail.training.plan import Plan, how_of
from vitrail.training.replay import Finding, Replay, replay
from vitrail.training.watch_configs import Dump, Profile, Watch


def poisoned(step: int, value: float = np.nan, rows: tuple[int, ...] = (2,)) -> Loader:
    """A loader in whose batch of that step, counted from 1, one number of some pictures is `value`."""

    def hook(batch: TrainBatch) -> TrainBatch:
        if batch.step + 1 == step:
            batch.images[list(rows), 0, 0, 0] = value
        return batch

    return Loader(hook)


def kept(folder: Path) -> capture.Capture:
    (path,) = sorted((folder / capture.FOLDER).iterdir())
    return capture.read(path)


def broke(wanted: Plan) -> capture.Capture:
    """Train until the numbers break."""
    with pytest.raises(NumbersBroke):
        train(wanted, resume=None, listener=silent)
    return kept(wanted.folder)


def again(wanted: Plan, found: capture.Capture, act: Callable[[nn.Module], object] = lambda _: None) -> Replay:
    """The kept step in a fresh network; act: what is done to it first."""
    fresh = build(NETWORK, seed=99).train()
    act(fresh)
    fresh.load_state_dict({name: torch.tensor(kept.array()) for name, kept in found.weights.items()})
    return replay(fresh, found, how_of(wanted))


def finding(done: Replay) -> Finding:
    assert done.finding is not None
    return done.finding


PRECISIONS: dict[str, Mapping[str, Any]] = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16", "train": configs.Train(seed=5, loss_scale=configs.FixedScale(value=64.0))},
    "in parts": {"train": configs.Train(seed=5, accumulate=3, clip=1.0)},
    "unmixed": {"mix": None, "average": None},
}


@pytest.mark.parametrize("case", PRECISIONS)
def test_A17_a_broken_picture_is_kept_and_named(case: str, tmp_path: Path) -> None:
    wanted = plan(tmp_path, loader=poisoned(5), **PRECISIONS[case])
    found = broke(wanted)
    assert (found.facts.step, found.facts.seed, found.facts.rank) == (4, 5, 0)
    done = again(wanted, found)
    assert done.same
    assert (finding(done).phase, finding(done).pictures) == ("pictures", (int(found.batch.indices[2]),))


class Spike(nn.Module):
    """Passes through, but makes one number of some rows infinite."""

    def __init__(self, inner: nn.Module, rows: tuple[int, ...]) -> None:
        super().__init__()
        self.inner, self.rows = inner, rows

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        out = out.clone()
        out[list(self.rows), 0] = torch.inf
        return out


@pytest.mark.parametrize("case", ["fp32", "bf16", "in parts", "unmixed"])
@pytest.mark.parametrize("name", ["classifier.blocks.1.linear1", "tokenizer.conv_layers.0.0", "classifier.fc"])
def test_A17_the_first_layer_that_breaks_is_named_with_its_input(name: str, case: str, tmp_path: Path) -> None:
    wanted = plan(tmp_path, **PRECISIONS[case])
    weight = wanted.module.get_parameter(f"{name}.weight").data
    weight.copy_(3e38 * weight.sign())
    done = again(wanted, broke(wanted))
    where = finding(done)
    assert done.same
    assert (where.phase, where.name) == ("forward", name)
    assert "from finite input" in where.what
    assert where.inputs["input"]["inf"] == where.inputs["input"]["nan"] == 0
    assert where.inputs["weight"]["max"] > 1e37  # type: ignore[operator]
    assert where.pictures


@pytest.mark.parametrize("rows", [(0,), (3, 7)])
def test_A17_the_pictures_are_those_of_the_rows(rows: tuple[int, ...], tmp_path: Path) -> None:
    def act(module: nn.Module) -> None:
        module.classifier.norm = Spike(module.classifier.norm, rows)  # type: ignore[union-attr, assignment]

    wanted = plan(tmp_path, mix=None)
    act(wanted.module)
    found = broke(wanted)
    where = finding(again(wanted, found, act))
    assert where.name == "classifier.norm"
    assert where.pictures == tuple(int(found.batch.indices[row]) for row in rows)
    mixed = finding(again(plan(tmp_path), found, act))
    partners = sorted({*rows, *(7 - row for row in rows)})
    assert mixed.pictures == tuple(int(found.batch.indices[row]) for row in partners)


class Wild(torch.autograd.Function):
    """The identity, whose gradient breaks in one row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        gradient = gradient.clone()
        gradient[1, 0] = torch.nan
        return gradient


class Wilder(Spike):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = Wild.apply(self.inner(x))  # type: ignore[no-untyped-call]
        return out


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_A17_a_break_in_the_backward_is_found_behind_finite_logits(precision: str, tmp_path: Path) -> None:
    def act(module: nn.Module) -> None:
        module.classifier.norm = Wilder(module.classifier.norm, ())  # type: ignore[union-attr, assignment]

    wanted = plan(tmp_path, mix=None, precision=precision)
    act(wanted.module)
    found = broke(wanted)
    done = again(wanted, found, act)
    where = finding(done)
    assert (done.same, where.phase, where.name) == (True, "backward", "classifier.norm.inner")
    assert where.pictures == (int(found.batch.indices[1]),)
    assert where.holds["nan"] == 16
    (before,) = where.inputs.values()
    assert before["nan"] == before["inf"] == 0


def test_A17_a_step_that_broke_nothing_replays_to_nothing(tmp_path: Path) -> None:
    """What was broken by hand alone, in the loss, is told to be mended; and that the bits are others."""
    wanted = plan(tmp_path, loader=poisoned(2))
    found = broke(wanted)
    images = found.batch.images.copy()
    images[~np.isfinite(images)] = 0.0
    mended = replace(found, batch=replace(found.batch, images=images))
    done = again(wanted, mended)
    assert (done.same, done.finding, done.done.skipped) == (False, None, False)


def test_A17_a_loss_that_breaks_on_finite_logits(tmp_path: Path) -> None:
    wanted = plan(tmp_path, class_weights=(float("inf"), 1.0, 1.0, 1.0, 1.0), mix=None)
    found = broke(wanted)
    assert found.class_weights == (float("inf"), 1.0, 1.0, 1.0, 1.0)
    assert finding(again(wanted, found)).phase == "loss"


@pytest.mark.parametrize("value", [1e25, 1e38])
def test_A17_a_gradient_beyond_float32_squares_is_told(value: float, tmp_path: Path) -> None:
    """Its elements are finite, and still AdamW's second moment would become Inf and stay so."""

    def act(module: nn.Module) -> None:
        module.get_parameter(FC).register_hook(_with_last(value))  # type: ignore[no-untyped-call]

    wanted = plan(tmp_path)
    act(wanted.module)
    done = again(wanted, broke(wanted), act)
    assert (done.same, finding(done).phase, finding(done).name) == (True, "backward", FC)
    assert finding(done).holds["greatest"] == repr(float(np.float32(value)))


FC = "classifier.fc.weight"


def _with_last(value: float) -> Callable[[Tensor], Tensor]:
    def change(gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[(-1,) * gradient.ndim] = value
        return gradient

    return change


@pytest.mark.prove
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("name", [name for name, p in build(NETWORK).named_parameters() if p.requires_grad])
def test_A17_a_broken_gradient_of_every_parameter_is_kept_and_replayed(
    name: str, value: float, precision: str, tmp_path: Path
) -> None:
    def act(module: nn.Module) -> None:
        module.get_parameter(name).register_hook(_with_last(value))  # type: ignore[no-untyped-call]

    wanted = plan(tmp_path, precision=precision)
    act(wanted.module)
    before = fingerprint_of(wanted.module)
    done = again(wanted, broke(wanted), act)
    assert fingerprint_of(wanted.module) == before
    assert (done.same, finding(done).phase, finding(done).name) == (True, "backward", name)


def fingerprint_of(module: nn.Module) -> list[bytes]:
    return [value.numpy().tobytes() for value in module.state_dict().values()]


# ---- what is kept


def test_A17_only_as_many_steps_are_kept_as_were_asked_for(tmp_path: Path) -> None:
    def hook(batch: TrainBatch) -> TrainBatch:
        if batch.step in (0, 2, 4):
            batch.images[0, 0, 0, 0] = np.inf
        return batch

    for count in (0, 1, 2):
        folder = tmp_path / str(count)
        skipping = configs.Train(seed=5, on_nan="skip")
        train(
            plan(folder, train=skipping, loader=Loader(hook), watch=Watch(captures=count)), resume=None, listener=silent
        )
        names = [path.name for path in capture.kept(folder, 0)]
        assert names == [f"step-{step:08d}-rank-0.safetensors" for step in (1, 3, 5)][:count]
        told = [row["file"] for row in read(folder / JOURNAL) if row["event"] == "capture"]
        assert told == [f"captures/{name}" for name in names]


def test_A17_the_error_names_the_capture(tmp_path: Path) -> None:
    with pytest.raises(NumbersBroke) as caught:
        train(plan(tmp_path, loader=poisoned(1)), resume=None, listener=silent)
    (path,) = capture.kept(tmp_path, 0)
    assert f"`vitrail replay {path}` says where it broke first" in caught.value.evidence


def test_A17_a_full_disk_does_not_hide_the_break(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Path:
        raise SystemFault("V701", "no room", hint="free some")

    monkeypatch.setattr(capture, "write", full)
    with pytest.raises(NumbersBroke):
        train(plan(tmp_path, loader=poisoned(1)), resume=None, listener=silent)
    assert [row["text"] for row in read(tmp_path / JOURNAL) if row["event"] == "warning"] == [
        "the broken step was not kept: no room"
    ]


def test_A17_overflows_are_counted_and_kept_on_demand(tmp_path: Path) -> None:
    scale = configs.DynamicScale(initial=2.0**40, window=50)
    changes = {
        "train": configs.Train(seed=5, loss_scale=scale),
        "precision": "fp16",
        "schedule": configs.Constant(steps=40, lr=1e-3),
        "evaluate": None,
        "checkpoint": configs.Checkpoint(every=0),
    }
    wanted = plan(tmp_path / "kept", watch=Watch(overflows=True), **changes)
    outcome = train(wanted, resume=None, listener=silent)
    rows = read(tmp_path / "kept" / JOURNAL)
    count = [row["event"] for row in rows].count("overflow")
    assert rows[-1]["overflows"] == count == outcome.skipped > 5
    assert rows[-1]["broken"] == 0
    done = again(wanted, kept(tmp_path / "kept"))
    assert done.same and done.done.overflow
    assert finding(done).phase == "backward"
    train(plan(tmp_path / "not", **changes), resume=None, listener=silent)
    assert not (tmp_path / "not" / capture.FOLDER).exists()


def test_A17_an_overflow_at_the_edge_is_repeated_for_one_of_two_ranks(tmp_path: Path) -> None:
    """Half the pictures of a step count half, and their gradient is multiplied by two before the mean."""
    train_config = configs.Train(seed=5, loss_scale=configs.DynamicScale(initial=2.0**40, window=50))
    quiet = {
        "evaluate": None,
        "checkpoint": configs.Checkpoint(every=0),
        "schedule": configs.Constant(steps=40, lr=1e-3),
    }
    watched = Watch(overflows=True, captures=100)
    wanted = plan(tmp_path, watch=watched, train=train_config, precision="fp16", **quiet)
    train(wanted, resume=None, listener=silent)
    steps = [capture.read(path) for path in capture.kept(tmp_path, 0)]
    edge = min(steps, key=lambda one: one.facts.scale.value if one.facts.scale else 0.0)
    whole = 2 * len(edge.batch.labels)
    facts, batch = replace(edge.facts, ranks=2, whole=whole), replace(edge.batch, whole=whole)
    done = again(wanted, replace(edge, facts=facts, batch=batch))
    assert done.same is None and done.done.overflow and finding(done).phase == "backward"


# ---- damaged and foreign captures


@given(
    values=arrays(np.float32, (2, 3, 2, 2), elements=floats(width=32)),
    numbers=tuples(*[floats(allow_nan=False)] * 3),
    step=integers(0, 10**11),
)
def test_A17_a_capture_comes_back_exactly(values: Any, numbers: tuple[float, float, float], step: int) -> None:
    batch = TrainBatch(step, 7, np.array([5, 2**40]), values, np.array([0, 4]))
    facts = capture.Facts(step, 7, 2**60, 3, 4, 8, *numbers, Scale(8.0, 2), "a: 1\n", ("ä", "b"), {"torch": "2"})
    made = capture.Capture(facts, {"w": Stored.of(values)}, batch, (0.1, 1e-300))
    with tempfile.TemporaryDirectory() as folder:
        back = capture.read(capture.write(Path(folder), made))
    assert back.facts == facts
    assert back.batch.images.tobytes() == values.tobytes()
    assert bytes(back.weights["w"].data) == values.tobytes()
    assert back.batch.indices.tolist() == [5, 2**40]
    assert back.class_weights == (0.1, 1e-300)


@pytest.fixture(scope="module")
def a_capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    broke(plan(folder, loader=poisoned(1)))
    return capture.kept(folder, 0)[0]


def test_a_file_of_another_kind_is_named_once_with_the_way_to_a_capture(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("<!doctype html><title>A run</title>")
    with pytest.raises(RunError) as caught:
        capture.read(path)
    assert caught.value.what.count(str(path)) == 1 and "captures/" in caught.value.hint


@pytest.mark.parametrize("part", [i / 40 for i in range(40)])
def test_A18_a_changed_byte_of_a_capture_is_refused(part: float, a_capture: Path, tmp_path: Path) -> None:
    data = bytearray(a_capture.read_bytes())
    data[int(part * len(data))] ^= 1
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(RunError) as caught:
        capture.read(tmp_path / "x.safetensors")
    assert caught.value.code in ("V604", "V605", "V607")


@pytest.mark.prove
@pytest.mark.parametrize("seed", range(100))
def test_A18_a_hundred_changes_of_a_capture_are_refused(seed: int, a_capture: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    data = bytearray(a_capture.read_bytes())
    for place in random.integers(0, len(data), 1 + seed % 5):
        data[place] ^= int(random.integers(1, 256))
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(RunError):
        capture.read(tmp_path / "x.safetensors")


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_A18_a_cut_capture_is_refused(length: int, a_capture: Path, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(a_capture.read_bytes()[:length])
    with pytest.raises(RunError) as caught:
        capture.read(tmp_path / "x.safetensors")
    assert caught.value.code == "V604"


def resealed(path: Path, to: Path, change: Callable[[dict[str, Any], dict[str, Any]], object], **more: str) -> Path:
    """A copy whose state and tensors are changed, and its digest made to hold again."""
    tensors, metadata = safetensors.read(path)
    state = json.loads(metadata["state"].encode())
    change(state, tensors)  # type: ignore[arg-type]
    text = json.dumps(state).decode()
    metadata = {**metadata, "state": text, "digest": capture._digest(text, tensors), **more}
    safetensors.write(to, tensors, metadata)
    return to


CHANGES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], object], str]] = {
    "no step": (lambda s, t: s.pop("step"), "V604"),
    "a word for a step": (lambda s, t: s.update(step="4"), "V604"),
    "a negative step": (lambda s, t: s.update(step=-1), "V604"),
    "a scale below 1": (lambda s, t: s.update(scale={"value": 0.5, "since": 1}), "V604"),
    "a scale of a word": (lambda s, t: s.update(scale="1"), "V604"),
    "no loss": (lambda s, t: s.update(loss="none"), "V604"),
    "no recipe": (lambda s, t: s.update(recipe=None), "V604"),
    "no pictures": (lambda s, t: t.pop("batch/images"), "V604"),
    "labels of floats": (lambda s, t: t.update({"batch/labels": t["batch/images"]}), "V604"),
    "too few labels": (lambda s, t: t.update({"batch/labels": Stored.of(np.zeros(3, np.int64))}), "V604"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_A18_a_capture_that_makes_no_sense_is_refused(case: str, a_capture: Path, tmp_path: Path) -> None:
    change, code = CHANGES[case]
    with pytest.raises(RunError) as caught:
        capture.read(resealed(a_capture, tmp_path / "x.safetensors", change))
    assert caught.value.code == code


@pytest.mark.parametrize(("key", "value", "code"), [("format", "x", "V607"), ("version", "2.0", "V605")])
def test_A18_another_format_is_refused(key: str, value: str, code: str, a_capture: Path, tmp_path: Path) -> None:
    path = resealed(a_capture, tmp_path / "x.safetensors", lambda s, t: None, **{key: value})
    with pytest.raises(RunError) as caught:
        capture.read(path)
    assert caught.value.code == code


# ---- looking on changes nothing


WATCHES = {
    "activations looked at": Watch(activations=True),
    "activations": Watch(dump=Dump(every=2)),
    "some activations": Watch(dump=Dump(every=1, layers=("classifier.blocks.*", "!*.dropout*"))),
    "gradients": Watch(dump=Dump(every=2, what="gradients")),
    "weights": Watch(dump=Dump(every=3, what="weights", layers=("*.weight",))),
    "profiled": Watch(profile=Profile(first=2, steps=2)),
    "all at once": Watch(activations=True, dump=Dump(every=1), profile=Profile(first=1, steps=3)),
}
HARDER = [("all at once", "bf16"), ("all at once", "in parts"), ("gradients", "in parts"), ("gradients", "fp16")]
BESIDE = ("dump", "capture", "profile")


@pytest.mark.parametrize(("case", "how"), [*((case, "fp32") for case in WATCHES), *HARDER])
def test_A17_watching_changes_no_bit(case: str, how: str, tmp_path: Path) -> None:
    plain = train(plan(tmp_path / "plain", **PRECISIONS[how]), resume=None, listener=silent)
    watched = train(plan(tmp_path / "watched", watch=WATCHES[case], **PRECISIONS[how]), resume=None, listener=silent)
    assert fingerprint(watched.state) == fingerprint(plain.state)
    rows = [row for row in story(tmp_path / "watched") if row["event"] not in BESIDE]
    assert rows == story(tmp_path / "plain")


def dumped(folder: Path, step: int, what: str) -> dict[str, Any]:
    tensors, metadata = safetensors.read(folder / "dumps" / f"step-{step:08d}-{what}.safetensors")
    assert (metadata["step"], metadata["what"]) == (str(step), what)
    return {name: tensor.array() for name, tensor in tensors.items()}


def test_A17_dumped_weights_are_those_after_the_step(tmp_path: Path) -> None:
    wanted = plan(tmp_path, watch=Watch(dump=Dump(every=TOTAL, what="weights")), average=None)
    outcome = train(wanted, resume=None, listener=silent)
    found = dumped(tmp_path, TOTAL, "weights")
    state = outcome.state.module.state_dict()
    assert set(found) == set(state)
    assert all(np.array_equal(found[name], state[name].numpy()) for name in state)
    assert [path.name for path in (tmp_path / "dumps").iterdir()] == [f"step-{TOTAL:08d}-weights.safetensors"]


@pytest.mark.parametrize("how", ["fp32", "in parts", "fp16"])
def test_A17_dumped_gradients_have_the_norm_of_the_journal(how: str, tmp_path: Path) -> None:
    """Before clipping, after the loss scale is taken off, all parts together."""
    changes = {**PRECISIONS[how], "watch": Watch(dump=Dump(every=1, what="gradients"))}
    train(plan(tmp_path, **changes), resume=None, listener=silent)
    norms = [row["norm"] for row in read(tmp_path / JOURNAL) if row["event"] == "step"]
    for step, norm in enumerate(norms, 1):
        arrays = dumped(tmp_path, step, "gradients").values()
        total = sum(float(np.square(array.astype(np.float64)).sum()) for array in arrays)
        assert total**0.5 == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("how", ["fp32", "bf16", "in parts"])
def test_A17_dumped_activations_are_of_the_whole_batch_and_told_with_statistics(how: str, tmp_path: Path) -> None:
    layers = ("classifier.fc", "classifier.blocks.0.linear1")
    changes = {**PRECISIONS[how], "watch": Watch(dump=Dump(every=2, layers=layers))}
    train(plan(tmp_path, **changes), resume=None, listener=silent)
    found = dumped(tmp_path, 4, "activations")
    assert found["classifier.fc"].shape == (8, 5)
    assert found["classifier.blocks.0.linear1"].shape[0] == 8
    rows = {row["step"]: row for row in read(tmp_path / JOURNAL) if row["event"] == "dump"}
    assert list(rows) == [2, 4, 6]
    told: Any = rows[4]["tensors"]
    for name, array in found.items():
        assert told[name]["shape"] == list(array.shape)
        assert told[name]["min"] == float(array.min()) and told[name]["max"] == float(array.max())
        assert told[name]["dtype"] == ("bfloat16" if how == "bf16" else "float32")
        assert told[name]["nan"] == told[name]["inf"] == 0


@pytest.mark.parametrize("what", ["activations", "gradients", "weights"])
def test_A17_a_pattern_that_matches_nothing_is_refused_before_the_first_step(what: Any, tmp_path: Path) -> None:
    kind = {"activations": "layer", "gradients": "parameter", "weights": "tensor"}[what]
    for layers, words in ((("*", "nowhere.*"), f"matches no {kind} of"), (("*", "!*"), "leaves nothing")):
        wanted = plan(tmp_path, watch=Watch(dump=Dump(every=1, layers=layers, what=what)))
        with pytest.raises(RecipeError, match=words) as caught:
            train(wanted, resume=None, listener=silent)
        assert caught.value.code == "V104"


def test_A17_dumps_of_a_resumed_run_are_those_of_the_unbroken_one(tmp_path: Path) -> None:
    watch = Watch(dump=Dump(every=2))
    train(plan(tmp_path / "whole", watch=watch), resume=None, listener=silent)

    def stop(batch: TrainBatch) -> TrainBatch:
        if batch.step + 1 == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch

    with pytest.raises(Stopped):
        train(plan(tmp_path / "cut", watch=watch, loader=Loader(stop)), resume=None, listener=silent)
    train(plan(tmp_path / "cut", watch=watch), resume=saved(tmp_path / "cut"), listener=silent)
    assert story(tmp_path / "cut") == story(tmp_path / "whole")
    for path in (tmp_path / "whole" / "dumps").iterdir():
        assert path.read_bytes() == (tmp_path / "cut" / "dumps" / path.name).read_bytes()


# ---- the profiler


def test_A17_a_window_is_profiled_to_a_trace_and_a_table(tmp_path: Path) -> None:
    told: list[Mapping[str, object]] = []
    train(plan(tmp_path, watch=Watch(profile=Profile(first=2, steps=3))), resume=None, listener=told.append)
    (row,) = [row for row in told if row["event"] == "profile"]
    assert row["folder"] == "profile/steps-2-4"
    lines = (tmp_path / "profile" / "steps-2-4" / "operations.txt").read_text().splitlines()
    assert lines == row["table_s"]
    assert lines[0].split()[0] == "operation" and 5 < len(lines) <= 16
    assert any(line.startswith("aten::") for line in lines)
    events = python_json.loads((tmp_path / "profile" / "steps-2-4" / "trace.json").read_bytes())["traceEvents"]
    names = {event.get("name") for event in events}
    assert {"step 2", "step 3", "step 4"} <= names
    assert not {"step 1", "step 5"} & names


def test_A17_a_window_beyond_the_run_is_told_and_one_at_its_end_is_cut(tmp_path: Path) -> None:
    train(plan(tmp_path / "beyond", watch=Watch(profile=Profile(first=99))), resume=None, listener=silent)
    (warning,) = [row for row in read(tmp_path / "beyond" / JOURNAL) if row["event"] == "warning"]
    assert "begins at step 99" in str(warning["text"])
    train(plan(tmp_path / "end", watch=Watch(profile=Profile(first=TOTAL, steps=9))), resume=None, listener=silent)
    assert (tmp_path / "end" / "profile" / f"steps-{TOTAL}-{TOTAL}" / "trace.json").is_file()


def test_A17_a_dump_that_no_step_came_to_is_told(tmp_path: Path) -> None:
    train(plan(tmp_path, watch=Watch(dump=Dump(every=99, layers=("*",)))), resume=None, listener=silent)
    (warning,) = [row for row in read(tmp_path / JOURNAL) if row["event"] == "warning"]
    assert warning["text"] == f"watch.dump.every is 99, the run ended with step {TOTAL}: nothing was dumped"


# ---- activations on demand


def test_A17_an_activation_that_no_loss_shows_is_found_with_the_flag_alone(tmp_path: Path) -> None:
    """An infinity that a layer behind it swallows: without the flag the step is taken, with it nothing changes."""

    def act(module: nn.Module) -> None:
        module.classifier.norm = Swallowed(module.classifier.norm)  # type: ignore[union-attr, assignment]

    for activations in (False, True):
        wanted = plan(tmp_path / str(activations), watch=Watch(activations=activations), average=None)
        act(wanted.module)
        if not activations:
            assert train(wanted, resume=None, listener=silent).skipped == 0
            continue
        before = [p.detach().clone() for p in wanted.module.parameters()]
        with pytest.raises(NumbersBroke, match=r"the output of `classifier.norm.spike` is not finite"):
            train(wanted, resume=None, listener=silent)
        assert all(torch.equal(a, b) for a, b in zip(before, wanted.module.parameters(), strict=True))
        done = again(wanted, kept(wanted.folder), act)
        assert done.same and finding(done).name == "classifier.norm.spike"


class Swallowed(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.spike = inner, Spike(nn.Identity(), (1,))

    def forward(self, x: Tensor) -> Tensor:
        self.spike(x.detach())
        out: Tensor = self.inner(x)
        return out
