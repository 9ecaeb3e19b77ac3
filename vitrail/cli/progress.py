"""What a run looks like while it goes: one screen with a bar and its figures on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from vitrail.cli.render import ACCENT, Left, percent, say, tell, unheard
from vitrail.cli.render import talk as talk_aloud
from vitrail.errors import printable

if TYPE_CHECKING:
    from vitrail.evaluation.evaluate import Running


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

    def line(self, text: str) -> None:
        """A line above the bar, or alone where there is none."""
        if self._bar is not None:
            self._bar.console.print(printable(text), highlight=False, markup=False)
        else:
            say(text)


class Every:
    """Prints how good the answers are so far, each so many batches and at the end. talk: on stderr, not on stdout."""

    def __init__(self, batches: int, *, talk: bool) -> None:
        self._batches = batches
        self._tell = talk_aloud if talk else tell
        self._last: Running | None = None
        self._printed = 0

    def __call__(self, running: Running) -> None:
        self._last = running
        if running.step % self._batches == 0:
            self._print(running)

    def end(self) -> None:
        """The line over every picture, unless it was the last one printed."""
        if self._last is not None and self._last.step != self._printed:
            self._print(self._last)

    def _print(self, running: Running) -> None:
        try:
            self._tell(f"{running.line()}\n")
        except Left:  # files may be asked for as well
            unheard(sys.stdout)
        self._printed = running.step


class Progress(Bar):
    """A listener of training events: on a terminal a bar and, below it, the figures of the steps."""

    def __init__(self) -> None:
        super().__init__()
        self._means: dict[str, float] = {}
        self._figures = ""
        self._top1 = ""
        self._bad: set[int] = set()
        self._per_epoch = self._steps = 1
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
        self._per_epoch, self._steps = int(event["steps_per_epoch"]), int(event["steps"])
        if sys.stderr.isatty():
            self._bar = _screen(lambda: self._figures)
            self._task = self._bar.add_task("train", total=self._steps, epoch=self._epoch(0))
            self._bar.start()

    def _on_start(self, event: Mapping[str, Any]) -> None:
        self._line(str(event["parameters"]))

    def _on_resume(self, event: Mapping[str, Any]) -> None:
        if self._bar is not None:  # what was done before says nothing of how fast it goes now
            self._bar.reset(self._task, completed=int(event["step"]), epoch=self._epoch(int(event["step"]) - 1))

    def _on_step(self, event: Mapping[str, Any]) -> None:
        took = float(event["wait_s"]) + float(event["step_s"])
        now = {"loss": float(event["loss"]), "seconds": took, "waited": float(event["wait_s"])}
        now |= {"images": float(event["images_per_s"]) * took, "norm": float(event["norm"])}
        self._means = {key: 0.95 * self._means.get(key, value) + 0.05 * value for key, value in now.items()}
        if self._bar is not None:
            self._figures = self._told(event)
            step = int(event["step"])
            self._bar.update(self._task, completed=step, epoch=self._epoch(step - 1))

    def _told(self, event: Mapping[str, Any]) -> str:
        """The line of figures: means over about twenty steps, the rate and the memory as they are."""
        mean = self._means
        seconds = max(mean["seconds"], 1e-9)
        told = [
            f"loss {mean['loss']:.3f}",
            f"norm {mean['norm']:.3g}",
            f"lr {float(event['lr']):.1e}",
            f"{mean['images'] / seconds:,.0f} images/s",
            f"wait {100 * mean['waited'] / seconds:.0f} %",
            f"{float(event['memory_bytes']) / 1e9:.1f} GB",
            self._top1,
        ]
        return "  ".join(filter(None, told))

    def _epoch(self, step: int) -> str:
        """The epoch that the step after so many is in, of all that are begun."""
        return f"{max(step, 0) // self._per_epoch + 1}/{-(-self._steps // self._per_epoch)}"

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

    def _on_evaluation(self, event: Mapping[str, Any]) -> None:
        top1 = percent(float(event["top1"]))
        self._top1 = f"top-1 {100 * float(event['top1']):.1f} %"
        epoch = round(int(event["step"]) / self._per_epoch, 2)
        self._line(f"epoch {epoch:3g}  loss {self._means.get('loss', 0.0):.4f}  held-out top-1 {top1}")

    def _on_end(self, event: Mapping[str, Any]) -> None:
        if event["by"] != "schedule":
            why = {"patience": "no evaluation was better for so long", "time": "its time is over"}[event["by"]]
            self._line(f"ended after step {event['step']:,} of {self._steps:,}: {why}")
        if self._overflows:
            self._line(f"{event['overflows']} of {event['step']} steps overflowed fp16 and were left out")
        for line in self._profiled:
            self._line(line)

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            say(text)


def _screen(figures: Callable[[], str]) -> Any:
    """A bar with the epoch, the steps and the time that is left, and below it a line of figures."""
    from rich.console import Console, RenderableType
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Rich
    from rich.text import Text

    class Screen(Rich):
        def get_renderables(self) -> Iterable[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            yield Text(figures(), no_wrap=True, overflow="ellipsis")

    return Screen(
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(bar_width=None, complete_style=ACCENT, finished_style=ACCENT),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        expand=True,
    )
