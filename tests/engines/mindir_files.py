"""MINDIR files made by hand, field by field; and Pythons that have a MindSpore of our making, or none that works."""

from __future__ import annotations

import sys
from pathlib import Path

IMAGE, CLASSES = (3, 2, 4), 5


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(*sides: int, extra: bytes = b"") -> bytes:
    return b"".join(field(1, side) for side in sides) + field(2, 1) + extra


def end(name: str, *sides: int) -> bytes:
    return field(1, name) + field(2, tensor(*sides))


def node(kind: str, extra: bytes = b"") -> bytes:
    return field(1, "images") + field(2, "v0") + field(4, kind) + extra


def graph(*nodes: bytes, batch: int = -1, phase: str = "export.mindir.17.5.0", extra: bytes = b"") -> bytes:
    parts = [field(1, one) for one in nodes or (node("REF::Add:1"), node("Constant"))]
    weight = field(3, tensor(7, extra=field(9, bytes(28)) + field(7, "head.weight")))
    ends = field(5, end("net:images", batch, *IMAGE)) + field(6, end("net:v0", batch, CLASSES))
    attribute = field(1, "compile_phase") + field(5, phase) + field(16, 8)
    return b"".join(parts) + field(2, "net") + weight + ends + field(8, attribute) + extra


def primitive(name: str, kind: str) -> bytes:
    return field(1, name) + field(2, kind) + field(5, 1)


def program(body: bytes | None = None, *, kinds: tuple[str, ...] = ("Add", "MatMul"), extra: bytes = b"") -> bytes:
    """A file that our reader takes, unless it is told otherwise."""
    listed = b"".join(field(12, primitive(f"{kind}:{place + 1}", kind)) for place, kind in enumerate(kinds))
    return field(2, "MindSpore") + field(7, graph() if body is None else body) + listed + field(10, 1) + extra


# A MindSpore that answers with sums, and writes what lies beside it.
MINDSPORE = """
import pathlib, time
import numpy as np
from types import SimpleNamespace

GRAPH_MODE, float32, __version__ = 0, "float32", "2.10.0"
set_context = set_device = lambda *given, **named: print("a word on the output")
class Parameter:
    def __init__(self, value, name, requires_grad): pass
class Tensor:
    def __init__(self, value=None, shape=None, dtype=None): self.value, self.shape = value, shape
    def asnumpy(self): return self.value
class Cell:
    def set_train(self, mode): assert mode is False
class GraphCell:
    def __init__(self, found): assert found.startswith(b"\\x12\\tMindSpore")
    def __call__(self, images):
        rows = images.value.reshape(len(images.value), -1)
        if rows[0, 0] == -1: raise RuntimeError("Reshape fails\\n-----\\nC++ stack")
        if rows[0, 0] == -2: raise SystemExit(3)
        if rows[0, 0] == -3: time.sleep(60)
        if rows[0, 0] == -4: return Tensor(rows)
        return Tensor(np.stack([rows.sum(1) + k for k in range(5)], 1))
nn = SimpleNamespace(Cell=Cell, GraphCell=GraphCell)
class _Ops:
    def __getattr__(self, name): return lambda *given, **named: None
ops = _Ops()
def load(path): return pathlib.Path(path).read_bytes()
def export(network, images, file_name, file_format):
    assert file_format == "MINDIR"
    source = pathlib.Path(__file__).with_name("written")
    if source.exists():
        target = pathlib.Path(file_name + ".mindir")
        target.write_bytes(source.read_bytes())
        target.chmod(0o400)
"""


def python(folder: Path, body: str) -> str:
    """An interpreter that does this, whatever it is called with."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\n{body}\n")
    path.chmod(0o755)
    return str(path)


def with_mindspore(folder: Path, written: bytes | None = None, *, mindspore: str = MINDSPORE) -> str:
    """An interpreter that runs what it is given, with that MindSpore."""
    (folder / "mindspore.py").write_text(mindspore)
    if written is not None:
        (folder / "written").write_bytes(written)
    lines = (
        "import runpy, sys",
        f"sys.path.insert(0, {str(folder)!r})",
        "assert sys.argv[1:4] == ['-I', '-W', 'ignore']",
        "sys.argv = sys.argv[4:]",
        "runpy.run_path(sys.argv[0], run_name='__main__')",
    )
    return python(folder, "\n".join(lines))
