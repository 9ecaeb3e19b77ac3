"""The child process that walks an HDF5 file: it has no descriptor of the file and can open none.

Run as `python -I child.py FOLDER SIZE MEMORY SECONDS DEPTH COUNT`; FOLDER is where h5py lies.  The parent is asked for
the file's bytes over standard input and output.  Frames of the child: length of the body u32, kind, body.

    R   offset u64, length u64             asks; the answer is exactly those bytes, without a frame
    D   address, offset, bytes u64, type 3 characters, rank u8, sizes u64, path    one dataset; offset 2^64-1: see B
    L                                      all datasets are told
    B   bytes                              of the datasets that are no range of the file (chunks), in the order told
    E   kind, text                         refused: d damaged, h hostile, m memory, a h5py is absent
    Z                                      the end

Nothing of vitrail is imported: the child knows what it was given as arguments.
"""

from __future__ import annotations

import io
import os
import resource
import struct
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

NO_RANGE = (1 << 64) - 1
REQUEST = 1 << 20
_PAGE = 1 << 16
_PAGES = 128
_PLAIN = frozenset(f"{kind}{size}" for kind, sizes in (("f", "248"), ("i", "1248"), ("u", "1248")) for size in sizes)
_FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}


class Refusal(Exception):
    """What the parent will say of the file: one letter of the kind, and a text."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Remote(io.RawIOBase):
    """The file, as far as the parent hands it out: what h5py's driver for Python objects needs."""

    def __init__(self, ask: Callable[[int, int], bytes], size: int) -> None:
        super().__init__()
        self._ask = ask
        self._size = size
        self._at = 0
        self._pages: dict[int, bytes] = {}

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if self._at < 0 or self._at + len(view) > self._size:
            raise Refusal("d", f"{len(view)} bytes at {self._at} lie outside its {self._size} bytes")
        done = 0
        while done < len(view):
            piece = self._piece(self._at + done, len(view) - done)
            view[done : done + len(piece)] = piece
            done += len(piece)
        self._at += done
        return done

    def _piece(self, at: int, length: int) -> bytes:
        if length > _PAGE:
            return self._ask(at, min(length, REQUEST))
        number, within = divmod(at, _PAGE)
        page = self._pages.get(number)
        if page is None:
            if len(self._pages) >= _PAGES:
                self._pages.clear()
            page = self._ask(number * _PAGE, min(_PAGE, self._size - number * _PAGE))
            self._pages[number] = page
        return page[within : within + length]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


class Wire:
    """The two pipes to the parent."""

    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink = sink

    def send(self, kind: str, body: bytes = b"") -> None:
        data = memoryview(struct.pack("<I", len(body)) + kind.encode() + body)
        while data:
            data = data[os.write(self._sink, data) :]

    def ask(self, offset: int, length: int) -> bytes:
        self.send("R", struct.pack("<QQ", offset, length))
        answer = bytearray()
        while len(answer) < length:
            piece = os.read(self._source, length - len(answer))
            if not piece:
                raise SystemExit(1)  # the parent is gone
            answer += piece
        return bytes(answer)


