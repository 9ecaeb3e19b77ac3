"""Threads that prepare things ahead and can be named: what each one is working on, and since when.

A read that never returns (a dead network mount, a device) cannot be ended from outside. So the threads are daemons
that hold up nobody, and whoever waits for them gives up after a while with the name of the file.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

from vitrail.errors import SystemFault, printable

T = TypeVar("T")
PATIENCE = 120.0  # seconds without a result after which whoever waits gives up
_working: dict[int, tuple[str, float]] = {}  # thread -> what it is on, and since when on the monotonic clock


@contextlib.contextmanager
def working_on(title: str) -> Iterator[None]:
    """Say what this thread is working on, for `stuck` to name. SystemFault V703 names it where memory gives out."""
    me = threading.get_ident()
    _working[me] = (title, time.monotonic())
    try:
        yield
    except MemoryError as error:
        raise SystemFault(
            "V703", f"not enough memory for `{printable(title)}`", hint="fewer data.workers, or a smaller data.batch"
        ) from error
    finally:
        del _working[me]


def stuck(threads: set[int], patience: float) -> SystemFault:
    """V702 with the names of what these threads have been on for longest."""
    now = time.monotonic()
    on = sorted((since, title) for thread, (title, since) in dict(_working).items() if thread in threads)
    return SystemFault(
        "V702",
        f"no picture came for {patience:g} seconds",
        evidence=[f"`{title}` has been read for {now - since:.0f} seconds" for since, title in on[:10]],
        hint="look at the disk or the network mount; data.patience says how long to wait",
    )


class Later(Generic[T]):
    """What a thread will have made."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._value: T
        self._error: BaseException | None = None

    def make(self, job: Callable[[], T]) -> None:
        """Do the job; its error is raised where the result is asked for."""
        try:
            self._value = job()
        except BaseException as error:
            self._error = error
        self._done.set()

    def ready(self, timeout: float | None) -> bool:
        """Whether the job is done within so many seconds."""
        return self._done.wait(timeout)

    def result(self) -> T:
        """What the job made, or its error."""
        if self._error is not None:
            raise self._error
        return self._value


class Threads:
    """So many daemon threads. patience: seconds to wait for a result before SystemFault V702; 0: for ever."""

    def __init__(self, count: int, *, patience: float) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._patience = patience
        self._closed = False
        self._hung = False
        self._threads = [threading.Thread(target=self._work, name=f"data-{n}", daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def submit(self, job: Callable[[], T]) -> Later[T]:
        """Have the job done by the next free thread."""
        later: Later[T] = Later()
        self._jobs.put(lambda: None if self._closed else later.make(job))
        return later

    def result(self, later: Later[T]) -> T:
        """Wait for it. What other threads finish meanwhile shows that only this one is slow, but not for ever."""
        if not later.ready(self._patience or None):
            self._hung = True
            raise stuck({thread.ident for thread in self._threads if thread.ident is not None}, self._patience)
        return later.result()

    def close(self) -> None:
        """End the threads: at once what waits, and after their present job those that work; one that hangs is left."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        if not self._hung:
            for thread in self._threads:
                thread.join()
