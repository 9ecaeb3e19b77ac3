"""Small made data sets in the layouts that people have."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vitrail.class_names import wnids


def png(seed: int = 0, size: tuple[int, int] = (9, 7)) -> bytes:
    """A small picture of its own colours."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def class_folders(root: Path, counts: Mapping[str, int], *, ending: str = "png") -> Path:
    """Class folders with pictures `NAME_3.png`."""
    seed = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / name / f"{name}_{number}.{ending}").write_bytes(png(seed))
            seed += 1
    return root


SYNSETS = wnids("imagenet1k")[:3]


def imagenet(root: Path, lines: str | bytes | None = None, *, beside: bool = True, train: bool = True) -> Path:
    """`train` with three synsets and a flat `val` of six pictures, labels 0 1 2 0 1 2, with its list."""
    if train:
        class_folders(root / "train", dict.fromkeys(SYNSETS, 2), ending="JPEG")
    (root / "val").mkdir(parents=True)
    for number in range(6):
        (root / "val" / f"ILSVRC2012_val_{number + 1:08d}.JPEG").write_bytes(png(100 + number))
    if lines is None:
        lines = "".join(f"ILSVRC2012_val_{number + 1:08d}.JPEG {number % 3}\n" for number in range(6))
    data = lines.encode() if isinstance(lines, str) else lines
    (root / "val_label.txt" if beside else root / "val" / "val_label.txt").write_bytes(data)
    return root


def element(kind: int, content: bytes, *, pad: bool = True) -> bytes:
    """One element of a MATLAB file."""
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8 if pad else 0)


def matlab_row(name: str, values: Sequence[int]) -> bytes:
    """A MATLAB file's compressed row of numbers, stored as 16 bits, as the published ones are."""
    plain = element(
        14,
        element(6, struct.pack("<II", 6, 0))
        + element(5, struct.pack("<ii", 1, len(values)))
        + element(1, name.encode())
        + element(4, np.array(values, "<u2").tobytes()),
    )
    return element(15, zlib.compress(plain), pad=False)


def matlab(*elements: bytes) -> bytes:
    """A MATLAB file of level 5."""
    return b"MATLAB 5.0 MAT-file".ljust(116) + bytes(8) + struct.pack("<H", 0x0100) + b"IM" + b"".join(elements)


def flowers(root: Path, *, classes: int = 102) -> Path:
    """Three pictures of each flower: the first trains, the second is valid, the third test; labels run 1, 2, 3 ..."""
    (root / "jpg").mkdir(parents=True)
    picture = png()
    count = 3 * classes
    for number in range(1, count + 1):
        (root / "jpg" / f"image_{number:05d}.jpg").write_bytes(picture)
    labels = [number % classes + 1 for number in range(count)]
    parts = [list(range(1 + at * classes, 1 + (at + 1) * classes)) for at in range(3)]
    (root / "imagelabels.mat").write_bytes(matlab(matlab_row("labels", labels)))
    names = ("trnid", "valid", "tstid")
    (root / "setid.mat").write_bytes(matlab(*(matlab_row(name, part) for name, part in zip(names, parts, strict=True))))
    return root
