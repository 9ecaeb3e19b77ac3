"""`data prepare`: published data sets in the layout that opens, made once and again from where a stop left them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vitrail import remote
from vitrail.data import imagenet
from vitrail.data.sources import cifar
from vitrail.errors import DataError, UsageError, WeightsError, nearest
from vitrail.formats.extract import extract

# name -> (address, MD5 as stated on www.cs.toronto.edu/~kriz/cifar.html, files inside)
CIFAR: dict[str, tuple[str, str, int]] = {
    "cifar10":  ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",  "c32a1d4ab5d03f1284b67883e8d87530", 8),
    "cifar100": ("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", 4),
}  # fmt: skip
KNOWN = ("imagenet", *CIFAR, "archive")

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


@dataclass(frozen=True)
class Net:
    """Where what is fetched is kept, and how patiently it is fetched."""

    cache: Path | None = None
    how: remote.How | None = None


def data_prepare(
    what: str,
    dst: Path,
    *,
    src: Path | None = None,
    progress: Progress | None = None,
    net: Net | None = None,
) -> Prepared:
    """The data set `what` in the folder `dst`.

    src: the archive, or the folder of those that were fetched by hand; CIFAR is fetched without it. UsageError V006
    where `dst` holds something else, V007 for a wrong call; DataError for archives that do not stand; errors of
    `remote.pull` for CIFAR.
    """
    if what not in KNOWN:
        raise UsageError("V007", f"no data set `{what}` can be prepared", hint=nearest(what, KNOWN))
    if src is not None and not (src.is_dir() if what == "imagenet" else src.is_file()):
        kind, hint = ("folder", "name that of its archives") if what == "imagenet" else ("file", "name the archive")
        raise DataError("V402", f"`{src}` is no {kind}", hint=hint)
    if what == "imagenet":
        return _imagenet(_given(src, what), dst, progress)
    if what == "archive":
        return _archive(_given(src, what), dst, progress)
    return _cifar(what, src, dst, progress, net or Net())


def _archive(src: Path, dst: Path, progress: Progress | None) -> Prepared:
    done = extract(src, _new(dst), progress=progress)
    return Prepared("archive", dst, done.files, (f"{done.files:,} files, {done.bytes:,} bytes",))


def _imagenet(src: Path, dst: Path, progress: Progress | None) -> Prepared:
    made = imagenet.prepare(src, dst, progress=progress)
    counts = f"{made.train:,} pictures to train on, {made.val:,} to validate, {made.classes:,} classes"
    return Prepared("imagenet", dst, made.train + made.val, (counts, *made.notes))


def _cifar(what: str, src: Path | None, dst: Path, progress: Progress | None, net: Net) -> Prepared:
    """Fetched, or as it was fetched by hand; checked against the MD5 that its page states."""
    url, md5, files = CIFAR[what]
    if cifar.is_here(dst):
        return Prepared(what, dst, files, ("it is there already",))
    archive = src or remote.pull(url, cache=net.cache, progress=progress, how=net.how)
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != md5:
        raise WeightsError(
            "V207",
            f"`{archive}` is not the file of {url}",
            evidence=[f"MD5 {found}, published is {md5}"],
            hint="remove it, and fetch it again",
        )
    done = extract(archive, _new(dst))
    return Prepared(what, dst, done.files, (f"{url}: {done.files} files, MD5 as published",))


def _new(dst: Path) -> Path:
    if dst.exists():
        raise UsageError("V006", f"`{dst}` exists already", hint="name a folder that is not there yet")
    return dst


def _given(src: Path | None, what: str) -> Path:
    if src is None:
        raise UsageError("V007", f"`{what}` is prepared from something", hint=f"vitrail data prepare {what} SRC DST")
    return src
