"""Two ranks do what one process does, to rounding; and what they did before, to the bit."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.ranks import work
from tests.verbs.small import hashes, small
from vitrail import opening
from vitrail.data.configs import Data
from vitrail.data.sources import open_source
from vitrail.models import build
from vitrail.models.classifier import Classifier
from vitrail.ranks import Ranks
from vitrail.recipe import load_recipe
from vitrail.training import capture
from vitrail.training.checkpoint import CHECKPOINTS, Snapshot, generations, load, newest_good
from vitrail.training.journal import read
from vitrail.verbs.replay import replay
from vitrail.verbs.sharing import evaluated
from vitrail.verbs.show import show

ROOT = Path(__file__).resolve().parents[2]
CLOSE = 1e-5  # relative, of each step's loss


def losses(run: Path) -> list[float]:
    return [float(str(row["loss"])) for row in read(run / "journal.jsonl") if row["event"] == "step"]


def same(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    return len(ours) == len(theirs) and all(abs(a - b) <= CLOSE * b for a, b in zip(ours, theirs, strict=True))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that two ranks did, and what one process did of the same."""
    place = tmp_path_factory.mktemp("ranks")
    work.run(place / "to_two", small(*work.QUIET), stop=5)
    work.run(place / "base", small("schedule.steps=2", "schedule.warmup_epochs=0", family="vit"))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d"]
    command += ["--rdzv-endpoint=localhost:0", "-m", "tests.ranks.work", str(place)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-5000:]
    return place


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one") / "run"
    work.run(folder, small(*work.QUIET))
    return folder


def test_A13_two_ranks_do_what_one_process_does(place: Path, one: Path) -> None:
    assert len(losses(one)) == 12
    assert same(losses(place / "quiet"), losses(one))


def test_A13_the_same_world_again_gives_the_same_bits(place: Path) -> None:
    """With masks, mixing and an average; rank 1 was told to stop in between."""
    assert hashes(place / "stopped") == hashes(place / "noise")
    stops = [row for row in read(place / "stopped" / "journal.jsonl") if row["event"] == "stopped"]
    assert len(stops) == 1 and stops[0]["by"] == "SIGTERM"


def saved(run: Path) -> tuple[set[str], Snapshot]:
    path, passed_over = newest_good(run / CHECKPOINTS)
    assert path is not None and not passed_over
    return set(os.listdir(path)), load(path)


def test_A13_a_checkpoint_in_parts_is_the_whole_one(place: Path) -> None:
    """Stopped and resumed in between; read back, its tensors are those that rank 0 saved alone."""
    names, parts = saved(place / "sharded")
    parted = {f"{name}.part-000{n}-of-0002.safetensors" for name in ("weights", "optimizer", "ema") for n in (1, 2)}
    assert names == {*parted, "state.json", "manifest.json"}
    whole = saved(place / "fsdp")[1]
    assert parts.files == whole.files
    largest = max((place / "sharded" / CHECKPOINTS / "step-00000012" / name).stat().st_size for name in parted)
    assert largest < 0.8 * sum(tensor.nbytes for tensor in whole.files["optimizer"].values())  # half, and names


def test_A13_from_a_checkpoint_in_parts_to_one_process(place: Path, one: Path) -> None:
    assert any("part-0001-of-0002" in name for name in saved(place / "shards_to_one")[0])
    work.run(place / "shards_to_one", small(*work.QUIET), resume=True)
    assert same(losses(place / "shards_to_one"), losses(one))


def test_a_checkpoint_in_parts_opens_and_is_shown(place: Path) -> None:
    path = place / "sharded" / CHECKPOINTS / "step-00000012"
    batch = np.random.default_rng(0).random((2, 3, 16, 16), np.float32)
    assert np.array_equal(opening.open(str(path)).logits(batch), opening.open(str(place / "sharded")).logits(batch))
    assert show(str(path)).values["checkpoint"]["averaged"] is True


def test_a_part_that_is_refused_leaves_no_checkpoint(place: Path) -> None:
    assert os.listdir(place / "refused" / CHECKPOINTS) == []


def test_a_save_that_is_refused_at_its_end_is_refused_on_all_ranks(place: Path) -> None:
    warnings = [row["code"] for row in read(place / "went_on" / "journal.jsonl") if row["event"] == "warning"]
    assert warnings == ["V701"]
    assert [path.name for path in generations(place / "went_on" / CHECKPOINTS)] == ["step-00000012"]
    assert saved(place / "went_on")[1].files == saved(place / "sharded")[1].files


