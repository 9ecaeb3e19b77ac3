"""Files of `torch.save` before torch 1.6, read without torch and without running them.

    4 pickles   a magic number, the version 1001, facts of the machine, the object
    1 pickle    the keys of the storages, in the order in which they follow
    storages    int64 count, then the elements; nothing after the last one

The object comes before the storages that its tensors are views of, so its pickle is read twice: first for what it says
of the storages, then, with their bytes at hand, for its tensors.
"""

from __future__ import annotations

import struct
from pathlib import Path

from vitrail.formats import torch_objects
from vitrail.formats.bounds import HEADER_BYTES, TENSORS, damaged, hostile, shown
from vitrail.formats.held import Held, hold
from vitrail.formats.pickles import Rules, read_first
from vitrail.formats.stored import Stored
from vitrail.formats.torch_objects import Declared, Storage, Views

MAGIC = b"\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little")  # LONG1: protocols 2 to 5
VERSION = 1001

_HEAD = Rules({}, limit=4096)
_NOTHING = Stored("U8", (0,), b"")


def is_legacy(head: bytes) -> bool:
    """Whether a file with these first bytes (32 suffice) is of this form."""
    return head[:1] == b"\x80" and MAGIC in head[2:32]


def read(path: Path, *, sha256: str | None = None) -> object:
    """The object that was saved, in the values of `torch_zip.read`, and with its errors."""
    with hold(path, sha256=sha256) as file:
        return parse(file)


def parse(file: Held) -> object:
    """As `read`, from a file that is already held."""
    start = _after_head(file)
    pickle = file.read(start, min(file.size - start, HEADER_BYTES))
    found, end = _declarations(pickle, file)
    keys, length = read_first(file.read(start + end, min(file.size - start - end, HEADER_BYTES)), file.path, Rules({}))
    storages = _storages(_in_order(keys, found, file), start + end + length, file)

    def storage(identity: object) -> Storage:
        return storages[torch_objects.declared(identity, file.path).key]

    return read_first(pickle, file.path, torch_objects.rules(storage, Views(file.path, file.size).tensor))[0]


def _after_head(file: Held) -> int:
    """Where the object's pickle begins, once the three pickles before it hold."""
    at, found = 0, []
    for _ in range(3):
        value, length = read_first(file.read(at, min(file.size - at, _HEAD.limit)), file.path, _HEAD)
        found.append(value)
        at += length
    magic, version, machine = found
    if magic != int.from_bytes(MAGIC[2:], "little") or version != VERSION or not isinstance(machine, dict):
        raise damaged(file.path, f"begins as a file of torch.save, its version is `{shown(version)}`, not {VERSION}")
    if machine.get("little_endian") is not True:
        raise damaged(file.path, "its byte order is not little-endian", hint="save it again on a little-endian machine")
    return at


def _declarations(pickle: memoryview, file: Held) -> tuple[dict[str, Declared], int]:
    """What the object's pickle says of its storages, and its length."""
    found: dict[str, Declared] = {}

    def declare(identity: object) -> Storage:
        told = torch_objects.declared(identity, file.path)
        if found.setdefault(told.key, told) != told:
            raise hostile(file.path, f"the storage `{shown(told.key)}` is used as two types or sizes")
        return Storage(told.dtype, memoryview(b""))

    _, end = read_first(pickle, file.path, torch_objects.rules(declare, lambda _: _NOTHING))
    return found, end


def _in_order(keys: object, found: dict[str, Declared], file: Held) -> list[Declared]:
    """The storages as they lie in the file; the list and the object must name the same ones."""
    if not isinstance(keys, list) or len(keys) > TENSORS or not all(isinstance(key, str) for key in keys):
        raise damaged(file.path, "the list of its storages is not understood")
    if len(set(keys)) != len(keys):
        raise hostile(file.path, "a storage stands twice in its list")
    for names, what in (
        (sorted(set(keys) - set(found)), "used by no tensor"),
        (sorted(set(found) - set(keys)), "missing"),
    ):
        if names:
            raise damaged(file.path, f"{len(names)} storages are {what}, first `{shown(names[0])}`")
    return [found[key] for key in keys]


def _storages(order: list[Declared], at: int, file: Held) -> dict[str, Storage]:
    storages: dict[str, Storage] = {}
    for told in order:
        (count,) = struct.unpack("<q", file.read(at, 8))
        if count != told.count:
            raise damaged(
                file.path, f"the storage `{shown(told.key)}` has {count} elements, it should have {told.count}"
            )
        storages[told.key] = Storage(told.dtype, file.read(at + 8, told.nbytes))
        at += 8 + told.nbytes
    if at != file.size:
        raise damaged(file.path, f"{file.size - at} bytes follow the last storage")
    return storages
