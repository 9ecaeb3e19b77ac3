"""A21: a lock names its holder, dies with it, and is inherited by no child."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vitrail.errors import RunError, SystemFault
from vitrail.locks import locked

ROOT = Path(__file__).parents[1]

HOLD = """
import sys, time
from pathlib import Path
from vitrail.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of tmp_path until its standard input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.kill()


def test_A21_a_second_holder_is_refused_and_told_who(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    for _ in range(5):
        with pytest.raises(RunError) as refused, locked(tmp_path):
            pass
        assert refused.value.code == "V606"
        assert f"process {holder.pid} on " in refused.value.what
        assert " since 2" in refused.value.what


def test_A21_the_lock_of_a_killed_process_is_free(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path):
        assert f"process {os.getpid()} on " in (tmp_path / ".lock").read_text()


def test_A21_one_process_holds_it_once_and_again_afterwards(tmp_path: Path) -> None:
    for _ in range(3):
        with locked(tmp_path), pytest.raises(RunError), locked(tmp_path):
            pass


def test_A21_a_forked_child_does_not_hold_the_lock(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            os.write(writer, b"up")
            signal.pause()
        assert os.read(reader, 2) == b"up"
    try:
        with locked(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)


def test_A21_a_child_that_leaves_the_block_closes_nothing_of_its_own(tmp_path: Path) -> None:
    lock = locked(tmp_path)
    lock.__enter__()
    child = os.fork()
    if child == 0:
        other = os.open(os.devnull, os.O_RDONLY)  # takes the number that the lock had
        lock.__exit__(None, None, None)
        with contextlib.suppress(OSError):
            os._exit(0 if stat.S_ISCHR(os.fstat(other).st_mode) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with pytest.raises(RunError), locked(tmp_path):
        pass
    lock.__exit__(None, None, None)


def test_a_lock_that_is_a_link_or_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / ".lock").symlink_to("target")
    with pytest.raises(SystemFault), locked(tmp_path):
        pass
    assert (tmp_path / "target").read_bytes() == b"precious"
    with pytest.raises(SystemFault), locked(tmp_path / "missing"):
        pass
