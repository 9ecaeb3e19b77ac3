"""Every picture of a source looked at once; what was seen before and has not changed is not decoded again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from vitrail.data.batches import BadPicture
from vitrail.data.kept import Kept, Stamp, kept_looks
from vitrail.data.looks import Look, look, refused
from vitrail.data.sources import Source
from vitrail.data.threads import PATIENCE, Later, Threads, working_on
from vitrail.errors import PictureError

Progress = Callable[[int, int], object]  # (pictures done, pictures in all)
Seen = tuple[Path | None, Stamp | None, Look]  # the file, its stamp where there is something to keep, what was seen
TOGETHER = 256  # looks that are kept in one go


def scan(
    source: Source, *, workers: int, folder: Path | None = None, progress: Progress | None = None
) -> tuple[Look, ...]:
    """A look at each picture, in order. folder: of the kept looks. SystemFault V702 where a read never returns."""
    total = len(source.labels)
    looks: list[Look] = []
    with kept_looks(folder) as kept:
        waiting: list[Seen] = []
        for seen in _seen(source, kept, max(1, workers)):
            looks.append(seen[2])
            if seen[0] is None or seen[1] is not None:
                waiting.append(seen)
            if len(waiting) == TOGETHER:
                kept.keep(waiting)
                waiting.clear()
            if progress is not None:
                progress(len(looks), total)
        kept.keep(waiting)
    return tuple(looks)


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
    """Looks in order of their pictures; everything that touches a file is done by threads, as it may hang."""
    threads = Threads(workers, patience=PATIENCE)
    waiting: deque[Later[Seen]] = deque()
    try:
        for index in range(len(source.labels)):
            waiting.append(threads.submit(partial(_look, source, kept, index)))
            if len(waiting) > 4 * workers:
                yield threads.result(waiting.popleft())
        while waiting:
            yield threads.result(waiting.popleft())
    finally:
        threads.close()


def _look(source: Source, kept: Kept, index: int) -> Seen:
    """A look at one picture; with its stamp where it is new and nobody touched the file meanwhile."""
    title = source.title(index)
    with working_on(title):
        try:
            stored = source.picture(index)
        except PictureError as error:  # an archive's member, a row of a table: bad like any other picture
            return None, None, refused(Look("", 0), error, title)
        if not isinstance(stored, Path):
            return None, None, look(stored, title, known=kept.of_content)
        stamp = Stamp.of(stored)
        if stamp is not None and (known := kept.known(stored, stamp)) is not None:
            return stored, None, known
        found = look(stored, title, known=kept.of_content)
        return stored, stamp if stamp == Stamp.of(stored) else None, found
