"""What needs no second process: who a process is, which pictures are its own, what a recipe says per device."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.verbs.small import small
from vitrail.data.configs import Augment, Data, Mix, PadCrop
from vitrail.data.loader import TrainLoader, evaluation_batches
from vitrail.data.mix import mixer
from vitrail.data.order import part_of
from vitrail.data.sources import open_source
from vitrail.errors import RecipeError, UsageError
from vitrail.pictures.policy import Policy
from vitrail.ranks import Ranks, joined, world
from vitrail.ranks.watch import Beat, Watch
from vitrail.recipe.devices import as_told, devices_before, for_devices
from vitrail.recipe.read import parse_recipe
from vitrail.recipe.write import fingerprint, to_yaml

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
POLICY = Policy(size=(8, 8), mean=(0.5,), std=(0.5,))


def test_without_torchrun_it_is_a_world_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delitem(sys.modules, "vitrail.ranks.group", raising=False)
    with joined(1.0) as ranks:
        assert type(ranks) is Ranks and (ranks.rank, ranks.size) == (0, 1)
        assert ranks.gather("x") == ["x"] and ranks.first(lambda: 3) == 3 and ranks.total(4) == 4
    assert "vitrail.ranks.group" not in sys.modules


@pytest.mark.parametrize("wrong", [{"RANK": "2"}, {"RANK": "-1"}, {"WORLD_SIZE": "two"}, {"MASTER_PORT": "99999"}])
def test_an_environment_that_makes_no_sense_is_named(wrong: dict[str, str]) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=name):
        world({**TORCHRUN, **wrong})


def test_an_environment_without_a_meeting_place() -> None:
    with pytest.raises(UsageError, match="MASTER_ADDR"):
        world({key: value for key, value in TORCHRUN.items() if key != "MASTER_ADDR"})


@given(st.integers(1, 300), st.integers(1, 9), st.booleans())
def test_A13_every_place_of_a_batch_is_one_ranks(count: int, size: int, paired: bool) -> None:
    parts = [part_of(count, rank=rank, size=size, paired=paired).tolist() for rank in range(size)]
    assert sorted(place for part in parts for place in part) == list(range(count))
    assert all(part == sorted(part) for part in parts)
    lengths = [len(part) for part in parts]
    assert max(lengths) - min(lengths) <= (2 if paired else 1)
    if paired:  # a rank's i-th picture is mixed with its i-th from the end, as in the whole batch
        assert all(a + b == count - 1 for part in parts for a, b in zip(part, part[::-1], strict=True))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_A13_the_same_pictures_in_every_global_batch(size: int) -> None:
    """Ids, pixels and labels of each step, put together in their places, at any number of ranks."""
    source = open_source(Data(source="digits"))
    data = Data(source="digits", batch=70, workers=0)
    whole = TrainLoader(source, POLICY, Augment(crop=PadCrop(padding=1)), data, 3)
    length = whole.steps_per_epoch
    parts = [part_of(70, rank=rank, size=size, paired=size != 3) for rank in range(size)]
    each = [replace(whole, part=part).iterate(length - 3, length + 3) for part in parts]
    for batch, *mine in zip(whole.iterate(length - 3, length + 3), *each, strict=True):
        places = np.argsort(np.concatenate(parts))
        for name in ("indices", "images", "labels"):
            together = np.concatenate([getattr(one, name) for one in mine])[places]
            assert np.array_equal(together, getattr(batch, name))


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize(("count", "size"), [(8, 2), (7, 3), (2, 2)])
def test_A13_mixing_parts_is_mixing_the_whole(mode: str, count: int, size: int) -> None:
    config = Mix(mixup=0.4, cutmix=0.7, mode=mode)  # type: ignore[arg-type]
    images, labels = torch.rand(count, 1, 6, 6), torch.arange(count) % 3
    whole = mixer(config, seed=1, classes=3, batch=count)
    assert whole is not None
    for step in range(6):
        expected = whole(images, labels, step, 0)
        for rank in range(size):
            part = part_of(count, rank=rank, size=size, paired=True)
            mix = mixer(config, seed=1, classes=3, batch=count, part=part)
            assert mix is not None
            found = mix(images[part], labels[part], step, 0)
            assert all(torch.equal(a, b[part]) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 9])
def test_A14_every_picture_is_evaluated_by_one_rank(size: int, count: int) -> None:
    source = open_source(Data(source="digits"))
    indices = source.held_out[:count]
    parts = [
        evaluation_batches(source, indices, POLICY, batch=4, workers=0, rank=rank, size=size) for rank in range(size)
    ]
    seen = [int(index) for part in parts for batch in part for index in batch.indices]
    assert sorted(seen) == sorted(indices.tolist())


def test_a_recipe_per_device_and_for_all_are_the_same_run() -> None:
    both = ("data.batch_per_device=16", "schedule.lr_rule=per_device", "schedule.lr=0.001")
    wanted = small(*both)
    settled = for_devices(wanted, 4)
    assert fingerprint(settled) == fingerprint(small("data.batch=64", "schedule.lr=0.004"))
    assert devices_before(wanted, settled, 2) == 4
    assert devices_before(small("schedule.lr_rule=per_device", "schedule.lr=0.002"), settled, 1) == 2
    assert devices_before(small("data.batch_per_device=24"), settled, 2) == 2
    assert as_told(settled, 21, 4) == (
        "batch 64, 16 on each of 4 devices; 21 steps an epoch; rate 0.004 (per_device: 0.001 x 4 devices)"
    )
    assert as_told(settled, 1, 1).startswith("batch 64, on one device; 1 step an epoch")
    assert parse_recipe(to_yaml(wanted, version="x"), "again.yaml").data.batch_per_device == 16


def test_of_batch_and_batch_per_device_one_stands() -> None:
    assert small("data.batch_per_device=16").data.batch_per_device == 16  # an override takes the other's place
    text = "{model: {variant: cct_2_3x2_32}, schedule: {name: constant, steps: 1, lr: 0.1}, data: {batch: 8, DEVICE}}"
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text.replace("DEVICE", "batch_per_device: 4"), "both.yaml")
    assert "stands beside `batch`" in "".join(caught.value.evidence)


def test_how_ranks_share_is_not_the_runs_identity() -> None:
    assert fingerprint(small()) == fingerprint(small("train.parallel=fsdp", "train.patience=5"))


def test_A15_a_rank_whose_connections_end_before_it_does_is_named() -> None:
    """As on a busy core, where a killed process is seen to be dead only a while later."""
    dying = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.3)"])
    watch = Watch.__new__(Watch)
    watch._others = {0: Beat(host=socket.gethostname(), pid=dying.pid, where="in step 7")}
    error = watch._store_lost(RuntimeError("Connection reset by peer"))
    dying.wait()
    assert "rank 0 died" in str(error) and "in step 7" in str(error)
