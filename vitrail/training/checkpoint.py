"""Checkpoints: generations that are whole or absent, checked by hash, chosen by step and never by a file's word.

checkpoints/
  step-00001234/        a generation, see `generation.py`
  step-00001235.bad/    a damaged one that a resume passed over; nobody reads it again
  latest  best          names for people and scripts; nothing here trusts them
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from vitrail import disk
from vitrail.errors import NumbersBroke, RunError, SystemFault, UsageError, VitrailError, read_fault, write_fault
from vitrail.formats import safetensors
from vitrail.training.generation import (
    FORMAT,
    MANIFEST,
    STATE,
    SUFFIX,
    VERSION,
    Snapshot,
    canonical,
    load,
    manifest_of,
    sealed,
    step_name,
    step_of,
    verify,
)

CHECKPOINTS = "checkpoints"  # the folder of a run's generations
RESERVE = 1.1  # space asked for, as a multiple of what is saved
_FILE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DAMAGE = ("V604", "V607")  # what a resume falls back over; another version (V605) is no damage and is refused
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL)


def save(folder: Path, snapshot: Snapshot, *, keep: int, best: bool = False) -> Path:
    """Save a generation in `folder`, read it back, and only then remove all but the `keep` newest and the best one.

    A step that is saved already with the same tensors is not saved again (`best` is then added to it). Returns the
    generation. The caller holds the run folder's lock.
    SystemFault V701 when it does not fit, cannot be written or does not read back: what stood before still stands.
    RunError V601 when the step stands there with other tensors. NumbersBroke V811 for NaN in the state.
    """
    if keep < 1 or not 0 <= snapshot.step < 10**12:
        raise UsageError("V007", f"keep {keep}, step {snapshot.step}", hint="keep at least 1; steps count from 0")
    assert all(_FILE.fullmatch(name) for name in snapshot.files), sorted(snapshot.files)
    disk.make_folder(folder)
    disk.remove_leftovers(folder)
    state = _state_bytes(snapshot)
    path = folder / step_name(snapshot.step)
    if _is_good(path):
        _accept(path, snapshot, best)
    else:
        _check_space(folder, snapshot, len(state))
        _clear(path)
        _write(path, snapshot, state, best)
        _read_back(path)
    disk.write_file(folder / "latest", f"{path.name}\n".encode())
    if best:
        disk.write_file(folder / "best", f"{path.name}\n".encode())
    _prune(folder, snapshot.step, keep)
    return path


def _is_good(path: Path) -> bool:
    if not os.path.lexists(path):
        return False
    try:
        with _read_in_save(path):
            verify(path)
    except RunError as error:
        if error.code not in _DAMAGE:
            raise
        return False
    return True


@contextlib.contextmanager
def _read_in_save(path: Path) -> Iterator[None]:
    """What the system does not let a save read is a fault of the save, and never taken for damage."""
    try:
        yield
    except VitrailError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno in _NO_FILE:
            raise
        raise SystemFault(
            "V701",
            f"the save met `{path}` and cannot read it: {cause.strerror}",
            evidence=[error.what, *error.evidence],
            hint="check the disk; nothing saved before was touched",
        ) from error


def _clear(path: Path) -> None:
    """Move what stands damaged under a name that is needed now out of the way."""
    try:
        if os.path.lexists(path):
            _put_aside(path)
    except OSError as error:
        raise write_fault(error, path) from error


def _state_bytes(snapshot: Snapshot) -> bytes:
    try:
        return canonical(snapshot.state) + b"\n"
    except ValueError as error:
        raise NumbersBroke(
            "V811", f"the state of step {snapshot.step} cannot be saved: {error}", hint="lower the learning rate"
        ) from error


def _check_space(folder: Path, snapshot: Snapshot, state: int) -> None:
    tensors = [(name, tensor) for file in snapshot.files.values() for name, tensor in file.items()]
    size = state + sum(len(tensor.data) + len(name) + 128 for name, tensor in tensors)
    need, free = int(size * RESERVE) + 4096, disk.free_space(folder)
    if need > free:
        raise SystemFault(
            "V701",
            f"no room for a checkpoint in `{folder}`",
            evidence=[f"needed {need} bytes", f"free   {free} bytes", f"errno {errno.ENOSPC} (ENOSPC)"],
            hint="free some space, then run the same command again; nothing was written",
        )


def _write(path: Path, snapshot: Snapshot, state: bytes, best: bool) -> None:
    members: dict[str, dict[str, object]] = {}
    older = [entry.name for entry in _up_to(path.parent, snapshot.step - 1)]
    with disk.new_folder(path) as aside:

        def put(name: str, data: bytes) -> None:
            # Hashed before it is written: a disk that changes bytes is found when they are read back.
            members[name] = {"size": len(data), "sha256": disk.sha256_bytes(data)}
            disk.write_new(aside / name, data)

        for name in sorted(snapshot.files):
            put(name + SUFFIX, safetensors.dumps(snapshot.files[name]))
        put(STATE, state)
        rest = {
            "format": FORMAT,
            "version": VERSION,
            "step": snapshot.step,
            "previous": older[-1] if older else None,
            "best": best,
            "files": members,
        }
        disk.write_new(aside / MANIFEST, sealed(rest))


def _read_back(path: Path) -> None:
    try:
        verify(path)
    except VitrailError as error:
        if error.code in _DAMAGE:
            with contextlib.suppress(OSError):
                _put_aside(path)
        raise SystemFault(
            "V701",
            f"`{path}` was written but does not read back",
            evidence=[error.what, *error.evidence],
            hint="check the disk; the checkpoints before still stand",
        ) from error


def _accept(path: Path, snapshot: Snapshot, best: bool) -> None:
    with _read_in_save(path):
        manifest = manifest_of(path)
    new = {name + SUFFIX: disk.sha256_bytes(safetensors.dumps(file)) for name, file in snapshot.files.items()}
    old = {name: member.sha256 for name, member in manifest.files.items() if name.endswith(SUFFIX)}
    if new != old:
        raise RunError(
            "V601", f"`{path}` exists already and holds other tensors", hint="move it away, or use another run folder"
        )
    if best and not manifest.best:
        rest = {key: value for key, value in manifest.raw.items() if key != "digest"}
        disk.write_file(path / MANIFEST, sealed({**rest, "best": True}))


def _prune(folder: Path, step: int, keep: int) -> None:
    """Remove what is neither among the `keep` newest up to `step` nor the best of them.

    A later generation, or one whose manifest is damaged, counts for nothing and is left for a person.
    """
    readable: list[tuple[Path, bool]] = []
    for path in reversed(_up_to(folder, step)):
        with contextlib.suppress(RunError), _read_in_save(path):
            readable.append((path, manifest_of(path).best))
    best = next((path for path, is_best in readable if is_best), None)
    for path, _ in readable[keep:]:
        if path != best:
            disk.remove_folder(path)


def generations(folder: Path) -> list[Path]:
    """The generations in `folder`, oldest first by step number; links and files in their place are not among them."""
    return [path for path in _named(folder) if path.is_dir() and not path.is_symlink()]


def _up_to(folder: Path, step: int) -> list[Path]:
    return [path for path in generations(folder) if (step_of(path.name) or 0) <= step]


def newest_good(folder: Path, *, set_aside: bool = True) -> tuple[Path | None, list[str]]:
    """The newest generation that verifies, and one line for each damaged one that was passed over.

    The damaged ones are renamed to `NAME.bad`, unless set_aside is False (for whoever does not hold the run's lock).
    (None, []) when there is no generation at all. RunError V603 when there are some and none is good (nothing is
    renamed then); V605 when one was made by a newer major version.
    """
    damaged: list[tuple[Path, str]] = []
    for path in reversed(_named(folder)):
        try:
            verify(path)
        except RunError as error:
            if error.code not in _DAMAGE:
                raise
            damaged.append((path, error.what))
            continue
        return path, [_pass_over(bad, what, path, set_aside) for bad, what in damaged]
    if damaged:
        raise RunError(
            "V603",
            f"no good checkpoint is left in `{folder}`",
            evidence=[what for _, what in damaged],
            hint="restore the folder from a copy, or start a new run in another folder",
        )
    return None, []


def best_of(folder: Path) -> Path | None:
    """The best generation that verifies: the newest one marked best in its own manifest; None when there is none."""
    for path in reversed(generations(folder)):
        with contextlib.suppress(RunError):
            if manifest_of(path).best:
                verify(path)
                return path
    return None


def _pass_over(path: Path, what: str, instead: Path, set_aside: bool) -> str:
    where = "it was left in its place"
    if set_aside:
        try:
            where = f"kept as `{_put_aside(path).name}`"
        except OSError as error:
            where = f"it could not be renamed ({error.strerror})"
    return f"{what}; {where}; `{instead.name}` is used instead"


def _put_aside(path: Path) -> Path:
    """Rename a damaged generation to the first free one of NAME.bad, NAME.bad2, ..."""
    number, target = 1, path.with_name(f"{path.name}.bad")
    while os.path.lexists(target):
        number += 1
        target = path.with_name(f"{path.name}.bad{number}")
    os.rename(path, target)
    disk.fsync_folder(path.parent)
    return target


def _named(folder: Path) -> list[Path]:
    """Everything that carries a generation's name, by step."""
    try:
        found = {step: folder / name for name in os.listdir(folder) if (step := step_of(name)) is not None}
    except FileNotFoundError:
        return []
    except OSError as error:
        raise read_fault(error, folder) from error
    return [found[step] for step in sorted(found)]


__all__ = ["Snapshot", "best_of", "generations", "load", "newest_good", "save", "verify"]
