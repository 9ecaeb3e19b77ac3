"""Several ranks: torch's own process group, and what the run says through it."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vitrail.errors import Stopped, SystemFault, VitrailError
from vitrail.ranks.alone import Parallel, Ranks
from vitrail.ranks.watch import GRACE, HINT, Watch
from vitrail.ranks.world import World

T = TypeVar("T")
FOR_EVER = timedelta(days=30)
MEETING = 300.0  # seconds in which all must have come
POLL = 0.05  # seconds
_RUNS = itertools.count()  # of this process


class Group(Ranks):
    """The ranks of a run that torchrun started."""

    def __init__(self, world: World, patience: float, *, meeting: float = MEETING) -> None:
        super().__init__(world)
        host, port = world.meeting
        self._lead = f"vitrail/{world.attempt}/{next(_RUNS)}"
        try:
            # one for each thread: a store answers one question at a time
            self._store, own, torchs = (_store(world, meeting, first=number == 0) for number in range(3))
            self._store.set(f"{self._lead}/here/{world.rank}", "1")  # all are here before anyone's patience counts
            self._store.wait([f"{self._lead}/here/{rank}" for rank in range(world.size)])
            dist.init_process_group(
                _backend(),
                store=dist.PrefixStore(f"{self._lead}/group", torchs),  # type: ignore[attr-defined]
                rank=world.rank,
                world_size=world.size,
                timeout=timedelta(seconds=patience) if patience else FOR_EVER,
            )
        except (RuntimeError, ValueError) as error:
            raise SystemFault(
                "V706",
                f"rank {world.rank} of {world.size} does not find the others at {host}:{port}",
                evidence=[str(error).splitlines()[0]],
                hint="start all of them, and give each machine's torchrun the same --master-addr and --master-port",
            ) from error
        self._watch = Watch(own, world, patience, lead=self._lead)
        self._turn = 0
        self._raised: VitrailError | None = None

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        self._watch.waiting_since, self._watch.waits = time.monotonic(), True
        yield
        self._watch.waits = False  # not after an error: who lost the others waits for good

    def gather(self, value: T) -> list[T]:
        values: list[Any] = [None] * self.size
        with self._waiting():
            dist.all_gather_object(values, value)
        return values

    def total(self, number: int) -> int:
        return int(self.summed(torch.tensor(number)).item())

    def summed(self, tensor: Tensor) -> Tensor:
        found = tensor.clone()
        with self._waiting():
            dist.all_reduce(found)
        return found

    def first(self, do: Callable[[], T]) -> T:
        self._turn += 1
        key = f"{self._lead}/first/{self._turn}"
        outcome: list[Any] = [None, None]
        if self.rank == 0:
            try:
                outcome[0] = do()
            except VitrailError as error:
                outcome[1] = error
            self._store.set(key, "1")
        else:  # as long as rank 0 lives, however long it takes: no call of the group would wait so
            while not self._store.check([key]):
                if (cause := self._watch.cause(within=POLL)) is not None:
                    self._raised = cause
                    raise cause
        with self._waiting():
            dist.broadcast_object_list(outcome, src=0)
        if outcome[1] is not None:
            self._raised = outcome[1]
            raise outcome[1]
        value: T = outcome[0]
        return value

    def at(self, where: str) -> None:
        self._watch.where = where

    @contextmanager
    def watch(self, caught: Callable[[], str | None]) -> Iterator[None]:
        self._watch.caught = caught
        try:
            yield
        finally:
            self._watch.caught = lambda: None

    def going_on(self, items: Iterator[T]) -> Iterator[T]:
        for item in items:
            if self.stopping:
                return
            yield item

    @property
    def stopping(self) -> bool:
        return self._watch.stopping

    def spread(self, module: nn.Module, parallel: Parallel) -> nn.Module:
        from vitrail.ranks.spread import ddp, fsdp

        return ddp(module) if parallel == "ddp" else fsdp(module, self.size)

    def failed(self, error: BaseException) -> VitrailError | None:
        """Tell the others of the error that ends this rank; what to raise in its place, where another's came first.

        From here on SIGTERM, by which torchrun ends those that are left, does not change how this one ends.
        """
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if isinstance(error, Stopped):
            self.leave()
            return None
        if isinstance(error, VitrailError):
            self._close(None if error is self._raised else error)
            return None
        instead = self._watch.cause(within=GRACE) if isinstance(error, RuntimeError) else None
        suspects = self._watch.suspects()
        if instead is None and isinstance(error, RuntimeError) and _is_of_the_group(error):
            instead = SystemFault(
                "V706",
                "the other ranks do not answer",
                evidence=[str(error).splitlines()[0][:200], *suspects],
                hint=f"raise train.patience if so long a wait is right; {HINT}",
            )
        self._close(None if instead else _ended(self.rank, error))
        return instead

    def _close(self, error: VitrailError | None) -> None:
        self._watch.close(error)
        if dist.get_backend() == "gloo":  # others may wait here for those that are gone
            dist.destroy_process_group()

    def leave(self) -> None:
        """Part in peace."""
        with self._waiting():
            dist.barrier()
        self._watch.close(None)
        dist.destroy_process_group()


def _store(world: World, meeting: float, *, first: bool) -> Any:
    """A connection to the store: torchrun has one, else rank 0 opens it."""
    opens = first and world.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    (host, port), limit = world.meeting, timedelta(seconds=meeting)
    return dist.TCPStore(host, port, is_master=opens, timeout=limit, wait_for_workers=False, multi_tenant=True)  # type: ignore[attr-defined]


def _ended(rank: int, error: BaseException) -> VitrailError:
    text = (str(error).splitlines() or [""])[0][:200]
    return SystemFault("V706", f"rank {rank} on {socket.gethostname()} ended: {type(error).__name__} {text}", hint=HINT)


def _is_of_the_group(error: RuntimeError) -> bool:
    words = ("gloo", "nccl", "hccl", "connection", "timed out", "timeout", "process group", "peer")
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in words)


def _backend() -> str:
    """gloo for what lies in memory, and beside it what the accelerator here brings."""
    found = torch.accelerator.current_accelerator()
    if found is None:
        return "gloo"
    return f"cpu:gloo,{found.type}:{dist.get_default_backend_for_device(found.type)}"
