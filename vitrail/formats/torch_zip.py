"""Files of `torch.save` (zip form, since torch 1.6), read without torch and without running them.

    NAME/data.pkl      the object as a pickle; tensors are (storage key, offset, size, stride)
    NAME/data/0 ...    the storages, stored as they are
    NAME/version, NAME/byteorder, ...

TorchScript has in it, besides, NAME/code/... and NAME/constants.pkl; its weights are read and its code is not.
The pickle goes through the own opcode reader; what real files hold besides tensors (argparse.Namespace, paths, NumPy
scalars) becomes plain values, everything else that is named ends the reading.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from vitrail.errors import WeightsError
from vitrail.formats import torch_objects
from vitrail.formats.bounds import HEADER_BYTES, NAME_BYTES, check_name, check_names, damaged, hostile, shown
from vitrail.formats.held import Held, hold
from vitrail.formats.pickles import read as read_pickle
from vitrail.formats.stored import Stored, Tensors
from vitrail.formats.torch_objects import Declared, Storage, Views
from vitrail.formats.zip_directory import Member, members, stored_bytes

NEWEST_VERSION = 10  # of torch's zip layout; files of torch 1.6 to 2.13 say 3


def read(path: Path, *, sha256: str | None = None) -> object:
    """The object that was saved: plain values, with a `Stored` for each tensor or NumPy array.

    torch.dtype, torch.device and paths become text, torch.Size a tuple, argparse.Namespace and every kind of dict a
    dict, a set a list.  WeightsError V201 for damaged bytes, V202 for what names other classes or exceeds a limit.
    """
    with hold(path, sha256=sha256) as file:
        return parse(file)


def parse(file: Held) -> object:
    """As `read`, from a file that is already held."""
    return _Archive(file).tree()


def program(file: Held) -> tuple[Tensors, list[str]]:
    """The weights of a TorchScript program by their paths in it, and notes; errors as `read`.

    WeightsError V206 for a frozen program, whose weights are constants of its code and have no names any more.
    """
    tree = _Archive(file, program=True).tree()
    if not isinstance(tree, dict):
        raise damaged(file.path, f"a value of type `{type(tree).__name__}` stands where a program's module belongs")
    tensors: Tensors = {}
    for name, tensor in _flat(tree, "", file):
        if name in tensors:
            raise hostile(file.path, f"two tensors are called `{shown(name)}`")
        tensors[name] = tensor
    if not tensors:
        raise WeightsError(
            "V206",
            f"`{file.path}` is a frozen TorchScript program: its weights have no names any more",
            hint="run it as it is with --trust, or convert the weights that it was made from",
        )
    check_names(tensors, file.path)
    return tensors, ["weights taken out of a TorchScript program, whose code was not run"]


def extra(file: Held, name: str) -> bytes | None:
    """What its writer put into a TorchScript program under a name; None where that is nothing."""
    for member in members(file).values():
        if member.name.partition("/")[2] == f"extra/{name}":
            return bytes(stored_bytes(file, member, limit=HEADER_BYTES))
    return None


def _flat(tree: object, path: str, file: Held) -> Iterator[tuple[str, Stored]]:
    """Each tensor by the attributes that lead to it; in a list by its place. What is no tensor is no weight."""
    if isinstance(tree, Stored):
        yield path, tree
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else ()
    for key, value in items:
        if isinstance(value, Stored | dict | list | tuple):
            if not isinstance(key, str | int) or len(str(key)) > NAME_BYTES:
                raise hostile(file.path, f"an attribute is called `{shown(key)}`")
            name = f"{path}.{key}" if path else str(key)
            check_name(name, file.path)  # before it grows: short references may name long paths
            yield from _flat(value, name, file)


class _Archive:
    """The members of one file, and the storages read so far."""

    def __init__(self, file: Held, *, program: bool = False) -> None:
        self._file = file
        self._program = program
        self._storages: dict[str, tuple[Declared, Storage]] = {}
        self._pickle, self._data = self._sorted_out(members(file))

    def _sorted_out(self, found: dict[str, Member]) -> tuple[Member, dict[str, Member]]:
        pickles = [name for name in found if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1 or "/" not in pickles[0]:
            raise hostile(self._file.path, f"{len(pickles)} members named `NAME/data.pkl` where one belongs")
        prefix = pickles[0].removesuffix("data.pkl")
        data: dict[str, Member] = {}
        for name, member in found.items():
            inner = name.removeprefix(prefix)
            if self._program and name.startswith(prefix) and (inner in _CODE or inner.startswith(_CODE_FOLDERS)):
                continue
            if not name.startswith(prefix) or (inner not in _SMALL and not re.fullmatch(r"data/[0-9]{1,10}", inner)):
                raise hostile(self._file.path, f"the member `{shown(name)}` does not belong into a file of torch")
            if inner in _SMALL:
                self._check_small(inner, bytes(stored_bytes(self._file, member, limit=_SMALL[inner])))
            else:
                data[inner.removeprefix("data/")] = member
        return found[pickles[0]], data

    def _check_small(self, inner: str, content: bytes) -> None:
        if inner == "byteorder" and content != b"little":
            raise damaged(
                self._file.path,
                f"its byte order is `{shown(content.decode('latin-1'))}`",
                hint="save it again on a little-endian machine",
            )
        if inner == "version":
            text = content.strip()
            if not re.fullmatch(rb"[0-9]{1,9}", text) or not 1 <= int(text) <= NEWEST_VERSION:
                raise damaged(
                    self._file.path,
                    f"its layout version is `{shown(content.decode('latin-1'))}`, known are 1 to {NEWEST_VERSION}",
                    hint="save it again as safetensors with the program that wrote it",
                )

    def tree(self) -> object:
        rules = torch_objects.rules(
            self._storage, Views(self._file.path, self._file.size).tensor, program=self._program
        )
        data = stored_bytes(self._file, self._pickle, limit=HEADER_BYTES)
        tree = read_pickle(data, self._file.path, rules)
        unused = sorted(set(self._data) - set(self._storages))
        if unused:
            raise damaged(self._file.path, f"{len(unused)} storages are used by no tensor, first `data/{unused[0]}`")
        return tree

    def _storage(self, identity: object) -> Storage:
        told = torch_objects.declared(identity, self._file.path)
        known = self._storages.get(told.key)
        if known is None:
            known = self._storages[told.key] = (told, self._read_storage(told))
        if known[0] != told:
            raise hostile(self._file.path, f"the storage `{shown(told.key)}` is used as two types or sizes")
        return known[1]

    def _read_storage(self, told: Declared) -> Storage:
        member = self._data.get(told.key)
        if member is None:
            raise damaged(self._file.path, f"the storage `{shown(told.key)}` is missing")
        if member.size != told.nbytes:
            raise damaged(
                self._file.path, f"the storage `{told.key}` has {member.size} bytes, it should have {told.nbytes}"
            )
        return Storage(told.dtype, stored_bytes(self._file, member))


# The small members and how large they may be.
_SMALL = {
    "data.pkl": HEADER_BYTES,
    "version": 64,
    "byteorder": 16,
    ".format_version": 64,
    ".storage_alignment": 64,
    ".data/serialization_id": 256,
}
# What a program has besides.
_CODE = ("constants.pkl", "traced_inputs.pkl", ".data/version")
_CODE_FOLDERS = ("code/", "constants/", "extra/", "traced_inputs/")