def limit(memory: int, seconds: int) -> None:
    """From here on: no new descriptor, no byte written to a disk, bounded memory and time."""
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    for kind, value in (
        (resource.RLIMIT_AS, taken + memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(kind, (value, value))


class Walk:
    """Every dataset below the root, each reached by hard links alone, each object once."""

    def __init__(self, h5py: ModuleType, depth: int, count: int) -> None:
        self._h5py = h5py
        self._depth = depth
        self._count = count
        self._seen: set[int] = set()
        self.found: list[tuple[int, bytes, Any]] = []  # address, path, dataset

    def group(self, group: Any, path: bytes, depth: int) -> None:
        h5o = self._h5py.h5o
        if depth > self._depth:
            raise Refusal("h", f"groups nested deeper than {self._depth}")
        self._once(group, path)
        for name in self._names(group):
            if not name or b"/" in name or name == b".":
                raise Refusal("h", f"a link is named `{text(name)}`")
            below = path + b"/" + name if path else name
            kind = group.links.get_info(name).type
            if kind != self._h5py.h5l.TYPE_HARD:
                word = {1: "soft", 64: "external"}.get(kind, "user-defined")
                raise Refusal("h", f"`{text(below)}` is a link to elsewhere ({word})")
            found = h5o.open(group, name)
            if isinstance(found, self._h5py.h5g.GroupID):
                self.group(found, below, depth + 1)
            elif isinstance(found, self._h5py.h5d.DatasetID):
                self.found.append((self._once(found, below), below, found))
            else:
                raise Refusal("h", f"`{text(below)}` is neither group nor dataset")

    def _names(self, group: Any) -> list[bytes]:
        names: list[bytes] = []

        def note(name: bytes) -> bool | None:
            names.append(name)
            return True if len(names) + len(self._seen) > self._count else None  # True ends the iteration

        if group.get_num_objs():
            group.links.iterate(note)
        if len(names) + len(self._seen) > self._count:
            raise Refusal("h", f"more than {self._count} objects")
        return names

    def _once(self, found: Any, path: bytes) -> int:
        address = int(self._h5py.h5o.get_info(found).addr)
        if address in self._seen:
            raise Refusal("h", f"`{text(path)}` is an object that has another name already (a hard link)")
        self._seen.add(address)
        return address


def text(name: bytes) -> str:
    shown = name.decode("utf-8", "replace")
    return shown if len(shown) <= 80 else f"{shown[:80]}... ({len(shown)} characters)"


def type_word(h5py: ModuleType, dataset: Any, path: bytes) -> str:
    """`<f4` and the like; refused is whatever is no plain number or truth value."""
    kind = dataset.get_type()
    words = {
        h5py.h5t.STRING: "text",
        h5py.h5t.REFERENCE: "references",
        h5py.h5t.COMPOUND: "a compound type",
        h5py.h5t.VLEN: "lists of varying length",
        h5py.h5t.OPAQUE: "opaque bytes",
        h5py.h5t.ARRAY: "arrays as elements",
    }
    code = "no number"
    if kind.get_class() in (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM):
        try:
            dtype = kind.dtype
            code = dtype.str if kind.equal(h5py.h5t.py_create(dtype)) else code
        except (TypeError, ValueError):  # h5py's, for a type that NumPy does not have
            pass
    if code != "|b1" and code[1:] not in _PLAIN:
        named = words.get(kind.get_class(), "an unusual number type")
        raise Refusal("h", f"the dataset `{text(path)}` holds {named}, weights are plain numbers")
    return ("<", ">")[code[0] == ">"] + code[1:]


def place(h5py: ModuleType, dataset: Any, path: bytes, size: int) -> int:
    """Where the bytes lie, or NO_RANGE for chunks; refused is what lies elsewhere, or was never written."""
    made = dataset.get_create_plist()
    layout = made.get_layout()
    if layout not in (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED, h5py.h5d.COMPACT):
        raise Refusal("h", f"the dataset `{text(path)}` is put together from others (virtual)")
    if made.get_external_count():
        raise Refusal("h", f"the dataset `{text(path)}` lies in another file (external storage)")
    for index in range(made.get_nfilters()):
        code = made.get_filter(index)[0]
        if code not in _FILTERS:
            known = ", ".join(_FILTERS.values())
            raise Refusal("h", f"the dataset `{text(path)}` is packed by filter {code}; known: {known}")
    if size == 0:
        return NO_RANGE
    if layout == h5py.h5d.CHUNKED:
        expected = 1
        for length, chunk in zip(dataset.shape, made.get_chunk(), strict=True):
            expected *= -(-length // chunk)
        there = dataset.get_num_chunks() if expected < 1 << 40 else 0
        if there != expected:
            raise Refusal("h", f"the dataset `{text(path)}` declares {expected} chunks, {there} were written")
        return NO_RANGE
    offset = dataset.get_offset() if layout == h5py.h5d.CONTIGUOUS else NO_RANGE
    stored = dataset.get_storage_size()
    if stored != size or offset is None:
        raise Refusal("h", f"the dataset `{text(path)}` declares {size} bytes, {stored} were written")
    return int(offset)


def tell(h5py: ModuleType, walk: Walk, wire: Wire) -> list[tuple[bytes, Any]]:
    """Tell of every dataset in the order of their addresses, and give those whose bytes must be sent."""
    to_send = []
    for address, path, dataset in sorted(walk.found, key=lambda row: row[0]):
        space = dataset.get_space()
        if space.get_simple_extent_type() not in (h5py.h5s.SCALAR, h5py.h5s.SIMPLE):
            raise Refusal("h", f"the dataset `{text(path)}` has no extent")
        code = type_word(h5py, dataset, path)
        size = int(code[2:])
        for length in dataset.shape:
            size *= length
        if size >= 1 << 62:
            raise Refusal("h", f"the dataset `{text(path)}` has the shape {dataset.shape}")
        offset = place(h5py, dataset, path, size)
        head = struct.pack("<QQQ3sB", address, offset, size, code.encode(), len(dataset.shape))
        wire.send("D", head + struct.pack(f"<{len(dataset.shape)}Q", *dataset.shape) + path)
        if size and offset == NO_RANGE:
            to_send.append((path, dataset))
    return to_send


def send(h5py: ModuleType, path: bytes, dataset: Any, wire: Wire) -> None:
    """The values of one dataset, a row of chunks at a time, little-endian."""
    import numpy as np

    shape = dataset.shape
    chunks = dataset.get_create_plist()
    step = chunks.get_chunk()[0] if chunks.get_layout() == h5py.h5d.CHUNKED else max((1, *shape[:1]))
    dtype = dataset.get_type().dtype
    for start in range(0, shape[0] if shape else 1, step):
        part = (min(step, shape[0] - start), *shape[1:]) if shape else ()
        rows = np.empty(part, dtype)
        everything = dataset.get_space()
        if shape:
            everything.select_hyperslab((start, *[0] * (len(shape) - 1)), part)
        dataset.read(h5py.h5s.create_simple(part) if shape else everything, everything, rows)
        data = memoryview(rows.astype(dtype.newbyteorder("<"), copy=False).tobytes())
        for at in range(0, len(data), REQUEST):
            wire.send("B", bytes(data[at : at + REQUEST]))


def serve(h5py: ModuleType, wire: Wire, size: int, depth: int, count: int) -> None:
    """Read the whole file for the parent, or tell why not."""
    try:
        remote = Remote(wire.ask, size)
        with h5py.File(remote, "r") as file:
            if file.id.get_create_plist().get_userblock():
                raise Refusal("h", "other bytes stand before the HDF5 file (a user block)")
            walk = Walk(h5py, depth, count)
            walk.group(h5py.h5g.open(file.id, b"/"), b"", 0)
            to_send = tell(h5py, walk, wire)
            wire.send("L")
            for path, dataset in to_send:
                send(h5py, path, dataset, wire)
            wire.send("Z")
    except Refusal as refusal:
        wire.send("E", refusal.kind.encode() + str(refusal).encode("utf-8", "replace")[:600])
    except MemoryError:
        wire.send("E", b"m")
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError) as error:
        # whatever h5py makes of the library's error stack
        wire.send("E", b"dthe HDF5 library says: " + str(error).encode("utf-8", "replace")[:400])


def main(arguments: list[str]) -> None:
    folder, numbers = arguments[0], [int(word) for word in arguments[1:]]
    size, memory, seconds, depth, count = numbers
    wire = Wire(0, 1)
    sys.path.append(folder)  # -I leaves out where a user's own packages lie
    try:
        import h5py
    except ImportError:
        wire.send("E", b"a")
        return
    limit(memory, seconds)
    serve(h5py, wire, size, depth, count)


if __name__ == "__main__":
    main(sys.argv[1:])
