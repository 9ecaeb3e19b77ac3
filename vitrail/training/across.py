"""What a run on several ranks agrees on, step by step, and the network as it computes there."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from torch import nn

from vitrail.data.batches import TrainBatch
from vitrail.errors import SystemFault, VitrailError, write_fault
from vitrail.ranks import Ranks
from vitrail.ranks.alone import Parallel
from vitrail.ranks.spread import own_rows
from vitrail.training import checkpoint, journal
from vitrail.training.generation import step_name
from vitrail.training.parts import part_name
from vitrail.training.signals import Stop
from vitrail.training.state import TrainState, snapshot

T = TypeVar("T")


def counted(ranks: Ranks, batches: Iterator[TrainBatch]) -> TrainBatch:
    """The next batch, with the number of pictures and the bad ones of all ranks."""
    batch = next(batches)
    if ranks.size == 1:
        return batch
    ranks.at(f"step {batch.step + 1}")
    bad = batch.bad
    if ranks.total(len(bad)):
        bad = tuple(one for part in ranks.gather(bad) for one in part)
    return replace(batch, whole=ranks.total(len(batch.labels)), bad=bad)


def with_all_indices(ranks: Ranks, batch: TrainBatch) -> TrainBatch:
    """The batch with the indices of every rank's pictures, for what is said of it."""
    if ranks.size == 1:
        return batch
    import numpy as np

    return replace(batch, indices=np.concatenate(ranks.gather(batch.indices)))


def first_of(ranks: Ranks, found: T | None) -> T | None:
    """What the first rank found that found anything, on all of them."""
    return next((one for one in ranks.gather(found) if one is not None), None)


def stopped(ranks: Ranks, stop: Stop) -> bool:
    """Whether any rank was told to stop; all know the signal then. One that comes too late is for the next time."""
    if ranks.size == 1:
        return stop.caught is not None
    if not ranks.total(stop.caught is not None):
        return False
    stop.caught = next(name for name in ranks.gather(stop.caught) if name is not None)
    return True


def spread(ranks: Ranks, module: nn.Module, parallel: Parallel) -> tuple[nn.Module | None, nn.Module | None]:
    """The network to train by, where that is another one, and a whole copy where `module` itself is now in parts."""
    if ranks.size == 1:
        return None, None
    twin = copy.deepcopy(module) if parallel == "fsdp" else None
    return ranks.spread(module, parallel), twin


class NoJournal(journal.Journal):
    """The journal of a rank that writes nothing."""

    def __init__(self) -> None:
        self._files = []

    def write(self, row: journal.Row) -> None:
        """Nothing."""


def save(ranks: Ranks, folder: Path, saved: checkpoint.Snapshot | None, *, keep: int, best: bool = False) -> None:
    """`checkpoint.save` by rank 0, or by all where each has its part; an error of one is raised on all."""

    def do() -> None:
        assert saved is not None
        checkpoint.save(folder, saved, keep=keep, best=best)

    if saved is not None and saved.in_parts:
        _save_parts(ranks, saved, checkpoint.Saving(folder, saved.step, keep=keep, best=best))
    else:
        ranks.first(do)


def _save_parts(ranks: Ranks, saved: checkpoint.Snapshot, saving: checkpoint.Saving) -> None:
    state = checkpoint.state_bytes(saved)
    size = ranks.total(checkpoint.size_of(saved.files)) + len(state)
    with saving:
        aside = ranks.first(lambda: saving.begin(size))
        try:
            found: checkpoint.Members | VitrailError = _written(ranks, aside, saved)
        except VitrailError as error:
            found = error
        members: checkpoint.Members = {}
        for theirs in ranks.gather(found):
            if isinstance(theirs, VitrailError):
                raise theirs
            members |= theirs
        ranks.first(lambda: saving.end(members, state))


def _written(ranks: Ranks, aside: Path | None, saved: checkpoint.Snapshot) -> checkpoint.Members:
    if aside is not None and not aside.is_dir():
        raise SystemFault(
            "V701",
            f"rank {ranks.rank} does not see `{aside.parent}`, where its part of the checkpoint belongs",
            hint="put the run folder where all machines see it, or set checkpoint.sharded=false",
        )
    try:
        return checkpoint.written(aside, saved.files)
    except OSError as error:
        assert aside is not None
        raise write_fault(error, aside.parent / step_name(saved.step)) from error


def snapshot_of(
    ranks: Ranks, state: TrainState, identity: Mapping[str, object], *, sharded: bool = False
) -> checkpoint.Snapshot | None:
    """The state to save, or this rank's part of it, where it is saved. It says on how many ranks the run was."""
    if ranks.size > 1:
        identity = {**identity, "ranks": ranks.size}
    if sharded and ranks.size > 1:
        own = snapshot(state, identity, lambda tensor: own_rows(tensor, ranks.rank))
        return replace(own, files={part_name(name, ranks.rank, ranks.size): file for name, file in own.files.items()})
    if state.twin is not None:  # its tensors lie in parts: all put them together
        saved = snapshot(state, identity)
        return None if ranks.rank else saved
    held: list[checkpoint.Snapshot] = []
    ranks.first(lambda: held.append(snapshot(state, identity)))
    return held[0] if held else None
