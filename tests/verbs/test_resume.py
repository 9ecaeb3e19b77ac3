"""A run that is killed, stopped or damaged goes on, to the same bits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from tests.verbs.small import hashes, small
from vitrail.data.configs import Data
from vitrail.data.sources import open_source
from vitrail.engines import bundle_classifier
from vitrail.errors import OutsideBound, RunError, Stopped, UsageError
from vitrail.models import build
from vitrail.training.journal import read
from vitrail.verbs.evaluate import evaluate
from vitrail.verbs.export import export
from vitrail.verbs.train import train

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    train(small(), out=folder)
    return folder


def _campaign(place: Path, count: int, seed: int, family: str = "cct") -> Mapping[str, object]:
    command = [sys.executable, "-m", "tests.verbs.kills", str(place), str(count), str(seed), family]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr[-3000:]
    values: Mapping[str, object] = json.loads(done.stdout.splitlines()[-1])
    return values


def _all_equal(campaign: Mapping[str, object], count: int) -> None:
    runs = campaign["runs"]
    assert isinstance(runs, list) and sum(run["kills"] for run in runs) >= count
    for run in runs:
        assert run["hashes"] == campaign["unbroken"]


def test_A11_five_random_kills_end_in_the_same_bits(tmp_path: Path) -> None:
    _all_equal(_campaign(tmp_path, 5, seed=1), 5)


@pytest.mark.prove
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_A11_two_hundred_random_kills(tmp_path: Path, seed: int) -> None:
    _all_equal(_campaign(tmp_path, 200, seed=seed), 200)


@pytest.mark.prove
@pytest.mark.parametrize("family", ["vit", "hybrid", "beit"])
def test_A11_twenty_random_kills_of_every_family(tmp_path: Path, family: str) -> None:
    _all_equal(_campaign(tmp_path, 20, seed=1, family=family), 20)


@pytest.mark.parametrize(
    ("family", "how"),
    [
        ("vit", ("train.attention=fused", "precision=bf16")),
        ("beit", ("train.attention=fused",)),
        ("beit", ("precision=bf16", "optimizer={name: sgd, momentum: 0.9, weight_decay: 0.01}")),
        ("hybrid", ()),
    ],
)
def test_A08_every_family_stopped_twice_and_resumed(tmp_path: Path, family: str, how: tuple[str, ...]) -> None:
    """With dropout, dropped paths, mixing and an average, on both attention paths: the bits of the unbroken run."""
    recipe = small("schedule.steps=12", "schedule.warmup_epochs=0", *how, family=family)
    whole = train(recipe, out=tmp_path / "whole")
    assert whole.steps == 12
    run = tmp_path / "run"
    for last in (3, 8):
        with pytest.raises(Stopped):
            train(recipe, out=run, resume=True, listener=_stop_after(last))
    train(recipe, out=run, resume=True)
    assert hashes(run) == hashes(whole.folder)
    if recipe.optimizer.name == "adamw":  # whose steps are of one size: nothing stands still
        fresh = dict(build(recipe.config, seed=recipe.train.seed).named_parameters())
        trained = bundle_classifier(whole.bundle).module.named_parameters()
        assert all(not torch.equal(fresh[name], parameter) for name, parameter in trained)


def test_A08_stopped_at_a_step_and_resumed(tmp_path: Path, unbroken: Path) -> None:
    """SIGTERM inside an epoch: exit 75, and the resumed run equals the unbroken one, journal included."""
    run = tmp_path / "run"

    def stop(event: Mapping[str, object]) -> None:
        if event["event"] == "step" and event["step"] == 30:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped) as caught:
        train(small(), out=run, listener=stop)
    assert caught.value.exit_code == 75 and "after step 30" in caught.value.what
    train(small(), out=run, resume=True)
    assert hashes(run) == hashes(unbroken)
    kept = ("start", "step", "evaluation")
    ours, theirs = (
        [
            {key: value for key, value in row.items() if not key.endswith(("_s", "_bytes"))}
            for row in read(folder / "journal.jsonl")
            if row["event"] in kept
        ]
        for folder in (run, unbroken)
    )
    assert ours == theirs


def test_a_second_start_is_refused_and_a_finished_run_is_left_alone(unbroken: Path) -> None:
    with pytest.raises(RunError) as caught:
        train(small(), out=unbroken)
    assert caught.value.code == "V601" and "--resume" in caught.value.hint
    before = hashes(unbroken)
    again = train(small(), out=unbroken, resume=True)
    assert hashes(unbroken) == before and again.steps == 0 and again.quality["pictures"] == 355


def test_another_recipe_is_refused_with_the_difference(unbroken: Path) -> None:
    with pytest.raises(RunError) as caught:
        train(small("schedule.lr=0.5"), out=unbroken, resume=True)
    assert caught.value.code == "V602" and caught.value.evidence == ("schedule.lr  0.003 -> 0.5",)


def test_A05_a_damaged_checkpoint_is_passed_over(tmp_path: Path, unbroken: Path) -> None:
    run = tmp_path / "run"

    def stop(event: Mapping[str, object]) -> None:
        if event["event"] == "step" and event["step"] == 50:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        train(small(), out=run, listener=stop)
    newest = max((run / "checkpoints").glob("step-????????"))
    data = bytearray((newest / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (newest / "weights.safetensors").write_bytes(data)
    told: list[Mapping[str, object]] = []
    train(small(), out=run, resume=True, listener=told.append)
    assert [event for event in told if event["event"] == "warning"]
    assert hashes(run) == hashes(unbroken)


def test_A05_strict_stops_at_a_damaged_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"

    def stop(event: Mapping[str, object]) -> None:
        if event["event"] == "step" and event["step"] == 50:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        train(small(), out=run, listener=stop)
    (max((run / "checkpoints").glob("step-????????")) / "state.json").write_text("{")
    with pytest.raises(OutsideBound) as caught:
        train(small(), out=run, resume=True, strict=True)
    assert caught.value.code == "V803" and caught.value.exit_code == 5


def test_resume_without_a_checkpoint_starts_at_zero(tmp_path: Path, unbroken: Path) -> None:
    told: list[Mapping[str, object]] = []
    train(small(), out=tmp_path / "run", resume=True, listener=told.append)
    assert any("starting at step 0" in str(event.get("text")) for event in told)
    assert hashes(tmp_path / "run") == hashes(unbroken)


def test_a_run_goes_on_as_a_new_run(tmp_path: Path, unbroken: Path) -> None:
    """`weights.path` may be a run: its weights are the start, its policy is kept."""
    done = train(small(f"weights.path={unbroken}", "schedule.steps=5"), out=tmp_path / "next")
    assert done.steps == 5
    fresh = train(small("schedule.steps=5"), out=tmp_path / "fresh")
    assert done.quality["top1"] > fresh.quality["top1"] + 0.1


def _stop_after(step: int) -> Callable[[Mapping[str, object]], None]:
    def stop(event: Mapping[str, object]) -> None:
        if event["event"] == "step" and event["step"] == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return stop


def _stopped(run: Path, step: int, *overrides: str) -> None:
    """A run that was stopped after `step`."""
    with pytest.raises(Stopped):
        train(small(*overrides), out=run, listener=_stop_after(step))


def test_an_unfinished_run_is_not_exported_into_itself(tmp_path: Path, unbroken: Path) -> None:
    """Its bundle would mark it as finished, and it could never go on."""
    run = tmp_path / "run"
    _stopped(run, 50)
    with pytest.raises(RunError) as caught:
        export(run)
    assert caught.value.code == "V607"
    assert "--out" in caught.value.hint
    export(run, tmp_path / "early")
    train(small(), out=run, resume=True)
    assert hashes(run) == hashes(unbroken)


def test_resume_from_the_run_folder_alone_gives_the_same_bytes(tmp_path: Path, unbroken: Path) -> None:
    run = tmp_path / "run"
    _stopped(run, 30)
    train(run / "recipe.yaml", out=run, resume=True)
    assert hashes(run) == hashes(unbroken)


def test_an_edited_recipe_is_seen(tmp_path: Path) -> None:
    run = tmp_path / "run"
    _stopped(run, 30)
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("lr: 0.003", "lr: 0.004"))
    with pytest.raises(RunError) as caught:
        train(run / "recipe.yaml", out=run, resume=True)
    assert caught.value.code == "V602"


def test_what_decides_nothing_may_change_on_resume(tmp_path: Path, unbroken: Path) -> None:
    run = tmp_path / "run"
    _stopped(run, 30)
    train(small("checkpoint.keep=1", "checkpoint.on_error=continue", "data.workers=3"), out=run, resume=True)
    weights = [name for name in hashes(unbroken) if name.endswith("weights.safetensors")]
    assert {name: hashes(run)[name] for name in weights} == {name: hashes(unbroken)[name] for name in weights}


def test_a_resume_does_not_need_the_start_weights(tmp_path: Path, unbroken: Path) -> None:
    start = tmp_path / "start"
    shutil.copytree(unbroken, start)
    whole = train(small(f"weights.path={start}"), out=tmp_path / "whole")
    _stopped(tmp_path / "run", 30, f"weights.path={start}")
    shutil.rmtree(start)
    train(tmp_path / "run" / "recipe.yaml", out=tmp_path / "run", resume=True)
    assert hashes(tmp_path / "run") == hashes(whole.folder)


def test_a_stopped_run_is_evaluated_on_what_it_holds_out(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (photos / name).mkdir(parents=True)
        for index in range(20):
            Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(photos / name / f"{index:02d}.png")
    settings = ("data.source=folder", f"data.root={photos}", "data.batch=4", "train.seed=5", "data.holdout=0.3")
    run = tmp_path / "run"
    _stopped(run, 9, *settings)
    held = open_source(Data(root=str(photos), holdout=0.3), seed=5).held_out.tolist()
    for model, data in ((run, None), (run, photos), (max((run / "checkpoints").glob("step-????????")), photos)):
        done = evaluate(model, data)
        assert done.part == "held-out"
        assert done.evaluation.indices.tolist() == held
    Image.new("RGB", (16, 16)).save(photos / "a" / "new.png")
    with pytest.raises(RunError) as caught:
        evaluate(run)
    assert caught.value.code == "V602"
    with pytest.raises(RunError) as caught:
        train(run / "recipe.yaml", out=run, resume=True)
    assert caught.value.code == "V602"
    done = evaluate(run, photos)
    assert done.part == "all"
    assert any("not those that the model was trained on" in note for note in done.source.notes)


def test_arguments_that_do_not_stand(unbroken: Path) -> None:
    for call in (
        lambda: evaluate(unbroken, part="bogus"),  # type: ignore[arg-type]
        lambda: vitrail.open("cct_2_3x2_32", engine="onnx"),
        lambda: vitrail.create("cct_2_3x2_32", classes="cat"),
    ):
        with pytest.raises(UsageError) as caught:
            call()
        assert caught.value.code == "V007"
    assert vitrail.create("cct_2_3x2_32", classes=["cat", "dog"]).classes == ("cat", "dog")
