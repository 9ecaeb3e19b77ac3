"""The child that reads HDF5, forked in place of spawned: a hundred times quicker, with the same code and limits.

`forked` forks this process; `forking` has a small process do it that knows h5py and nothing else, which is quicker yet
where this one is large: its pages need not be copied.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from unittest import mock

import h5py

from vitrail.formats.bounds import NESTING, TENSORS
from vitrail.formats.hdf5 import child, reading

_ORDER = struct.Struct("<5Q")  # bytes of the file, memory, seconds, nesting, count


@contextlib.contextmanager
def forked(file: reading.Readable, seconds: int) -> Iterator[tuple[int, int]]:
    """In place of `reading._spawned`."""
    source, answers = os.pipe(), os.pipe()
    process = os.fork()
    if process == 0:
        with contextlib.suppress(BaseException):
            os.close(source[0])
            os.close(answers[1])
            child.limit(reading.MEMORY + 4 * file.size, seconds)
            child.serve(h5py, child.Wire(answers[0], source[1]), file.size, NESTING, vars(reading)["TENSORS"])
        os.kill(os.getpid(), signal.SIGKILL)  # no tidying: descriptors and threads are the parent's
    os.close(source[1])
    os.close(answers[0])
    try:
        yield source[0], answers[1]
    except EOFError:
        raise reading._died(file, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])) from None
    finally:
        os.close(source[0])
        os.close(answers[1])
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


# One order after the other: fork, serve, wait for the child's end, tell its status.
_SERVER = """
import os, runpy, signal, socket, struct, sys
sys.path.append(sys.argv[2])
import h5py, numpy
child = runpy.run_path(sys.argv[3], run_name="child")
orders = socket.socket(fileno=int(sys.argv[1]))
while True:
    order, ends, _, _ = socket.recv_fds(orders, 40, 2)
    if not order:
        break
    size, memory, seconds, depth, count = struct.unpack("<5Q", order)
    process = os.fork()
    if process == 0:
        try:
            orders.close()
            child["limit"](memory, seconds)
            child["serve"](h5py, child["Wire"](*ends), size, depth, count)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    for end in ends:
        os.close(end)
    orders.send(struct.pack("<q", os.waitpid(process, 0)[1]))
"""


@functools.cache
def _server() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Where orders go to the process that forks; it ends when this one does."""
    ours, theirs = socket.socketpair()
    folder = os.path.dirname(os.path.dirname(str(h5py.__file__)))
    command = [sys.executable, "-I", "-c", _SERVER, str(theirs.fileno()), folder, str(child.__file__)]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=reading._ENVIRONMENT)
    theirs.close()
    return ours, process


@contextlib.contextmanager
def _served(file: reading.Readable, seconds: int) -> Iterator[tuple[int, int]]:
    source, answers = os.pipe(), os.pipe()
    order = _ORDER.pack(file.size, reading.MEMORY + 4 * file.size, seconds, NESTING, TENSORS)
    orders, _ = _server()
    socket.send_fds(orders, [order], [answers[0], source[1]])
    os.close(source[1])
    os.close(answers[0])
    died = False
    try:
        yield source[0], answers[1]
    except EOFError:
        died = True
    finally:
        os.close(source[0])  # the child ends now, by a broken pipe or at its limits
        os.close(answers[1])
        (status,) = struct.unpack("<q", orders.recv(8))
    if died:
        raise reading._died(file, os.waitstatus_to_exitcode(status))


@contextlib.contextmanager
def forking(seconds: int = 4) -> Iterator[None]:
    """Within it every HDF5 file is read by a forked child, in at most so many seconds."""
    with mock.patch.object(reading, "_spawned", _served), mock.patch.object(reading, "SECONDS", seconds):
        yield