def test_A13_from_one_process_to_two_ranks(place: Path, one: Path) -> None:
    assert same(losses(place / "to_two"), losses(one))


def test_A13_from_two_ranks_to_one_process(place: Path, one: Path) -> None:
    work.run(place / "to_one", small(*work.QUIET), resume=True)
    assert same(losses(place / "to_one"), losses(one))


def test_A13_tensors_in_parts_and_a_resume(place: Path, one: Path) -> None:
    """FSDP: the checkpoints are whole, so one process goes on from the first of them as well."""
    assert same(losses(place / "fsdp"), losses(one))


@pytest.mark.parametrize(("name", "how"), [("odd", ("data.batch=7",)), ("fewer", ("data.batch=2",))])
def test_A14_uneven_parts_count_by_their_pictures(place: Path, tmp_path: Path, name: str, how: tuple[str, ...]) -> None:
    """Seven pictures on two ranks in three parts each; and, as mixing keeps partners together, none on the second."""
    work.run(tmp_path / "run", small(*work.QUIET, *how))
    assert same(losses(place / name), losses(tmp_path / "run"))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_A14_every_picture_is_evaluated_once(place: Path, count: int) -> None:
    """To the bit as by one process: its batches are shared out whole."""
    source = open_source(Data(source="digits"))
    recipe = small("evaluation.batch=4")
    model = Classifier(build(recipe.config), recipe.config, recipe.policy, source.classes)
    part = type(source)(**{**vars(source), "held_out": source.held_out[:count]})
    alone = evaluated(model, part, recipe, Ranks())
    found = json.loads((place / "evaluations.json").read_text())[str(count)]
    assert found == [alone.indices.tolist(), alone.losses.tolist()]


def test_a_batch_and_a_rate_per_device_are_settled(place: Path) -> None:
    """On two devices; as one process it goes on with the batches and the rate of two."""
    settled = load_recipe(place / "each" / "recipe.yaml")
    assert settled.data.batch == 64 and settled.data.batch_per_device is None
    assert settled.schedule.lr == pytest.approx(0.006) and settled.schedule.lr_rule == "fixed"
    text = (place / "each" / "recipe.yaml").read_text()
    assert "# 32 x 2 devices" in text and "# 0.003 x 2 devices" in text
    work.run(place / "each", small(*work.QUIET, "data.batch_per_device=32", "schedule.lr_rule=per_device"), resume=True)


def test_the_share_of_right_answers_is_of_all_ranks(place: Path, tmp_path: Path) -> None:
    work.run(tmp_path / "run", small(*work.QUIET, "journal.lines=vit_tensorflow"))
    shares = [
        [row["acc"] for row in read(run / "journal.jsonl") if row["event"] == "step"]
        for run in (place / "told", tmp_path / "run")
    ]
    assert len(shares[0]) == 12 and shares[0] == shares[1]


@pytest.mark.parametrize("name", ["adapted", "adapted_in_parts"])
def test_adapters_on_two_ranks(place: Path, name: str, tmp_path: Path) -> None:
    """Whole and in parts, where the second is stopped and resumed; the first has a tracker, which is told once."""
    work.run(tmp_path / "run", small(*work.adapters(place / "base"), family="vit"))
    assert same(losses(place / name), losses(tmp_path / "run"))
    assert (place / name / "adapter.safetensors").is_file()
    files = list((place / "adapted").glob("tensorboard/events*"))
    assert len(files) == (1 if importlib.util.find_spec("tensorboard") else 0)


def test_a_slow_copy_keeps_no_rank_waiting_in_vain(place: Path) -> None:
    """Longer than `train.patience`: rank 0 lives, and the others know what they wait for."""
    assert len(losses(place / "slow")) == 12


def test_A17_each_rank_keeps_its_part_of_a_broken_step(place: Path) -> None:
    kept = [path for rank in (0, 1) for path in capture.kept(place / "broke", rank)]
    assert len(kept) == 2
    for path in kept:
        done = replay(path)
        assert done.replay.same is None and done.replay.finding is not None, path


def test_an_error_of_one_rank_is_that_of_all(place: Path) -> None:
    assert [json.loads((place / f"errors-{rank}.json").read_text()) for rank in (0, 1)] == [["V101", "V101"]] * 2
