"""Which container a file is, by its first bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vitrail.formats.ranges import ranges

Archive = Literal["zip", "tar", "gzip", "xz", "bzip2", "zstd", "parquet"]

_MAGIC: tuple[tuple[bytes, Archive], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),  # an empty one
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PAR1", "parquet"),
)  # fmt: skip


def archive_kind(path: Path) -> Archive | None:
    """The container that a regular file is, or None; SystemFault V702 when it cannot be read."""
    with ranges(path).opened() as read:
        head = read(0, 512)
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    return "tar" if is_tar(head) else None


def is_tar(head: bytes) -> bool:
    """Whether a file's first 512 bytes are a tar header, or the zeros of an empty archive."""
    if len(head) != 512:
        return False
    told = head[148:156].rstrip(b"\0 ").lstrip(b" ")
    found = sum(head) - sum(head[148:156]) + 8 * 32
    return not any(head) or (told.isdigit() and found == int(told, 8) if set(told) <= set(b"01234567") else False)
