"""A thread beside the work: it says that its rank lives, hears the others say so, and ends a run that cannot go on.

What is said lies in torchrun's store. An error that ends a rank is left there for the others, so that all end with it;
the work itself notices a lost connection at once, and asks here which rank it was.
"""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vitrail.errors import CODES, SystemFault, VitrailError
from vitrail.ranks.world import World

BEAT = 0.4  # seconds between two signs of life
DYING = 2.0  # seconds after its connections in which a killed process is seen to be dead
GRACE = 4.0  # seconds in which the work is to notice by itself what this thread knows
HINT = "see what it said last; then run the same command again, `train` with --resume, to go on from what was saved"


class Store(Protocol):
    """What is used of torch's TCPStore."""

    def set(self, key: str, value: str) -> None: ...
    def get(self, key: str) -> bytes: ...
    def check(self, keys: list[str]) -> bool: ...


@dataclass
class Beat:
    """A rank's last sign of life. since: when it last changed; moved: when its place last did; monotonic, seconds."""

    text: str = ""
    since: float = 0.0
    host: str = ""
    pid: int = 0
    where: str = "not started"
    waits: bool = False
    moved: float = 0.0


class Watch:
    """The signs of life of all ranks of one attempt of a run."""

    def __init__(self, store: Store, world: World, patience: float, *, lead: str) -> None:
        self._store, self._world, self._patience = store, world, patience
        self._lead = lead  # of this run's keys
        self._others = {rank: Beat(since=time.monotonic()) for rank in range(world.size) if rank != world.rank}
        self._lock = threading.Lock()
        self._cause: VitrailError | None = None
        self._noticed = 0.0
        self._quiet = threading.Event()
        self._count = 0
        self.where, self.waits = "starting", False
        self.waiting_since = time.monotonic()
        self.caught: Callable[[], str | None] = lambda: None
        self.stopping = False
        self._thread = threading.Thread(target=self._live, name="ranks", daemon=True)
        self._thread.start()

    def close(self, error: VitrailError | None) -> None:
        """Say that this rank has ended: in peace, or by an error that is the others' too."""
        self._quiet.set()
        self._thread.join(2 * GRACE)
        values = {} if error is None else _plain(error)
        try:
            self._post(self._world.rank, values)
        except RuntimeError:  # the store is gone, and with it whoever would read this
            return

    def cause(self, within: float) -> VitrailError | None:
        """Why the others cannot go on, as soon as it is known."""
        end = time.monotonic() + within
        while self._cause is None and time.monotonic() < end:
            time.sleep(BEAT / 8)
        with self._lock:
            return self._cause

    def suspects(self) -> list[str]:
        """The ranks that keep the others waiting."""
        return [
            f"rank {rank} on {beat.host or 'an unknown host'}: {beat.where}"
            for rank, beat in self._others.items()
            if not beat.waits or time.monotonic() - beat.since > GRACE
        ]

    def _live(self) -> None:
        while not self._quiet.wait(BEAT):
            try:
                self._say()
                for rank, beat in self._others.items():
                    self._hear(rank, beat)
                self._hear_of_itself()
            except RuntimeError as error:
                self._found(self._store_lost(error))
            self._end_what_hangs()

    def _say(self) -> None:
        self._count += 1
        mine = {"n": self._count, "host": socket.gethostname(), "pid": os.getpid()}
        key = f"{self._lead}/beat/{self._world.rank}"
        self._store.set(key, json.dumps({**mine, "where": self.where, "waits": self.waits}))
        stop = f"{self._lead}/stop"
        if not self.stopping and self.caught() is not None:
            self._store.set(stop, "1")
        self.stopping = self.stopping or self._store.check([stop])

    def _hear(self, rank: int, beat: Beat) -> None:
        now = time.monotonic()
        gone = beat.host == socket.gethostname() and not _alive(beat.pid)  # asked before the store: it may just leave
        if self._store.check([f"{self._lead}/end/{rank}"]):
            values = json.loads(self._store.get(f"{self._lead}/end/{rank}"))
            beat.since = now
            if values:
                self._found(_received(values, rank))
            return
        if gone:
            self._post(rank, _plain(_died(rank, beat)))
            return
        key = f"{self._lead}/beat/{rank}"
        text = self._store.get(key).decode() if self._store.check([key]) else ""
        if text != beat.text:
            said: dict[str, Any] = json.loads(text)
            if (said["where"], said["waits"]) != (beat.where, beat.waits):
                beat.where, beat.waits, beat.moved = said["where"], said["waits"], now
            beat.text, beat.host, beat.pid, beat.since = text, said["host"], said["pid"], now
        self._judge(rank, beat, now)

    def _judge(self, rank: int, beat: Beat, now: float) -> None:
        """A rank that gives no sign, or works on while this one waits, is waited for so long and no longer."""
        if not self._patience or not self.waits or now - self.waiting_since <= self._patience:
            return
        silent, busy = now - beat.since, now - beat.moved
        if silent > self._patience or (not beat.waits and busy > self._patience):
            what = f"rank {rank} keeps the others waiting for {self._patience:g} s"
            state = "no sign of life" if silent > GRACE else "its threads were printed where they stand"
            lost = _lost(what, [f"{beat.host}, process {beat.pid}: {beat.where}; {state}"], stuck=True)
            self._post(rank, _plain(lost))

    def _post(self, rank: int, values: dict[str, Any]) -> None:
        key = f"{self._lead}/end/{rank}"
        if not self._store.check([key]):  # the first one to tell is right
            self._store.set(key, json.dumps(values))

    def _found(self, cause: VitrailError) -> None:
        with self._lock:
            if self._cause is None:
                self._cause, self._noticed = cause, time.monotonic()

    def _hear_of_itself(self) -> None:
        mine = f"{self._lead}/end/{self._world.rank}"
        if self._store.check([mine]):  # the others have given this rank up
            self._found(_received(json.loads(self._store.get(mine)), self._world.rank))

    def _store_lost(self, error: RuntimeError) -> VitrailError:
        """The store is torchrun's, or rank 0's where it was started otherwise: it ends with them.

        A process that is killed loses its connections before it is seen to be dead, so it is asked for a while.
        """
        end = time.monotonic() + DYING
        while True:
            for rank, beat in self._others.items():
                if beat.host == socket.gethostname() and not _alive(beat.pid):
                    return _died(rank, beat)
            if time.monotonic() > end:
                break
            time.sleep(0.05)
        return _lost("torchrun, or rank 0, is gone: the ranks' store does not answer", [str(error).splitlines()[0]])

    def _end_what_hangs(self) -> None:
        if self._cause is None or time.monotonic() - self._noticed < GRACE:
            return
        if not self._quiet.is_set():  # the work hangs in what cannot be interrupted
            sys.stderr.write(f"{self._cause}\n")
            faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
            os._exit(self._cause.exit_code)


def _alive(pid: int) -> bool:
    """Whether a process of this machine runs; one that has ended and waits for its parent's question does not."""
    if not pid:
        return True  # it has not said yet which it is
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:  # another user's, or a system without /proc
        return True


def _lost(what: str, evidence: list[str], *, stuck: bool = False) -> SystemFault:
    hint = f"raise train.patience if so long a wait is right; {HINT}" if stuck else HINT
    return SystemFault("V706", what, evidence=evidence, hint=hint)


def _died(rank: int, beat: Beat) -> SystemFault:
    return _lost(f"rank {rank} died ({beat.host}, process {beat.pid})", [f"it was last seen: {beat.where}"])


def _plain(error: VitrailError) -> dict[str, Any]:
    return {"code": error.code, "what": error.what, "evidence": list(error.evidence), "hint": error.hint}


def _received(values: dict[str, Any], rank: int) -> VitrailError:
    kind = CODES[values["code"]][0]
    where = [] if kind is SystemFault and values["code"] == "V706" else [f"on rank {rank}"]
    return kind(values["code"], values["what"], evidence=[*values["evidence"], *where], hint=values["hint"])
