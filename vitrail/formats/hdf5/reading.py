"""HDF5 files through a child process: it walks the file, we check what it tells and read the bytes ourselves.

The library has followed links into other files, hung on damaged ones and crashed.  So the child gets no descriptor, no
network, no way to open a file and little memory and time; each byte it sees is asked of us (`child.py` has the frames).
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from vitrail.errors import SystemFault, UsageError, WeightsError
from vitrail.formats.bounds import NESTING, TENSORS, check_names, check_shape, damaged, hostile, shown
from vitrail.formats.hdf5 import child
from vitrail.formats.held import Held, hold, room
from vitrail.formats.stored import Stored, Tensors, bools_are_bits

MAGIC = b"\x89HDF\r\n\x1a\n"
SECONDS, SECONDS_PER_GIB = 20, 2  # by the clock, and of the child's processor time
MEMORY = 64 << 20  # of the child beyond Python and h5py, and four times the file for chunks that it unpacks
EXPANSION = 8  # bytes of all datasets together for each byte of the file
_FRAME = 1 << 20
# No plug-ins; no `uname` run and no look at who the user is, which imports would do; and one thread, as each takes
# address space for itself.
_ENVIRONMENT = {
    "HDF5_PLUGIN_PRELOAD": "::",
    "PATH": "/",
    "HOME": "/",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
_WORDS = {
    "f2": "F16", "f4": "F32", "f8": "F64", "i1": "I8", "i2": "I16", "i4": "I32", "i8": "I64",
    "u1": "U8", "u2": "U16", "u4": "U32", "u8": "U64", "b1": "BOOL",
}  # fmt: skip


class Readable(Protocol):
    """What is read here: a `Held` file, or bytes that were taken out of one."""

    @property
    def path(self) -> Path: ...
    @property
    def size(self) -> int: ...
    def read(self, offset: int, length: int) -> memoryview: ...


@dataclass(frozen=True, slots=True)
class _Dataset:
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    nbytes: int
    offset: int | None  # None: its bytes come from the child


def read(path: Path, *, sha256: str | None = None) -> Tensors:
    """All datasets of a file by their full path (`layers/conv2d/vars/0`), in the order in which they were made.

    WeightsError V201 for damaged bytes or another SHA-256 than the given one (then nothing was parsed), V202 for what
    exceeds a limit, leads elsewhere (links, external and virtual storage) or is no plain number; UsageError V003
    without h5py; SystemFault V702 when the file cannot be read.

    >>> import tempfile
    >>> from vitrail.formats.hdf5 import write
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder) / "w.weights.h5", {"layers/dense/vars/1": Stored("F32", (2,), bytes(8))})
    ...     list(read(Path(folder) / "w.weights.h5"))
    ['layers/dense/vars/1']
    """
    with hold(path, sha256=sha256) as file:
        return parse(file)


def parse(file: Held | Readable) -> Tensors:
    """As `read`, from a file that is already held.  Attributes are not read: names are all that is believed."""
    if bytes(file.read(0, min(8, file.size))) != MAGIC:
        raise damaged(file.path, "does not begin as an HDF5 file")
    seconds = SECONDS + SECONDS_PER_GIB * file.size // (1 << 30)
    with _spawned(file, seconds) as (source, sink):
        conversation = _Conversation(file, source, sink, seconds)
        datasets = conversation.listing()
        _check(datasets, file)
        tensors = {dataset.name: conversation.tensor(dataset) for dataset in datasets}
        conversation.end()
    return tensors


@contextlib.contextmanager
def _spawned(file: Readable, seconds: int) -> Iterator[tuple[int, int]]:
    """A child for this file; the descriptors to read its frames from and to write our answers to."""
    found = importlib.util.find_spec("h5py")
    if found is None or found.origin is None:
        raise _absent()
    folder = str(Path(found.origin).parents[1])
    numbers = (file.size, MEMORY + 4 * file.size, seconds, NESTING, TENSORS)
    libraries = os.environ.get("LD_LIBRARY_PATH")
    command = [sys.executable, "-I", child.__file__, folder, *map(str, numbers)]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            env=_ENVIRONMENT | ({"LD_LIBRARY_PATH": libraries} if libraries else {}),
        )
    except OSError as error:
        raise SystemFault(
            "V703", f"no process can be started to read `{file.path}`: {error.strerror}", hint="close other programs"
        ) from error
    with process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield process.stdout.fileno(), process.stdin.fileno()
        except EOFError:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
            process.kill()  # of no effect where it ended by itself
            raise _died(file, process.wait()) from None
        finally:
            process.kill()


class _Conversation:
    """What the child says, frame by frame, until the time is over; EOFError when it died."""

    def __init__(self, file: Readable, source: int, sink: int, seconds: int) -> None:
        os.set_blocking(sink, False)
        self._file = file
        self._source = source
        self._sink = sink
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def listing(self) -> list[_Dataset]:
        """All datasets, in the order of their addresses."""
        found: list[_Dataset] = []
        while True:
            kind, body = self._frame()
            if kind == b"L":
                return found
            if kind != b"D" or len(found) >= TENSORS:
                raise self._broken()
            found.append(self._dataset(body))

    def tensor(self, dataset: _Dataset) -> Stored:
        """The dataset's bytes, by our own read where they are a range of the file, little-endian."""
        order = dataset.dtype
        if dataset.offset is not None:
            data: bytes | memoryview = self._file.read(dataset.offset, dataset.nbytes)
        else:
            data, order = self._sent(dataset.nbytes), order.newbyteorder("<")
        if order.byteorder == ">":
            data = np.frombuffer(data, order).astype(order.newbyteorder("<")).tobytes()
        word = _WORDS[order.str[1:]]
        if word == "BOOL" and not bools_are_bits(data):
            raise damaged(self._file.path, f"`{shown(dataset.name)}` is BOOL and holds bytes other than 0 and 1")
        return Stored(word, dataset.shape, data)

    def end(self) -> None:
        if self._frame()[0] != b"Z":
            raise self._broken()

    def _sent(self, size: int) -> memoryview:
        buffer = room(size, self._file.path)
        at = 0
        while at < size:
            kind, body = self._frame()
            if kind != b"B" or not 0 < len(body) <= size - at:
                raise self._broken()
            buffer[at : at + len(body)] = body
            at += len(body)
        return memoryview(buffer).toreadonly()

    def _dataset(self, body: bytes) -> _Dataset:
        if len(body) < 28 or len(body) < 28 + 8 * body[27]:
            raise self._broken()
        _, offset, nbytes, code, rank = struct.unpack_from("<QQQ3sB", body)
        if code[:1] not in (b"<", b">") or code[1:].decode("latin-1") not in _WORDS:
            raise self._broken()
        try:
            name = body[28 + 8 * rank :].decode()
        except UnicodeDecodeError:
            raise hostile(self._file.path, "a name is not UTF-8") from None
        sizes = struct.unpack_from(f"<{rank}Q", body, 28)
        shape = check_shape(sizes, self._file.size, self._file.path)
        dtype = np.dtype(code.decode().replace("b1", "?"))
        if math.prod(shape) * dtype.itemsize != nbytes:
            raise self._broken()
        return _Dataset(name, dtype, shape, nbytes, None if offset == child.NO_RANGE else offset)

    def _frame(self) -> tuple[bytes, bytes]:
        """The next frame that is no request; requests are answered."""
        while True:
            length, kind = struct.unpack("<Ic", self._receive(5))
            if length > _FRAME:
                raise self._broken()
            body = self._receive(length)
            if kind == b"E":
                raise self._refusal(body[:1], body[1:].decode("utf-8", "replace"))
            if kind != b"R":
                return kind, body
            offset, count = struct.unpack("<QQ", body) if length == 16 else (0, child.REQUEST + 1)
            if count > child.REQUEST:
                raise self._broken()
            self._answer(self._file.read(offset, count))

    def _receive(self, count: int) -> bytes:
        got = bytearray()
        while len(got) < count:
            self._wait([self._source], [])
            piece = os.read(self._source, count - len(got))
            if not piece:
                raise EOFError
            got += piece
        return bytes(got)

    def _answer(self, data: memoryview) -> None:
        while data:
            self._wait([], [self._sink])
            try:
                data = data[os.write(self._sink, data) :]
            except BrokenPipeError:
                raise EOFError from None

    def _wait(self, readable: list[int], writable: list[int]) -> None:
        left = self._end - time.monotonic()
        if left <= 0 or not any(select.select(readable, writable, [], left)):
            raise _too_long(self._file, self._seconds)

    def _refusal(self, kind: bytes, text: str) -> WeightsError | UsageError:
        if kind == b"a":
            return _absent()
        if kind == b"m":
            return hostile(self._file.path, "reading it takes more memory than such a file may need")
        return (hostile if kind == b"h" else damaged)(self._file.path, text)

    def _broken(self) -> WeightsError:
        return damaged(self._file.path, "the process that read it gave a senseless answer")


