"""Which trackers there are, what each needs, and how the rows reach them."""

from __future__ import annotations

import importlib
import importlib.util
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vitrail.disk import write_file
from vitrail.errors import UsageError

Row = Mapping[str, object]
_PLACES = {"step": "train", "evaluation": "evaluation"}  # event -> the first word of its figures
_ABOUT = ("event", "step", "epoch")


class Tracker(Protocol):
    """One tracker, opened for one run."""

    def row(self, row: Row, /) -> None:
        """Take one row; `scalars` gives its figures."""
        ...

    def close(self) -> None:
        """Write what waits; the run has ended or was stopped."""
        ...


@dataclass(frozen=True)
class Run:
    """What a tracker is told of a run. step: where it begins, above 0 after a resume; recipe: its plain values."""

    folder: Path
    step: int
    recipe: Mapping[str, object]

    @property
    def name(self) -> str:
        """The run folder's own name."""
        return self.folder.resolve().name

    def identity(self, tracker: str) -> str:
        """A name of this run that no other has; kept in its folder, so that a resume goes on with the same one."""
        path = self.folder / f"{tracker}-id"
        if not path.is_file():
            write_file(path, f"{secrets.token_hex(8)}\n".encode())
        return path.read_text().strip()


# tracker -> (the package that it needs, the extra of vitrail that installs it); its file here has `open_run(run)`
TRACKERS = {
    "tensorboard": ("tensorboard", "tensorboard"),
    "wandb": ("wandb", "wandb"),
    "mlflow": ("mlflow", "mlflow"),
}


def scalars(row: Row) -> dict[str, float]:
    """The figures of a row as trackers name them; none for rows that are no figures.

    >>> scalars({"event": "step", "step": 3, "epoch": 0, "loss": 0.5, "wait_s": 1.0, "step_s": 3.0})
    {'train/loss': 0.5, 'train/wait_s': 1.0, 'train/step_s': 3.0, 'train/wait_share': 0.25}
    """
    place = _PLACES.get(str(row["event"]))
    if place is None:
        return {}
    found = {f"{place}/{key}": float(v) for key, v in row.items() if isinstance(v, (int, float)) and key not in _ABOUT}
    waited, took = (found.get(f"{place}/{key}", 0.0) for key in ("wait_s", "step_s"))
    return found | ({f"{place}/wait_share": waited / (waited + took)} if waited + took > 0 else {})


def need_trackers(names: Sequence[str]) -> None:
    """UsageError V003 with the pip command when one of them lacks its package."""
    for name in names:
        package, extra = TRACKERS[name]
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                "V003",
                f"journal.to names {name}, and {package} is not installed",
                hint=f'pip install "vitrail[{extra}]"',
            )


class Trackers:
    """All trackers of a run. One that fails is told of once and left out from there on."""

    def __init__(self, names: Sequence[str], run: Run, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._open: dict[str, Tracker] = {}
        for name in names:
            self._try(name, self._begin, name, run)

    def _begin(self, name: str, run: Run) -> None:
        self._open[name] = importlib.import_module(f"vitrail.training.trackers.{name}").open_run(run)

    def row(self, row: Row) -> None:
        """Hand a row to each of them."""
        for name, tracker in list(self._open.items()):
            self._try(name, tracker.row, row)

    def close(self) -> None:
        """Close each of them."""
        for name, tracker in list(self._open.items()):
            self._try(name, tracker.close)
        self._open.clear()

    def _try(self, name: str, call: Callable[..., None], *given: object) -> None:
        try:
            call(*given)
        except Exception as error:  # whatever a foreign package calls its faults: a run does not end by them
            self._open.pop(name, None)
            self._warn(f"{name} gets no more rows of this run: {type(error).__name__}: {error}")
