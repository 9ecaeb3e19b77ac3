"""The fork server: imports a scenario once, then forks per trial.  Started by `faults.trials` under LD_PRELOAD.

python -m tests.faults.server MODULE:FUNCTION      one JSON request per line in, one JSON answer per line out
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import mmap
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from vitrail.errors import VitrailError

RECORDS, NAME, PATH = 4096, 16, 248  # as in preload.c
KINDS = {"nothing": 0, "kill": 1, "errno": 2, "short-one": 3, "short-less": 4}
HANG_S = 60

Scenario = Callable[[Path], Callable[[], object]]


class _Record(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char * NAME), ("path", ctypes.c_char * PATH), ("other", ctypes.c_char * PATH))

    def words(self) -> list[str]:
        return [os.fsdecode(word) for word in (self.name, self.path, self.other)]


class _Control(ctypes.Structure):
    _fields_ = (
        ("count", ctypes.c_long),
        ("hits", ctypes.c_long),
        ("recorded", ctypes.c_long),
        ("first_hit", ctypes.c_long),
        ("records", _Record * RECORDS),
    )


class _Server:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.library = ctypes.CDLL(None)  # finds the preloaded functions
        self.control = _Control.from_buffer(mmap.mmap(-1, ctypes.sizeof(_Control)))  # shared with the forked child
        self.library.faults_pretend_sync(1)

    def trial(self, request: dict[str, object]) -> dict[str, object]:
        """Fork, prepare, arm, act; what the child says, how it ended, and what the library counted."""
        self.control.count = self.control.hits = self.control.recorded = 0
        self.control.first_hit = -1
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            self._child(request, writer)
        os.close(writer)
        with open(reader, "rb") as pipe:
            said = pipe.read()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        answer: dict[str, object] = {"result": None, "error": None, "crash": None, **(json.loads(said) if said else {})}
        control, first = self.control, self.control.first_hit
        traced = control.recorded if request["trace"] else 0
        assert traced <= RECORDS, f"{traced} calls: too many for the trace"
        return answer | {
            "exit": code,
            "calls": control.count,
            "hits": control.hits,
            "hit": control.records[first].words() if 0 <= first < RECORDS else None,
            "trace": [control.records[i].words() for i in range(traced)],
        }

    def _child(self, request: dict[str, object], writer: int) -> None:
        signal.alarm(HANG_S)
        said: dict[str, object] = {}
        try:
            said = self._act(request)
        except BaseException:
            said = {"crash": traceback.format_exc()}
        finally:
            with contextlib.suppress(OSError):
                view = json.dumps(said).encode()
                while view:
                    view = view[os.write(writer, view) :]
            os._exit(0)

    def _act(self, request: dict[str, object]) -> dict[str, object]:
        folder = str(request["folder"])
        act = self.scenario(Path(folder))
        at, error = (ctypes.c_long(int(str(request[word]))) for word in ("at", "errno"))
        kind, onward = KINDS[str(request["kind"])], int(bool(request["onward"]))
        self.library.faults_arm(ctypes.byref(self.control), os.fsencode(folder), at, kind, error.value, onward)
        try:
            return {"result": act()}
        except VitrailError as error:
            return {"error": {"code": error.code, "text": str(error)}}
        finally:
            self.library.faults_disarm()


def main() -> None:
    """Serve requests until standard input ends."""
    module, _, name = sys.argv[1].partition(":")
    server = _Server(getattr(importlib.import_module(module), name))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(server.trial(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
