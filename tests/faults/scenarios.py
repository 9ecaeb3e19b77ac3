"""What is done under faults: each scenario prepares a folder and returns the act that the faults strike."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from vitrail import disk
from vitrail.formats.stored import Stored, Tensors
from vitrail.training import checkpoint
from vitrail.training.parts import part_name

OLD, NEW = 10, 20


def snapshot(step: int, *, rows: int = 40) -> checkpoint.Snapshot:
    """A small full state whose every byte depends on the step."""

    def tensors(kind: int) -> Tensors:
        values = np.arange(rows * 8, dtype=np.float32).reshape(rows, 8) + 1000 * step + kind
        return {"layer.weight": Stored.of(values), "layer.bias": Stored.of(values[0].copy())}

    files = {name: tensors(kind) for kind, name in enumerate(("ema", "optimizer", "weights"))}
    return checkpoint.Snapshot(step, files, {"epoch": step / 10, "seed": 0, "thread count": 1})


def full_save(place: Path) -> Callable[[], object]:
    """A full state over an older generation, which keep=1 then prunes."""
    folder = place / "checkpoints"
    checkpoint.save(folder, snapshot(OLD), keep=1)
    return lambda: checkpoint.save(folder, snapshot(NEW), keep=1).name


def weights_only(place: Path) -> Callable[[], object]:
    """Weights without optimizer over an older generation."""
    folder = place / "checkpoints"
    checkpoint.save(folder, snapshot(OLD), keep=1)
    full = snapshot(NEW)
    small = checkpoint.Snapshot(NEW, {"weights": full.files["weights"]}, full.state)
    return lambda: checkpoint.save(folder, small, keep=1).name


def best_copy(place: Path) -> Callable[[], object]:
    """The best generation so far, over two older ones of which one was the best."""
    folder = place / "checkpoints"
    checkpoint.save(folder, snapshot(OLD - 1), keep=2, best=True)
    checkpoint.save(folder, snapshot(OLD), keep=2)
    return lambda: checkpoint.save(folder, snapshot(NEW), keep=1, best=True).name


def prune(place: Path) -> Callable[[], object]:
    """A save after which five older generations go."""
    folder = place / "checkpoints"
    for step in range(OLD - 4, OLD + 1):
        checkpoint.save(folder, snapshot(step, rows=4), keep=9)
    return lambda: checkpoint.save(folder, snapshot(NEW, rows=4), keep=1).name


def mark_best(place: Path) -> Callable[[], object]:
    """A step that is saved already becomes the best one."""
    folder = place / "checkpoints"
    checkpoint.save(folder, snapshot(OLD), keep=2)
    checkpoint.save(folder, snapshot(NEW), keep=2)
    return lambda: checkpoint.save(folder, snapshot(NEW), keep=2, best=True).name


def in_parts(place: Path) -> Callable[[], object]:
    """The parts of two ranks, written by one process, over an older generation."""
    folder = place / "checkpoints"
    checkpoint.save(folder, snapshot(OLD), keep=1)
    new = snapshot(NEW)

    def halves(tensors: Tensors, rank: int) -> Tensors:
        cut = {name: tensor.array()[rank::2] for name, tensor in tensors.items()}
        return {name: Stored.of(rows.copy()) for name, rows in cut.items()}

    def act() -> object:
        with checkpoint.Saving(folder, NEW, keep=1, best=False) as saving:
            aside = saving.begin(checkpoint.size_of(new.files))
            members: checkpoint.Members = {}
            for rank in (0, 1):
                mine = {part_name(name, rank, 2): halves(tensors, rank) for name, tensors in new.files.items()}
                members |= checkpoint.written(aside, mine)
            return saving.end(members, checkpoint.state_bytes(new)).name

    return act


SAVES = ("full_save", "weights_only", "best_copy", "prune", "mark_best", "in_parts")


# Guards taken away on purpose: the tests must see each of these fail.


def save_straight_to_its_name(place: Path) -> Callable[[], object]:
    """As full_save, but the generation is written where it will lie: a kill leaves half of it under its name."""
    act = full_save(place)

    @contextlib.contextmanager
    def straight(path: Path) -> Iterator[Path]:
        path.mkdir()
        yield path

    disk.new_folder = straight  # only ever in the forked child of one trial
    return act


def save_without_fsync(place: Path) -> Callable[[], object]:
    """As full_save, but nothing is flushed."""
    act = full_save(place)
    os.fsync = lambda fd: None
    return act


def save_without_reading_back(place: Path) -> Callable[[], object]:
    """As full_save, but older generations go before the new one is read."""
    act = full_save(place)
    checkpoint._read_back = lambda path: None
    return act
