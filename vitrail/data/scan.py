"""Every picture of a source looked at once; what was seen before and has not changed is not decoded again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from vitrail.data.batches import BadPicture
from vitrail.data.kept import Kept, Stamp, kept_looks
from vitrail.data.looks import Look, look
from vitrail.data.sources import Source
from vitrail.data.threads import PATIENCE, Later, Threads, working_on

Progress = Callable[[int, int], object]  # (pictures done, pictures in all)
Seen = tuple[int, Path | None, Stamp | None, Look]  # index, file, its stamp before it was read, what was seen
TOGETHER = 256  # looks that are kept in one go


def scan(
    source: Source, *, workers: int, folder: Path | None = None, progress: Progress | None = None
) -> tuple[Look, ...]:
    """A look at each picture, in order. folder: of the kept looks. SystemFault V702 where a read never returns."""
    total = len(source.labels)
    looks: dict[int, Look] = {}
    with kept_looks(folder) as kept:
        waiting: list[tuple[Path | None, Stamp | None, Look]] = []
        for index, path, stamp, seen in _seen(source, kept, max(1, workers)):
            looks[index] = seen
            if stamp is not None or path is None:
                waiting.append((path, stamp, seen))
            if len(waiting) == TOGETHER:
                kept.keep(waiting)
                waiting.clear()
            if progress is not None:
                progress(len(looks), total)
        kept.keep(waiting)
    return tuple(looks[index] for index in range(total))


def find_bad(
    source: Source, *, workers: int, folder: Path | None = None, progress: Progress | None = None
) -> list[BadPicture]:
    """Every picture of the source that cannot be read, each decoded whole once."""
    if source.memory is not None:
        return []
    looks = scan(source, workers=workers, folder=folder, progress=progress)
    titles = ((index, seen, source.title(index)) for index, seen in enumerate(looks) if not seen.good)
    return [BadPicture(index, title, seen.error(title)) for index, seen, title in titles]


def _seen(source: Source, kept: Kept, workers: int) -> Iterator[Seen]:
    """Looks as they come; known ones carry no stamp, as there is nothing to keep."""
    threads = Threads(workers, patience=PATIENCE)
    waiting: deque[Later[Seen]] = deque()
    try:
        for index in range(len(source.labels)):
            stored = source.picture(index)
            stamp = Stamp.of(stored) if isinstance(stored, Path) else None
            if isinstance(stored, Path) and stamp is not None and (known := kept.known(stored, stamp)) is not None:
                yield index, stored, None, known
                continue
            waiting.append(threads.submit(partial(_look, source, kept, index, stamp)))
            if len(waiting) > 4 * workers:
                yield threads.result(waiting.popleft())
        while waiting:
            yield threads.result(waiting.popleft())
    finally:
        threads.close()


def _look(source: Source, kept: Kept, index: int, stamp: Stamp | None) -> Seen:
    """A look at one picture, with its stamp if nobody touched the file meanwhile."""
    title = source.title(index)
    with working_on(title):
        stored = source.picture(index)
        found = look(stored, title, known=kept.of_content)
    if not isinstance(stored, Path):
        return index, None, None, found
    return index, stored, stamp if stamp == Stamp.of(stored) else None, found
