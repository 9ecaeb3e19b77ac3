"""Archives for tests: tars byte by byte, as no tool writes them, and the same names in every container."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

END = bytes(1024)


def header(
    name: bytes = b"a.txt", size: int | bytes = 0, *, kind: bytes = b"0", link: bytes = b"", mode: bytes = b"0000644",
    magic: bytes = b"ustar\x0000", prefix: bytes = b"", checksum: bytes | None = None,
) -> bytes:  # fmt: skip
    """One block of a tar."""
    length = size if isinstance(size, bytes) else b"%011o" % size
    fields = (
        name.ljust(100, b"\0"), mode.ljust(8, b"\0"), b"0001000\0", b"0001000\0", length.ljust(12, b"\0"),
        b"14000000000\0", b" " * 8, kind, link.ljust(100, b"\0"), magic, b"u".ljust(32, b"\0"), b"g".ljust(32, b"\0"),
        b"0000000\0", b"0000000\0", prefix.ljust(155, b"\0"),
    )  # fmt: skip
    block = bytearray(b"".join(fields).ljust(512, b"\0"))
    assert len(block) == 512
    block[148:156] = (b"%06o\0 " % sum(block)) if checksum is None else checksum
    return bytes(block)


def member(name: bytes = b"a.txt", data: bytes = b"", **fields: object) -> bytes:
    """A header and its bytes."""
    return header(name, len(data), **fields) + data + bytes(-len(data) % 512)  # type: ignore[arg-type]


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    text = b""
    for key, value in records:
        length = len(key) + len(value) + 3
        while len(b"%d" % length) + len(key) + len(value) + 3 != length:
            length = len(b"%d" % length) + len(key) + len(value) + 3
        text += b"%d %s=%s\n" % (length, key, value)
    return member(b"pax", text, kind=kind)


def tar_of(files: Mapping[str, bytes], style: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar as Python's tarfile writes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=style) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_of(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return out.getvalue()


def walked(root: Path) -> dict[str, bytes]:
    """Every regular file below a folder, by its relative path."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# Containers of a tar: what packs it, and its ending.
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": lambda data: gzip.compress(data, mtime=0),
    "tar.xz": lambda data: lzma.compress(data, preset=0),
    "tar.bz2": bz2.compress,
}


def wrongly_read(right: Callable[[int], bool], count: int) -> list[int]:
    """Which of so many were not read right by four threads at once, each in an order of its own."""

    def work(seed: int) -> list[int]:
        return [index for index in random.Random(seed).sample(range(count), count) if not right(index)]

    with ThreadPoolExecutor(4) as pool:
        return [index for found in pool.map(work, range(4)) for index in found]


def damaged_zip(files: dict[str, bytes]) -> bytes:
    """A stored zip with one bit of its first file turned."""
    data = bytearray(zip_of(files, zipfile.ZIP_STORED))
    data[data.index(next(iter(files.values()))) + 40] ^= 1
    return bytes(data)
