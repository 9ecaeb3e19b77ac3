"""`data prepare`: published data sets in the layout that opens, made once and again from where a stop left them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vitrail.errors import UsageError, nearest
from vitrail.formats.extract import extract

Progress = Callable[[int, int], object]  # (bytes so far, bytes in all)


@dataclass(frozen=True)
class Prepared:
    """What was made, and where. notes: what to know of it."""

    what: str
    path: Path
    files: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The result in plain values."""
        return {"what": self.what, "path": str(self.path), "files": self.files, "notes": list(self.notes)}


def data_prepare(what: str, dst: Path, *, src: Path | None = None, progress: Progress | None = None) -> Prepared:
    """The data set `what` in the folder `dst`.

    src: the archive, or the folder of those that were fetched by hand.
    """
    if what not in MAKERS:
        raise UsageError("V007", f"no data set `{what}` can be prepared", hint=nearest(what, MAKERS))
    return MAKERS[what](src, dst, progress)


def _archive(src: Path | None, dst: Path, progress: Progress | None) -> Prepared:
    done = extract(_given(src, "archive"), dst, progress=progress)
    return Prepared("archive", dst, done.files, (f"{done.files:,} files, {done.bytes:,} bytes",))


def _given(src: Path | None, what: str) -> Path:
    if src is None:
        raise UsageError("V007", f"`{what}` is prepared from something", hint=f"vitrail data prepare {what} SRC DST")
    return src


MAKERS: dict[str, Callable[[Path | None, Path, Progress | None], Prepared]] = {
    "archive": _archive,
}
