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
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from vitrail import disk
from vitrail.errors import NumbersBroke, RunError, SystemFault, UsageError, VitrailError, read_fault, write_fault
from vitrail.formats import safetensors
from vitrail.formats.stored import Tensors
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
from vitrail.training.parts import base_name

CHECKPOINTS = "checkpoints"  # the folder of a run's generations
RESERVE = 1.1  # space asked for, as a multiple of what is saved
_FILE = re.compile(r"[a-z][a-z0-9_.-]{0,100}")
Members = dict[str, dict[str, object]]  # of a manifest: file -> its size and SHA-256
_DAMAGE = ("V604", "V607")  # what a resume falls back over; another version (V605) is no damage and is refused
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL)


def save(folder: Path, snapshot: Snapshot, *, keep: int, best: bool = False) -> Path:
    """Save a generation in `folder`, read it back, and only then remove all but the `keep` newest and the best one.

    A step that is saved already with the same tensors is not saved again (`best` is then added to it). Returns the
    generation. The caller holds the run folder's lock.
    SystemFault V701 when it does not fit, cannot be written or does not read back: what stood before still stands.
    RunError V601 when the step stands there with other tensors. NumbersBroke V811 for NaN in the state.
    """
    with Saving(folder, snapshot.step, keep=keep, best=best) as saving:
        state = state_bytes(snapshot)
        aside = saving.begin(size_of(snapshot.files) + len(state))
        return saving.end(written(aside, snapshot.files), state)


class Saving:
    """A generation on its way: `begin` makes room, `written` fills it, `end` gives it its name; or none of it stays."""

    def __init__(self, folder: Path, step: int, *, keep: int, best: bool) -> None:
        if keep < 1 or not 0 <= step < 10**12:
            raise UsageError("V007", f"keep {keep}, step {step}", hint="keep at least 1; steps count from 0")
        self._folder, self._step, self._keep, self._best = folder, step, keep, best
        self._path = folder / step_name(step)
        self._aside: Path | None = None
        self._ended = False
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._aside is not None and not self._ended:
            kind, error = AssertionError, AssertionError("left without `end`")
            self._open.__exit__(kind, error, trace)
            raise error
        self._open.__exit__(kind, error, trace)

    def begin(self, size: int) -> Path | None:
        """The folder to write `size` bytes into; None where the step stands already, whole."""
        disk.make_folder(self._folder)
        disk.remove_leftovers(self._folder)
        if not _is_good(self._path):
            _check_space(self._folder, size)
            _clear(self._path)
            self._aside = self._open.enter_context(disk.new_folder(self._path))
        return self._aside

    def end(self, members: Members, state: bytes) -> Path:
        """The generation with these members: named, read back, and those that are old removed."""
        if self._aside is None:
            _accept(self._path, members, self._best)
        else:
            try:
                disk.write_new(self._aside / STATE, state)
                disk.write_new(self._aside / MANIFEST, self._manifest({**members, STATE: _entry(state)}))
            except OSError as error:
                raise write_fault(error, self._path) from error
            self._ended = True
            self._open.close()
            _read_back(self._path)
        self._ended = True
        disk.write_file(self._folder / "latest", f"{self._path.name}\n".encode())
        if self._best:
            disk.write_file(self._folder / "best", f"{self._path.name}\n".encode())
        _prune(self._folder, self._step, self._keep)
        return self._path

    def _manifest(self, members: Members) -> bytes:
        older = [entry.name for entry in _up_to(self._folder, self._step - 1)]
        return sealed(
            {
                "format": FORMAT,
                "version": VERSION,
                "step": self._step,
                "previous": older[-1] if older else None,
                "best": self._best,
                "files": members,
            }
        )


def written(aside: Path | None, files: Mapping[str, Tensors]) -> Members:
    """The files as members, written into the folder that `begin` gave, where it gave one."""
    assert all(_FILE.fullmatch(name) for name in files), sorted(files)
    members: Members = {}
    for name in sorted(files):
        data = safetensors.dumps(files[name])
        # Hashed before it is written: a disk that changes bytes is found when they are read back.
        members[name + SUFFIX] = _entry(data)
        if aside is not None:
            disk.write_new(aside / (name + SUFFIX), data)
    return members


def _entry(data: bytes) -> dict[str, object]:
    return {"size": len(data), "sha256": disk.sha256_bytes(data)}


def size_of(files: Mapping[str, Tensors]) -> int:
    """Bytes that the files will take, about."""
    tensors = [(name, tensor) for file in files.values() for name, tensor in file.items()]
    return sum(len(tensor.data) + len(name) + 128 for name, tensor in tensors)


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


def state_bytes(snapshot: Snapshot) -> bytes:
    """The file of the state. NumbersBroke V811 for NaN in it."""
    try:
        return canonical(snapshot.state) + b"\n"
    except ValueError as error:
        raise NumbersBroke(
            "V811", f"the state of step {snapshot.step} cannot be saved: {error}", hint="lower the learning rate"
        ) from error


def _check_space(folder: Path, size: int) -> None:
    need, free = int(size * RESERVE) + 4096, disk.free_space(folder)
    if need > free:
        raise SystemFault(
            "V701",
            f"no room for a checkpoint in `{folder}`",
            evidence=[f"needed {need} bytes", f"free   {free} bytes", f"errno {errno.ENOSPC} (ENOSPC)"],
            hint="free some space, then run the same command again; nothing was written",
        )


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


def _accept(path: Path, members: Members, best: bool) -> None:
    with _read_in_save(path):
        manifest = manifest_of(path)
    new = {name: member["sha256"] for name, member in members.items()}
    old = {name: member.sha256 for name, member in manifest.files.items() if name.endswith(SUFFIX)}
    if new.keys() != old.keys() and _bases(new) == _bases(old):
        return  # in other parts: a run on other ranks that began with it. No rank has all to compare, so it is no best
    if new != old:
        raise RunError(
            "V601", f"`{path}` exists already and holds other tensors", hint="move it away, or use another run folder"
        )
    if best and not manifest.best:
        rest = {key: value for key, value in manifest.raw.items() if key != "digest"}
        disk.write_file(path / MANIFEST, sealed({**rest, "best": True}))


def _bases(names: Iterable[str]) -> set[str]:
    return {base_name(name.removesuffix(SUFFIX)) for name in names}


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


__all__ = [
    "Saving", "Snapshot", "best_of", "generations", "load", "newest_good", "save", "size_of", "state_bytes", "verify",
    "written",
]  # fmt: skip
