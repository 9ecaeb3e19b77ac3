"""A window of training steps under torch's profiler: a Chrome trace, and the operations that took the most time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vitrail import disk
from vitrail.training.watch_configs import Profile

FOLDER = "profile"
ROWS = 15  # of the table


class Profiler:
    """Records the steps of a window; a window that a stop cut is recorded from the resume on, under its own name."""

    def __init__(self, config: Profile, folder: Path, tell: Callable[..., None]) -> None:
        self._folder, self._tell = folder, tell
        self._first, self._last = config.first, config.first + config.steps - 1
        self._recording: Any = None
        self._seen: list[int] = []
        self._latest = 0

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Around a step, counted from 1; in the window its operations are recorded."""
        self._latest = number
        if not self._first <= number <= self._last:
            yield
            return
        if self._recording is None:
            self._recording = _recorder()
            self._recording.start()
        with torch.profiler.record_function(f"step {number}"):
            yield
        self._seen.append(number)
        if number == self._last:
            self._write()

    def close(self) -> None:
        """Write a window that did not come to its end; say it where no step came into it."""
        if self._recording is not None:
            self._write()
        if 0 < self._latest < self._first:
            text = f"watch.profile begins at step {self._first}, the run ended before it: nothing was profiled"
            self._tell("warning", text=text)

    def _write(self) -> None:
        recording, self._recording = self._recording, None
        recording.stop()
        if not self._seen:
            return
        name = f"steps-{self._seen[0]}-{self._seen[-1]}"
        path = self._folder / FOLDER / name
        lines = table(recording, steps=len(self._seen))
        if path.is_dir():
            disk.remove_folder(path)
        with disk.new_folder(path) as aside:
            recording.export_chrome_trace(str(aside / "trace.json"))
            disk.write_new(aside / "operations.txt", "".join(f"{line}\n" for line in lines).encode())
        self._tell("profile", folder=f"{FOLDER}/{name}", table_s=lines)


def _recorder() -> Any:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it tells stderr of every start and stop, read at its first use
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    return torch.profiler.profile(activities=kinds, acc_events=True)


def table(recording: Any, *, steps: int) -> list[str]:
    """The operations with the most time of their own, the device's where there is one, and how often they ran."""
    events = [event for event in recording.key_averages() if not event.key.startswith(("step ", "ProfilerStep"))]
    on_device = any(event.self_device_time_total > 0 for event in events)
    spent = [(event.self_device_time_total if on_device else event.self_cpu_time_total, event) for event in events]
    total = sum(time for time, _ in spent) or 1.0
    spent.sort(key=lambda pair: -pair[0])
    lines = [f"{'operation':48}  {'calls a step':>12}  {'ms a step':>10}  {'share':>7}"]
    for time, event in spent[:ROWS]:
        calls, each = event.count / steps, time / 1000 / steps
        lines.append(f"{event.key[:48]:48}  {calls:12.1f}  {each:10.3f}  {100 * time / total:6.1f} %")
    return lines