def _check(datasets: list[_Dataset], file: Readable) -> None:
    """Names, the sum of all sizes, and that each byte of the file belongs to one dataset at most."""
    seen: set[str] = set()
    for dataset in datasets:
        if dataset.name in seen:
            raise hostile(file.path, f"two datasets are named `{shown(dataset.name)}`")
        seen.add(dataset.name)
    check_names((dataset.name for dataset in datasets), file.path)
    total = sum(dataset.nbytes for dataset in datasets)
    if total > EXPANSION * file.size:
        raise hostile(file.path, f"its datasets take {total} bytes, more than {EXPANSION} times the file's {file.size}")
    end = 0
    for dataset in sorted((d for d in datasets if d.offset is not None), key=lambda d: d.offset or 0):
        assert dataset.offset is not None
        if dataset.offset < end:
            raise hostile(file.path, f"the dataset `{shown(dataset.name)}` shares bytes with another")
        end = dataset.offset + dataset.nbytes
    if end > file.size:
        raise damaged(file.path, f"its datasets end at {end}, the file has {file.size} bytes")


def _absent() -> UsageError:
    return UsageError("V003", "HDF5 files need h5py, which is not installed", hint='pip install "vitrail[keras]"')


def _too_long(file: Readable, seconds: int) -> WeightsError:
    return hostile(file.path, f"was not read after {seconds} s")


def _died(file: Readable, code: int) -> WeightsError:
    """The library crashed, or the kernel ended it at a limit."""
    if code < 0 and -code == signal.SIGXCPU:
        return hostile(file.path, "takes more processor time than such a file may need")
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return damaged(file.path, f"the HDF5 library broke down on it ({how})")
