"""`weights list` and `weights pull`: published weight files, by name, from the net into the cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vitrail import disk, remote
from vitrail.errors import UsageError, WeightsError, nearest
from vitrail.models.count import parameters
from vitrail.weights import published as rows
from vitrail.weights.published import Published

MIB = 1 << 20


@dataclass(frozen=True)
class Listed:
    """A published row, and whether its file lies in the cache. mib: as listed, else four bytes a parameter."""

    row: Published
    mib: float
    mib_is_listed: bool
    cached: bool

    def to_json(self) -> dict[str, object]:
        """The row in plain values."""
        row = self.row
        return {
            "name": row.name,
            "variant": row.variant,
            "classes": row.classes,
            "outputs": row.count,
            "head_valid": row.head_valid,
            "mib": round(self.mib, 1),
            "mib_is_listed": self.mib_is_listed,
            "measured": [{"by": one.by, "top1": one.top1, "top5": one.top5} for one in row.measured],
            "protocol": row.protocol,
            "policy": row.policy.to_json(),
            "dialect": row.dialect,
            "licence": row.licence,
            "url": row.url,
            "mirror": row.mirror,
            "sha256_prefix": row.sha256_prefix,
            "pull_only": row.pull_only,
            "source": row.source,
            "cached": self.cached,
        }


@dataclass(frozen=True)
class Pulled:
    """What `weights_pull` fetched, or found in the cache: a file, or the folder of a hub model.

    row: the published row, where it is one. notes: what to know before it is opened.
    """

    name: str
    path: Path
    bytes: int
    row: Published | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The result in plain values."""
        known = None if self.row is None else self.row.name
        return {
            "name": self.name,
            "published": known,
            "path": str(self.path),
            "bytes": self.bytes,
            "notes": list(self.notes),
        }


def weights_list(*words: str, cache: Path | None = None) -> tuple[Listed, ...]:
    """The published rows in whose name, classes, dialect or source every word occurs; WeightsError V203 for none.

    >>> [one.row.name for one in weights_list("patch8", "augreg2")]
    ['vit_base_patch8_224.augreg2_in21k_ft_in1k']
    """
    found = []
    for name in rows.names():
        row = rows.published(name)
        text = f"{row.name} {row.classes} {row.dialect} {row.protocol} {row.source} {row.url}".lower()
        if all(word.lower() in text for word in words):
            known = row.mib if row.size is None else row.size / MIB
            mib = known or 4 * parameters(row.config()) / MIB
            found.append(Listed(row, mib, known is not None, remote.are_pulled(row.url, cache)))
    if not found:
        raise WeightsError(
            "V203",
            f"no published weights have `{' '.join(words)}` in their names",
            hint=nearest(words[-1], rows.names()) or "`vitrail weights list` without a word lists all",
        )
    return tuple(found)


def weights_pull(
    name: str,
    *,
    out: Path | None = None,
    cache: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
    how: remote.How | None = None,
) -> Pulled:
    """The weights of a published name or file name, of `hf:OWNER/NAME`, or of an https URL, in the cache.

    out: a file or folder that gets a copy; UsageError V006 when it is there. Other errors as `remote.pull`, and
    WeightsError V203 for a name that nobody published.
    """
    row = _row(name)
    url = name if row is None else row.url
    target = None if out is None else _target(out, url)
    size, sha256 = (row.size, row.sha256_prefix) if row is not None else (None, None)
    path = remote.pull_weights(url, size=size, sha256=sha256, cache=cache, progress=progress, how=how)
    if target is not None:
        path = _copied(path, target)
    files = [path] if path.is_file() else [file for file in path.iterdir() if not file.name.startswith(".")]
    return Pulled(name, path, sum(file.stat().st_size for file in files), row, _notes(row))


def _row(name: str) -> Published | None:
    """The row that a name, a file name or a URL means; None for a URL or a hub model without one."""
    if remote.is_hub(name) or "://" in name:
        return next((row for row in map(rows.published, rows.names()) if row.url == name), None)
    files = rows.with_file_name(name)
    if len(files) > 1:
        raise WeightsError(
            "V203",
            f"{len(files)} published files are called `{name}`",
            hint=f"name one: {', '.join(f.name for f in files)}",
        )
    return files[0] if files else rows.published(name)


def _target(out: Path, url: str) -> Path:
    file = url.rsplit("/", 1)[-1]
    target = out / file if out.is_dir() else out
    if target.exists():
        raise UsageError("V006", f"`{target}` exists already", hint="name another place, or remove it")
    return target


def _copied(path: Path, target: Path) -> Path:
    if path.is_file():
        disk.make_folder(target.absolute().parent)
        disk.write_file(target, lambda out: _copy(path, out))
        return target
    with disk.new_folder(target) as folder:
        for file in sorted(path.iterdir()):
            if not file.name.startswith("."):
                disk.write_new(folder / file.name, lambda out, file=file: _copy(file, out))  # type: ignore[misc]
    return target


def _copy(path: Path, out: IO[bytes]) -> None:
    with path.open("rb") as file:
        shutil.copyfileobj(file, out, disk.CHUNK)


def _notes(row: Published | None) -> tuple[str, ...]:
    if row is None:
        return ()
    notes = [f"{row.licence}, {row.source}"]
    if row.pull_only:
        notes.append("a zip with one .pth inside: unpack it first")
    if not row.head_valid:
        notes.append("its head is of zeros: features, or a start for training" if row.count else "it has no head")
    return tuple(notes)
