"""One checkpoint on the disk, a generation: its manifest, its verification, its reading.

    step-00001234/    weights.safetensors  optimizer.safetensors  ...  state.json  manifest.json

In parts (`parts.py`) there are several files for one of those names.
`manifest.json` names every member with its size and SHA-256, and `digest` is the SHA-256 of the canonical JSON of all
the rest of the manifest. This rule for `digest` is the same in every version, so that a newer version and damage can
be told apart.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vitrail import disk
from vitrail.errors import RunError, SystemFault, WeightsError, read_fault
from vitrail.formats import json, safetensors
from vitrail.formats.stored import Tensors
from vitrail.training.parts import base_name, put_together

FORMAT = "vitrail checkpoint"
VERSION = "1.0"
MANIFEST, STATE, SUFFIX = "manifest.json", "state.json", ".safetensors"
LIMIT = 64 << 20  # bytes of one JSON file
_MEMBER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
# What the system says of a file that is not as it was written; anything else (permission, memory) is no damage.
_UNREADABLE = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.EINVAL,
    errno.EFBIG,
    errno.EIO,
    errno.ENXIO,
)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Snapshot:
    """All that a run needs to go on: tensors by file ("weights", "optimizer", "ema", ...) and JSON-able state."""

    step: int
    files: Mapping[str, Tensors]
    state: Mapping[str, object]

    @property
    def in_parts(self) -> bool:
        """Whether the files are one rank's parts."""
        return any(base_name(name) != name for name in self.files)


@dataclass(frozen=True)
class Member:
    """What the manifest says of one file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The checked manifest of a generation; raw keeps what a newer minor version wrote besides."""

    step: int
    best: bool
    files: dict[str, Member]
    raw: dict[str, object]


def step_name(step: int) -> str:
    """The folder name of a generation.

    >>> step_name(1234)
    'step-00001234'
    """
    return f"step-{step:08d}"


def step_of(name: str) -> int | None:
    """The step that a generation's name tells, None for any other name.

    >>> step_of("step-00001234"), step_of("step-1234"), step_of("step-00001234.bad")
    (1234, None, None)
    """
    digits = name.removeprefix("step-")
    plain = digits.isascii() and digits.isdigit() and len(digits) <= 12
    return int(digits) if plain and step_name(int(digits)) == name else None


def canonical(value: object) -> bytes:
    """The one JSON text of a value: sorted keys, no blanks, ASCII; ValueError for NaN and Inf."""
    return json.dumps(value)


def sealed(rest: Mapping[str, object]) -> bytes:
    """The manifest file: `rest` and the digest over it.  It ends with its last brace, so that a byte less is seen."""
    digest = disk.sha256_bytes(canonical(rest))
    return json.dumps({**rest, "digest": digest}, indent=1, in_order=True)


def verify(path: Path) -> None:
    """Read every byte of a generation and compare it with its manifest.

    RunError V604 naming the damaged member, V605 for another major version, V607 when it is no checkpoint at all;
    SystemFault V702 when the system does not let it be read.
    """
    for name, member in manifest_of(path).files.items():
        _check_size(path, name, member)
        found = _reading(path, name, lambda file: disk.sha256_file(file, follow=False))
        if found != member.sha256:
            raise _damaged(path, name, "its SHA-256 differs", [f"expected {member.sha256}", f"found    {found}"])


def load(path: Path) -> Snapshot:
    """The snapshot of one generation; every byte used is hashed in the same read. Refusals as in `verify`."""
    manifest = manifest_of(path)
    files: dict[str, Tensors] = {}
    for name, member in manifest.files.items():
        _check_size(path, name, member)
        if name.endswith(SUFFIX):
            files[name.removesuffix(SUFFIX)] = _tensors(path, name, member)
    try:
        whole = put_together(files)
    except ValueError as error:
        raise _damaged(path, MANIFEST, str(error), []) from error
    return Snapshot(manifest.step, whole, _state(path, manifest.files[STATE]))


def _tensors(path: Path, name: str, member: Member) -> Tensors:
    try:
        return _reading(path, name, lambda file: safetensors.read(file, sha256=member.sha256))[0]
    except WeightsError as error:
        raise _damaged(path, name, error.what, list(error.evidence)) from error


