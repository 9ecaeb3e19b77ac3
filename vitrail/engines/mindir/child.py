"""The process that has MindSpore, in an environment of its own: run as a script, never imported by the package.

    python -I child.py write FOLDER     FOLDER/network.py, constants.npz and job.json become FOLDER/model.mindir
    python -I child.py serve FILE       answers batches with FILE, until its input ends

What it says on its output, as frames (length of the body, one letter, body), all numbers little-endian:

    V  version of MindSpore: it has written, or is ready       A  logits: rows, columns, float32
    N  MindSpore is not there                                  E  what went wrong, in words

What it is asked, in `serve`: four sides and the float32 of one batch.  Only the standard library, NumPy and MindSpore
are imported; whatever these print goes to the error output.
"""

from __future__ import annotations

import importlib
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

SIDES = struct.Struct("<4I")


class Wire:
    """The two pipes to the parent, taken before anything else can print into them."""

    def __init__(self) -> None:
        self._source, self._sink = os.dup(0), os.dup(1)
        os.dup2(2, 1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def send(self, kind: str, body: bytes = b"") -> None:
        data = memoryview(struct.pack("<I", len(body)) + kind.encode() + body)
        while data:
            data = data[os.write(self._sink, data) :]

    def receive(self, count: int) -> bytes | None:
        """So many bytes; None where the parent has ended."""
        got = bytearray()
        while len(got) < count:
            piece = os.read(self._source, min(count - len(got), 1 << 20))
            if not piece:
                return None
            got += piece
        return bytes(got)


def write(mindspore: Any, folder: Path) -> None:
    """Compile the generated cell, and save what came of it."""
    import numpy as np

    job = json.loads((folder / "job.json").read_text())
    with np.load(folder / "constants.npz", allow_pickle=False) as held:
        constants = [held[f"p{place}"] for place in range(len(job["names"]))]
    sys.path.insert(0, str(folder))
    module = importlib.import_module("network")  # MindSpore parses its source, so it must be a file

    shape = [job["batch"], *job["image"]]
    if job["batch"] is None:
        images = mindspore.Tensor(shape=shape, dtype=mindspore.float32)
    else:
        images = mindspore.Tensor(np.zeros(shape, np.float32))
    network = module.Network(constants, job["names"])
    network.set_train(False)
    mindspore.export(network, images, file_name=str(folder / "model"), file_format="MINDIR")
    (folder / "model.mindir").chmod(0o644)  # it is written for its owner to read alone


def serve(mindspore: Any, wire: Wire, path: str) -> None:
    """Answer batch after batch."""
    import numpy as np

    network = mindspore.nn.GraphCell(mindspore.load(path))
    wire.send("V", mindspore.__version__.encode())
    while (head := wire.receive(SIDES.size)) is not None:
        sides = SIDES.unpack(head)
        body = wire.receive(4 * int(np.prod(sides)))
        if body is None:
            return
        images = mindspore.Tensor(np.frombuffer(body, "<f4").reshape(sides))
        logits = network(images).asnumpy().astype("<f4")
        wire.send("A", struct.pack("<2I", *logits.shape) + logits.tobytes())


def main(mode: str, path: str) -> None:
    wire = Wire()
    try:
        import mindspore
    except ImportError as error:
        wire.send("N", str(error).encode("utf-8", "replace")[:400])
        return
    try:
        mindspore.set_context(mode=mindspore.GRAPH_MODE)
        mindspore.set_device("CPU")
        if mode == "serve":
            serve(mindspore, wire, path)
        else:
            write(mindspore, Path(path))
            wire.send("V", mindspore.__version__.encode())
    except Exception as error:  # MindSpore raises what its C++ raises; the parent puts it into words of ours
        wire.send("E", str(error).strip().encode("utf-8", "replace")[:2000])


if __name__ == "__main__":
    main(*sys.argv[1:])
