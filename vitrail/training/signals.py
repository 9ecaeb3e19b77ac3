"""Stopping well: the first signal asks the run to finish its step and save, the second ends it at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)  # the last is what SLURM may send before


class Interrupted(BaseException):
    """Ends an evaluation early: what it would find is found again after the resume."""


class Stop:
    """Whether a signal came, and which."""

    def __init__(self) -> None:
        self.caught: str | None = None
        self._interrupt = False

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if self.caught is not None:
            raise KeyboardInterrupt
        self.caught = signal.Signals(number).name
        if self._interrupt:
            raise Interrupted

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Inside, the first signal raises `Interrupted` instead of waiting for the end of a step."""
        if self.caught is not None:
            raise Interrupted
        self._interrupt = True
        try:
            yield
        finally:
            self._interrupt = False


@contextlib.contextmanager
def watched() -> Iterator[Stop]:
    """Watch for signals; the handlers from before come back. Outside of the main thread nothing is watched.

    A signal that is ignored, as SIGHUP is under nohup, stays ignored.
    """
    stop = Stop()
    before = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        before = {n: handler for n, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
    try:
        for number in before:
            signal.signal(number, stop)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
