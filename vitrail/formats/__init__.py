"""Bytes of foreign files to named tensors: which format it is by content, and one way to read them all."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vitrail.errors import WeightsError
from vitrail.formats import zip_directory
from vitrail.formats.held import Held, hold

if TYPE_CHECKING:
    from vitrail.formats.stored import Tensors

Kind = Literal["safetensors", "torch_zip", "torch_legacy", "npz", "hdf5", "unknown"]

# Protocol 2 pickle of torch's magic number 0x1950a86a20f9469cfc6c: how files of torch before 1.6 begin.
_TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_HDF5 = b"\x89HDF\r\n\x1a\n"

_HINTS: dict[Kind, str] = {
    "torch_legacy": "load it with torch once, then save it again: torch.save(state_dict, PATH), or as safetensors",
    "npz": "save the arrays as safetensors",
    "hdf5": "save the weights as safetensors",
    "unknown": "readable are safetensors and files of torch.save since torch 1.6",
}


def sniff(path: Path) -> Kind:
    """The format of a weight file, by its content and never by its name.

    WeightsError V201 or V202 for a damaged or tricked zip directory; SystemFault V702 when it cannot be read.
    """
    with hold(path) as file:
        return _sniff(file)


def _sniff(file: Held) -> Kind:
    head = bytes(file.read(0, min(file.size, 16)))
    if head.startswith(zip_directory.MAGIC):
        names = zip_directory.members(file)
        if any(name.endswith("/data.pkl") for name in names):
            return "torch_zip"
        return "npz" if names and all(name.endswith(".npy") for name in names) else "unknown"
    if head.startswith(_HDF5):
        return "hdf5"
    if head.startswith(_TORCH_LEGACY):
        return "torch_legacy"
    if len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= file.size - 8:
        return "safetensors"
    return "unknown"


def read_tensors(path: Path, sha256: str | None = None) -> tuple[Tensors, dict[str, str], list[str]]:
    """All named tensors of a weight file, its text metadata, and notes on what was passed over.

    The file is opened once; with sha256 its bytes are hashed before anything is parsed.  WeightsError V201 damaged or
    another hash, V202 hostile or beyond a limit, V206 a format that is not read; SystemFault V702 not readable.
    """
    from vitrail.formats import safetensors, torch_zip  # here, because recipes are parsed without NumPy

    with hold(path, sha256=sha256) as file:
        kind = _sniff(file)
        if kind == "safetensors":
            return (*safetensors.parse(file), [])
        if kind == "torch_zip":
            tensors, notes = torch_zip.state_dict(torch_zip.parse(file), path)
            return tensors, {}, notes
        named = "of no format that is known" if kind == "unknown" else f"of the format {kind}, which is not read"
        raise WeightsError("V206", f"`{path}` is {named}", evidence=[f"{file.size} bytes"], hint=_HINTS[kind])


__all__ = ["Kind", "read_tensors", "sniff"]
