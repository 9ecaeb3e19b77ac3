"""Making a bundle whole, and adding an engine to one: new files first, then the manifest in one replacement."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from vitrail import disk
from vitrail.bundle.manifest import NAME, Engine, File, Manifest, at_least_ours
from vitrail.bundle.read import check
from vitrail.errors import BundleError, UsageError, read_fault, write_fault

Content = bytes | Callable[[IO[bytes]], object]

ADDED = ("engines", "proof")  # the folders that an engine brings files to


def write_bundle(
    folder: Path, manifest: Manifest, files: Mapping[str, Content], *, engines: Mapping[str, Engine] | None = None
) -> Manifest:
    """Write a new bundle, whole or not at all; the returned manifest lists the files.

    files: content by relative path: bytes, or a function that writes to a binary file. engines: by name, each with
    its file among them.
    UsageError V006 when `folder` exists; SystemFault V701 when the disk refuses.
    """
    if folder.exists() or folder.is_symlink():
        raise UsageError("V006", f"`{folder}` exists already", hint="give another folder, or remove it first")
    disk.make_folder(folder.parent)
    with disk.new_folder(folder) as aside:
        listed = {name: _write(aside, name, content) for name, content in sorted(files.items())}
        whole = replace(manifest, files=listed, engines={**manifest.engines, **(engines or {})})
        disk.write_new(aside / NAME, whole.to_json())
    return whole


def add_engine(folder: Path, name: str, *, engine: Engine, files: Mapping[str, bytes], described: Manifest) -> Manifest:
    """Add an engine's files and its proof to the bundle of the model that is described; the manifest is replaced last.

    A kill in between leaves the old bundle valid; what it left behind is removed by the next call. An engine that is
    there with the same bytes is left alone. Licences that were unknown are stated from now on. BundleError V506 for
    other weights, or the same engine with other bytes; UsageError V007 for another licence than the one that is stated.
    """
    with _alone(folder), check(folder) as opened:
        manifest = opened.manifest
        licences = manifest.licences.with_told(described.licences)
        if manifest.weights_sha256 != described.weights_sha256:
            raise BundleError(
                "V506",
                f"`{folder}` is a bundle of other weights",
                evidence=[f"bundle {manifest.weights_sha256}", f"engine {described.weights_sha256}"],
                hint="export to a new folder",
            )
        listed = {path: File(len(data), disk.sha256_bytes(data)) for path, data in sorted(files.items())}
        taken = sorted(set(listed) & set(manifest.files))
        if name in manifest.engines or taken:
            same = manifest.engines.get(name) == engine and all(manifest.files.get(p) == f for p, f in listed.items())
            if same and licences == manifest.licences:
                return manifest
            if not same:
                raise BundleError(
                    "V506",
                    f"`{folder}` holds the engine `{name}` already, with other bytes",
                    evidence=[f"`{path}`" for path in taken[:5] if manifest.files[path] != listed[path]],
                    hint="export to a new folder",
                )
        _remove_unlisted(folder, manifest.files)
        for path, data in sorted(files.items()):
            _write(folder, path, data)
        engines = {**manifest.engines, name: engine}
        files_now = {**manifest.files, **listed}
        added = replace(
            manifest, files=files_now, engines=engines, licences=licences, format=at_least_ours(manifest.format)
        )
        disk.write_file(folder / NAME, added.to_json())
    return added


def tools(names: Sequence[str]) -> dict[str, str]:
    """The installed versions of these distributions; `absent` for one that is not installed."""
    import importlib.metadata  # which loads half of `email`

    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def _write(folder: Path, name: str, content: Content) -> File:
    """Write one file and make its folders' names durable; size and hash of what then lies there."""
    path = folder
    for part in name.split("/")[:-1]:
        path = path / part
        if path.is_symlink():
            raise BundleError("V503", f"`{path}` is a link", hint="put the folder itself in its place")
        disk.make_folder(path)
    target = folder / name
    disk.write_file(target, content)
    return File(target.stat().st_size, disk.sha256_file(target))


def _remove_unlisted(folder: Path, listed: Mapping[str, File]) -> None:
    """What an add that was killed left behind; files elsewhere in the folder are the user's."""
    disk.remove_leftovers(folder)
    for top in ADDED:
        for path in sorted((folder / top).rglob("*")) if not (folder / top).is_symlink() else ():
            if not path.is_dir() and path.relative_to(folder).as_posix() not in listed:
                try:
                    path.unlink()
                except OSError as error:
                    raise write_fault(error, path) from error


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process adds to this folder. The lock is on the folder itself, so it leaves no file."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise read_fault(error, folder) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