def _state(path: Path, member: Member) -> dict[str, object]:
    data = _reading(path, STATE, lambda file: disk.read_file(file, limit=LIMIT, follow=False))
    if disk.sha256_bytes(data) != member.sha256:
        raise _damaged(path, STATE, "its SHA-256 differs", [])
    return _object(path, STATE, data)


def manifest_of(path: Path) -> Manifest:
    """The manifest of a generation, checked as far as it can be without its members; refusals as in `verify`."""
    _check_place(path)
    raw = _object(path, MANIFEST, _reading(path, MANIFEST, lambda f: disk.read_file(f, limit=LIMIT, follow=False)))
    rest = {key: value for key, value in raw.items() if key != "digest"}
    if raw.get("format") != FORMAT and step_of(path.name) is None:
        raise RunError("V607", f"`{path}` is something else than a checkpoint", hint="name a folder in `checkpoints/`")
    if raw.get("digest") != disk.sha256_bytes(canonical(rest)):
        raise _damaged(path, MANIFEST, "its digest does not hold", [])
    if raw.get("format") != FORMAT:
        raise _damaged(path, MANIFEST, "it is the manifest of something else", [])
    version = raw.get("version")
    if not isinstance(version, str) or version.split(".")[0] != VERSION.split(".")[0]:
        raise RunError(
            "V605",
            f"`{path}` is of checkpoint format {version}, this vitrail reads {VERSION}",
            hint="use the vitrail that wrote it, or a newer one",
        )
    step, best, files = raw.get("step"), raw.get("best", False), raw.get("files")
    if type(step) is not int or type(best) is not bool or not isinstance(files, dict) or STATE not in files:
        raise _damaged(path, MANIFEST, "it lacks step, best, files or the state", [])
    if step_of(path.name) not in (None, step):
        raise _damaged(path, MANIFEST, f"it says step {step}", [])
    return Manifest(step, best, {name: _member(path, name, entry) for name, entry in files.items()}, raw)


def _member(path: Path, name: str, entry: object) -> Member:
    size, sha256 = (entry.get("size"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
    if not _MEMBER.fullmatch(name) or type(size) is not int or not isinstance(sha256, str):
        raise _damaged(path, MANIFEST, f"its entry for `{name}` is none", [])
    return Member(size, sha256)


def _check_place(path: Path) -> None:
    """Refuse what is no folder of our own; V607 when nothing in it looks like a checkpoint."""
    is_folder = path.is_dir() and not path.is_symlink()
    if not is_folder and step_of(path.name) is not None:
        raise _damaged(path, "", "no folder stands in its place", [])
    if not is_folder or not any(os.path.lexists(path / name) for name in (MANIFEST, STATE)):
        raise RunError("V607", f"`{path}` is no checkpoint", hint="name a folder in `checkpoints/`")


def _check_size(path: Path, name: str, member: Member) -> None:
    status = _reading(path, name, lambda file: file.lstat())
    if not stat.S_ISREG(status.st_mode):
        raise _damaged(path, name, "it is a link or no file", [])
    if status.st_size != member.size:
        raise _damaged(path, name, f"{status.st_size} bytes, {member.size} were written", [])


def _reading(path: Path, name: str, read: Callable[[Path], _T]) -> _T:
    """`read(path / name)`; a file that is gone, a link or unreadable on the disk is damage, anything else a fault."""
    try:
        return read(path / name)
    except OSError as error:
        fault, cause = read_fault(error, path / name), error
    except SystemFault as error:
        if not isinstance(error.__cause__, OSError):
            raise
        fault, cause = error, error.__cause__
    if cause.errno not in _UNREADABLE:
        raise fault from cause
    raise _damaged(path, name, cause.strerror or str(cause), fault.evidence) from cause


def _object(path: Path, name: str, data: bytes) -> dict[str, object]:
    """The JSON object in `data`, by the strict rules: no key twice, no NaN."""
    try:
        found = json.loads(data, limit=LIMIT)
    except ValueError as error:
        raise _damaged(path, name, f"it is no JSON ({error})", []) from error
    if not isinstance(found, dict):
        raise _damaged(path, name, "it is no JSON object", [])
    return found


def _damaged(path: Path, name: str, what: str, evidence: Sequence[str]) -> RunError:
    return RunError(
        "V604",
        f"`{path.name}/{name}` is damaged: {what}",
        evidence=[f"in {path.absolute().parent}", *evidence],
        hint="resume the run folder itself: it falls back to the newest good checkpoint",
    )
