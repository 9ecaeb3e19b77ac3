"""Which programs may be run: those that this user's exports made on this machine, and those he says to trust.

A program (TorchScript, a graph of torch.export, machine code of AOTInductor) does whatever its maker wants once it is
loaded. A bundle's hashes say that it is whole, not who made it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from vitrail.disk import make_folder, write_file
from vitrail.errors import BundleError, SystemFault

_TRUSTING: ContextVar[bool] = ContextVar("trusting", default=False)


def made_here() -> Path | None:
    """The folder with an empty file for each program that was made here: `$XDG_STATE_HOME/vitrail/made-here`.

    None for a user without a home.
    """
    home = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(home) if home else Path.home() / ".local" / "state") / "vitrail" / "made-here"
    except RuntimeError:
        return None


def remember(sha256: str) -> bool:
    """Note that the program with this hash was made here; False where the home cannot be written to."""
    if (folder := made_here()) is None:
        return False
    try:
        make_folder(folder)
        write_file(folder / sha256, b"")
    except SystemFault:
        return False
    return True


@contextlib.contextmanager
def trusting() -> Iterator[None]:
    """Within it every program may be run: what `--trust` means."""
    token = _TRUSTING.set(True)
    try:
        yield
    finally:
        _TRUSTING.reset(token)


def all_trusted() -> bool:
    """Whether `trusting` holds: what child processes must be told."""
    return _TRUSTING.get()


def trusted(sha256: str) -> bool:
    """Whether the program with this hash was made here, or is trusted all the same."""
    folder = made_here()
    return all_trusted() or (folder is not None and (folder / sha256).is_file())


def check(name: str, sha256: str, *, otherwise: str = "take another engine: onnx and openvino hold data alone") -> None:
    """BundleError V509 for a program that is not trusted. otherwise: what can be done without running it."""
    if not trusted(sha256):
        raise BundleError(
            "V509",
            f"`{name}` is a program, and was not made on this machine",
            hint=f"run it with --trust if you know its maker, or {otherwise}",
        )
