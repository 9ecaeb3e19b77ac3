"""What a run looks like while it goes: a bar with loss and accuracy on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from vitrail.cli.render import ACCENT, percent, say


class Bar:
    """A bar on a terminal, taken down whatever happens; nothing elsewhere."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


class Counter(Bar):
    """A bar that counts pictures, or bytes with their speed. Called with (done, in all)."""

    def __init__(self, what: str, *, bytes: bool = False) -> None:
        super().__init__()
        self._what = what
        self._bytes = bytes

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None:
            if not sys.stderr.isatty():
                return
            from rich import progress
            from rich.console import Console

            columns: tuple[progress.ProgressColumn, ...] = progress.Progress.get_default_columns()
            if self._bytes:
                left = progress.TimeRemainingColumn(compact=True)
                columns = (progress.BarColumn(), progress.DownloadColumn(), progress.TransferSpeedColumn(), left)
            self._bar = progress.Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self._what, total=total)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total)


class Progress(Bar):
    """A listener of training events."""

    def __init__(self) -> None:
        super().__init__()
        self._loss = 0.0
        self._bad: set[int] = set()
        self._per_epoch = 1
        self._overflows = 0
        self._profiled: list[str] = []

    def __call__(self, event: Mapping[str, object]) -> None:
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(event)

    def _on_note(self, event: Mapping[str, Any]) -> None:
        self._line(str(event["text"]))

    def _on_warning(self, event: Mapping[str, Any]) -> None:
        self._line(f"warning: {event.get('text') or event.get('what')}")

    def _on_recipe(self, event: Mapping[str, Any]) -> None:
        for line in str(event["text"]).splitlines():
            say(f"  {line}" if line else "")
        say("")

    def _on_length(self, event: Mapping[str, Any]) -> None:
        self._per_epoch = int(event["steps_per_epoch"])
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Line

        self._bar = Line(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None, complete_style=ACCENT, finished_style=ACCENT),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[top1]}"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task("train", total=int(event["steps"]), epoch="1", loss="-", top1="")
        self._bar.start()

    def _on_step(self, event: Mapping[str, Any]) -> None:
        loss = float(event["loss"])
        self._loss = loss if self._loss == 0.0 else 0.95 * self._loss + 0.05 * loss
        if self._bar is not None:
            epoch = str(int(event["epoch"]) + 1)
            self._bar.update(self._task, completed=int(event["step"]), epoch=epoch, loss=f"{self._loss:.3f}")

    def _on_bad(self, event: Mapping[str, Any]) -> None:
        if event["index"] not in self._bad:
            self._bad.add(int(event["index"]))
            self._line(f"warning: {event['why']}")

    def _on_skipped(self, event: Mapping[str, Any]) -> None:
        self._line(f"warning: step {event['step']} skipped: loss {event['loss']}, gradient norm {event['norm']}")

    def _on_overflow(self, event: Mapping[str, Any]) -> None:
        self._overflows += 1

    def _on_dump(self, event: Mapping[str, Any]) -> None:
        self._line(f"{event['what']} of step {event['step']} in {event['file']}")

    def _on_capture(self, event: Mapping[str, Any]) -> None:
        self._line(f"warning: step {event['step']} broke, kept in {event['file']}")

    def _on_profile(self, event: Mapping[str, Any]) -> None:
        self._profiled += ["", f"profile in {event['folder']} (trace.json for chrome://tracing or Perfetto)"]
        self._profiled += event["table_s"]

    def _on_end(self, event: Mapping[str, Any]) -> None:
        if self._overflows:
            self._line(f"{event['overflows']} of {event['step']} steps overflowed fp16 and were left out")
        for line in self._profiled:
            self._line(line)

    def _on_evaluation(self, event: Mapping[str, Any]) -> None:
        top1 = percent(float(event["top1"]))
        if self._bar is not None:
            self._bar.update(self._task, top1=f"top-1 {top1}")
        epoch = int(event["step"]) / self._per_epoch
        self._line(f"epoch {epoch:3g}  loss {self._loss:.4f}  held-out top-1 {top1}")

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            say(text)
