"""HDF5 files that are wrong in one place: name -> a function that makes the file (beside `secret.h5`, a good one)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

VALUES = np.arange(6, dtype="<f4").reshape(2, 3)
SECRET = np.full((4,), 7.5, "<f4")


def good(path: Path) -> None:
    """Two layers as Keras 3 writes them."""
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = VALUES
        file["layers/dense/vars/1"] = VALUES[0]
        file["layers/norm/vars/0"] = SECRET
        file.create_group("vars")


def made(fill: Callable[[h5py.File], object]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file["a"] = VALUES
            fill(file)

    return make


def patched(fill: Callable[[h5py.File], object], change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        made(fill)(path)
        before = path.read_bytes()
        after = change(before)
        assert after != before
        path.write_bytes(after)

    return make


def cut(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        good(path)
        path.write_bytes(change(path.read_bytes()))

    return make


def external(target: str, size: int = 16) -> Callable[[Path], None]:
    return made(lambda file: file.create_dataset("x", (size // 4,), "<f4", external=[(target, 0, size)]))


def _virtual(source: str) -> Callable[[h5py.File], object]:
    def fill(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((4,), "<f4")
        layout[:] = h5py.VirtualSource(source, "x", (4,))
        file.create_virtual_dataset("v", layout)

    return fill


def _link(name: str, link: object) -> Callable[[h5py.File], object]:
    return lambda file: file.__setitem__(name, link)


def _two_soft(file: h5py.File) -> None:
    file["x"] = h5py.SoftLink("y")
    file["y"] = h5py.SoftLink("x")


def _same(file: h5py.File) -> None:
    file["b"] = file["a"]


def _cycle(file: h5py.File) -> None:
    file["g/vars/0"] = VALUES
    file["g/again"] = file["g"]


def _root_again(file: h5py.File) -> None:
    file["g/root"] = file["/"]


def _kind(name: str, dtype: object, shape: tuple[int, ...] = (2,)) -> Callable[[h5py.File], object]:
    return lambda file: file.create_dataset(name, shape, dtype)


def _filled(name: str, values: object, dtype: object) -> Callable[[h5py.File], object]:
    return lambda file: file.create_dataset(name, data=values, dtype=dtype)


def _raw_kind(kind: h5py.h5t.TypeID) -> Callable[[h5py.File], object]:
    return lambda file: h5py.h5d.create(file.id, b"x", kind, h5py.h5s.create_simple((2,)))


def _odd_float() -> h5py.h5t.TypeID:
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(31, 20, 11, 0, 20)
    return kind


def _odd_integer() -> h5py.h5t.TypeID:
    kind = h5py.h5t.STD_I32LE.copy()
    kind.set_precision(17)
    return kind


def _nested(depth: int) -> Callable[[h5py.File], object]:
    def fill(file: h5py.File) -> None:
        group = file.id
        for _ in range(depth):
            group = h5py.h5g.create(group, b"g")

    return fill


def _filter(code: int, optional: bool) -> Callable[[h5py.File], object]:
    def fill(file: h5py.File) -> None:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4,))
        flag = h5py.h5z.FLAG_OPTIONAL if optional else h5py.h5z.FLAG_MANDATORY
        plist.set_filter(code, flag)
        data = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4,)), plist)
        if optional:
            data.write(h5py.h5s.ALL, h5py.h5s.ALL, SECRET)

    return fill


def _some_chunks(file: h5py.File) -> None:
    data = file.create_dataset("x", (100, 100), "<f4", chunks=(10, 100))
    data[:10] = 1


def _many_zeros(file: h5py.File) -> None:
    for index in range(60):
        file.create_dataset(f"x{index}", data=np.zeros(90_000, "<f8"), compression="gzip")


def _bools(file: h5py.File) -> None:
    kind = h5py.h5t.py_create(np.dtype(bool))
    data = h5py.h5d.create(file.id, b"x", kind, h5py.h5s.create_simple((4,)))
    data.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([0, 1, 1, 7], "i1"), mtype=kind)


def _layout(data: bytes, values: np.ndarray) -> bytes:
    """The message that says where the values lie: version 3, contiguous, address, size."""
    message = b"\x03\x01" + struct.pack("<QQ", data.index(values.tobytes()), values.nbytes)
    assert data.count(message) == 1
    return message


def _shared_bytes(data: bytes) -> bytes:
    return data.replace(_layout(data, SECRET + 1), _layout(data, SECRET))


def _two(file: h5py.File) -> None:
    file["x"] = SECRET
    file["y"] = SECRET + 1


def _moved(by: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        message = _layout(data, VALUES)
        address, size = struct.unpack("<2xQQ", message)
        return data.replace(message, message[:2] + struct.pack("<QQ", address + by, size))

    return change


def _user_block(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        file["a"] = VALUES


def _many(file: h5py.File) -> None:
    for index in range(150):
        file.create_group(f"g{index}")


ITEMS: dict[str, Callable[[Path], None]] = {
    # what leads elsewhere
    "external storage in /etc/passwd": external("/etc/passwd"),
    "external storage in a sibling": external("secret.h5"),
    "external storage above": external("../../secret"),
    "external storage of many files": made(
        lambda f: f.create_dataset("x", (8,), "<f4", external=[("secret.h5", 0, 16), ("/etc/passwd", 4, 16)])
    ),
    "external link to a dataset": made(_link("x", h5py.ExternalLink("secret.h5", "layers/norm/vars/0"))),
    "external link as a middle part": made(_link("layers/dense", h5py.ExternalLink("secret.h5", "layers/dense"))),
    "external link to /etc/passwd": made(_link("x", h5py.ExternalLink("/etc/passwd", "/"))),
    "external link to a device": made(_link("x", h5py.ExternalLink("/dev/zero", "/"))),
    "soft link to a dataset": made(_link("x", h5py.SoftLink("/a"))),
    "soft link as a middle part": made(_link("layers/g", h5py.SoftLink("/"))),
    "soft link to nothing": made(_link("x", h5py.SoftLink("/nothing"))),
    "soft link to itself": made(_link("x", h5py.SoftLink("x"))),
    "two soft links to each other": made(_two_soft),
    "hard link twice": made(_same),
    "hard link cycle": made(_cycle),
    "hard link to the root": made(_root_again),
    "virtual dataset of a sibling": made(_virtual("secret.h5")),
    "virtual dataset of itself": made(_virtual(".")),
    "virtual dataset of /etc/passwd": made(_virtual("/etc/passwd")),
    # what is not there
    "4 GB never written": made(_kind("x", "<f4", (1 << 30,))),
    "a little never written": made(_kind("x", "<f4")),
    "chunks never written": made(lambda f: f.create_dataset("x", (1 << 30,), "<f4", chunks=(1 << 20,))),
    "some chunks never written": made(_some_chunks),
    "2^50 chunks": made(lambda f: f.create_dataset("x", (1 << 50,), "i1", chunks=(1,))),
    "shape of 2^60": made(lambda f: f.create_dataset("x", (1 << 30, 1 << 30), "i1", chunks=(1, 1 << 20))),
    "gzip 1:1000": made(lambda f: f.create_dataset("x", data=np.zeros(16 << 20, "u1"), compression="gzip")),
    "gzip 1:1000 in one chunk": made(
        lambda f: f.create_dataset("x", data=np.zeros(16 << 20, "u1"), compression="gzip", chunks=(16 << 20,))
    ),
    "gzip 1:20 many times": made(_many_zeros),
    # filters
    "filter lzf": made(lambda f: f.create_dataset("x", data=VALUES, compression="lzf")),
    "filter scale-offset": made(lambda f: f.create_dataset("x", data=VALUES, scaleoffset=2)),
    "filter unknown, optional": made(_filter(32015, True)),
    "filter of 65535": made(_filter(65535, True)),
    # types
    "texts of varying length": made(_filled("x", ["a", "b"], h5py.string_dtype())),
    "texts of fixed length": made(_filled("x", np.array([b"ab", b"c"]), None)),
    "lists of varying length": made(_kind("x", h5py.vlen_dtype(np.dtype("i4")))),
    "references": made(_kind("x", h5py.ref_dtype)),
    "references to regions": made(_kind("x", h5py.regionref_dtype)),
    "compound": made(_kind("x", np.dtype([("a", "<f4"), ("b", "<i4")]))),
    "complex": made(_filled("x", np.ones(2, "<c8"), None)),
    "opaque": made(_filled("x", np.zeros(2, "V2"), None)),
    "arrays as elements": made(_kind("x", np.dtype(("<f4", (3,))))),
    "an enumeration": made(_filled("x", [0, 1], h5py.enum_dtype({"RED": 0, "BLUE": 1}, "i1"))),
    "a float of 80 bits": made(_filled("x", np.ones(2, np.longdouble), None)),
    "a float of odd fields": made(_raw_kind(_odd_float())),
    "an integer of 17 bits": made(_raw_kind(_odd_integer())),
    "bits": made(_raw_kind(h5py.h5t.STD_B8LE)),
    "a time": made(_raw_kind(h5py.h5t.UNIX_D32LE)),
    "a named type": made(lambda f: f.__setitem__("t", np.dtype("<f4"))),
    "BOOL 7": made(_bools),
    "no extent": made(lambda f: f.create_dataset("x", data=h5py.Empty("<f4"))),
    "rank 9": made(_filled("x", np.zeros((1,) * 9, "<f4"), None)),
    "zero hides 2^62": made(
        lambda f: f.create_dataset("x", (0, 1 << 62), "i1", maxshape=(None, 1 << 62), chunks=(1, 1))
    ),
    # structure and names
    "3000 nested groups": made(_nested(3000)),
    "33 nested groups": made(_nested(33)),
    "more objects than allowed": made(_many),
    "name ..": patched(
        lambda f: f.create_group("qq").create_dataset("z", data=VALUES), lambda d: d.replace(b"qq\0", b"..\0")
    ),
    "name .": patched(lambda f: f.create_group("q"), lambda d: d.replace(b"q\0", b".\0")),
    "name a/a": patched(lambda f: f.create_group("a_a"), lambda d: d.replace(b"a_a", b"a/a")),
    "name empty": patched(lambda f: f.create_group("q"), lambda d: d.replace(b"q\0\0", b"\0\0\0")),
    "name control character": made(_filled("a\x1bb", VALUES, None)),
    "name right-to-left": made(_filled("a\u202eb", VALUES, None)),
    "name backslash": made(_filled("a\\b", VALUES, None)),
    "name not UTF-8": patched(_filled("qq", VALUES, None), lambda d: d.replace(b"qq\0", b"q\xff\0")),
    "name of 600 bytes": made(_filled("x" * 600, VALUES, None)),
    "path of 600 bytes": made(_filled("/".join(["x" * 60] * 10), VALUES, None)),
    "names equal but for case": made(_filled("A", VALUES, None)),
    "a name twice": patched(_filled("b", VALUES, None), lambda d: d.replace(b"b\0\0", b"a\0\0")),
    # the bytes
    "empty": cut(lambda d: b""),
    "magic alone": cut(lambda d: d[:8]),
    "half": cut(lambda d: d[: len(d) // 2]),
    "one byte short": cut(lambda d: d[:-1]),
    "text": cut(lambda d: b"<html>" * 100),
    "superblock version 9": cut(lambda d: d[:8] + b"\x09" + d[9:]),
    "superblock of 0xff": cut(lambda d: d[:9] + b"\xff" * 87 + d[96:]),
    "behind a user block": _user_block,
    "tensors that share bytes": patched(_two, _shared_bytes),
    "data beyond the end": patched(lambda f: None, _moved(1 << 40)),
    "data over the end": patched(lambda f: None, _moved(4096)),
}
