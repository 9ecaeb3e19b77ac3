"""A step or a save that stands still ends the run: a hung disk or device would else be waited for for ever.

Still means that the thread that trains has used no processor time for as long as the limit: a step that computes may
take what it takes. What hangs in the system cannot be woken, so the process ends at once, with the stacks of all
threads on stderr; the checkpoint before is whole, as after a kill. Waiting for pictures has a limit of its own,
`data.patience`, which names the file.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import threading
import time
from collections.abc import Iterator

from vitrail.errors import SystemFault

_WORKED = 0.01  # seconds of processor time that are a sign of life
_STDERR = 2


class Stall:
    """Watches the thread that it is made in. limit: seconds; 0: nothing is watched."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._what: str | None = None
        self._since = self._used = 0.0
        self._over = threading.Event()
        if limit > 0 and hasattr(time, "pthread_getcpuclockid"):
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
            threading.Thread(target=self._watch, name="stall", daemon=True).start()

    @contextlib.contextmanager
    def watching(self, what: str) -> Iterator[None]:
        """What is done inside must not stand still. what: in words, for the error."""
        self._since, self._used, self._what = time.monotonic(), -1.0, what
        try:
            yield
        finally:
            self._what = None

    def close(self) -> None:
        """Watch no more."""
        self._over.set()

    def _watch(self) -> None:
        pause = min(1.0, self._limit / 8)
        last = time.monotonic()
        while not self._over.wait(pause):
            what, before, last = self._what, last, time.monotonic()
            if what is None:
                continue
            now, used = last, time.clock_gettime(self._clock)
            asleep = now - before > self._limit / 2 + pause  # the whole process was: stopped by Ctrl-Z, and continued
            if used - self._used >= _WORKED or self._used < 0.0 or asleep:
                self._since, self._used = now, used
            elif now - self._since >= self._limit and self._what == what:
                _end(what, self._limit)


def stood_still(what: str, limit: float) -> SystemFault:
    """The error for what stood still."""
    return SystemFault(
        "V705",
        f"{what} stood still for {limit:g} seconds",
        evidence=["where each thread stands is printed above; no checkpoint was touched"],
        hint="look at the disk, the device and the memory, then go on with --resume; watch.stall sets the limit",
    )


def _end(what: str, limit: float) -> None:
    fault = stood_still(what, limit)
    faulthandler.dump_traceback(_STDERR, all_threads=True)
    with contextlib.suppress(OSError):
        os.write(_STDERR, f"{fault}\n".encode())
    os._exit(fault.exit_code)
